"""Restricts the error messages of a sandboxed job to a fixed set: a hijacked job could put an entry into a message.

A message of the set passes. Any other is replaced by a general message for the class of the error.
"""

from __future__ import annotations

import builtins
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from blocklistd.errors import BlocklistError, FetchError, JobError, ParseError, StaleError, StoreError, VerifyError
from blocklistd.sources.intake.recognise import NEXT_STEPS

_TOKENS: Final = {
    "N": "[0-9]{1,20}",
    "TIME": "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
    "KEY": "[0-9A-F]{1,64}",  # a key id without leading zeros, or a fingerprint
    "KEYS": "[0-9A-F]{1,16}(?:, [0-9A-F]{1,16})*",
    "CODING": "(?:gzip|zstd)",
}
INTAKE: Final = (
    "no signature arrived: expected one of the method OURS, check `verify.signature`",
    "this signature was accepted before, and then a newer one: an old body is served again; ask the hotline",
    "signed at TIME, before the last accepted signature, TIME: an old body is served again; ask the hotline",
    "its sequence number is N, lower than N, which was accepted before: an old body is served again; ask the hotline",
    "signed at TIME, ahead of now by more than `verify.max_future`: check the clocks of the hotline and this machine",
    "not a minisign signature: expected the four lines of a .minisig file, check `verify.signature`",
    "signed by key KEY, expected key KEY: ask the hotline whether it has a new key, then replace `verify.key`",
    "signed by key KEY, expected one of the keys KEYS: ask the hotline whether it has a new key, then add it to "
    "`verify.key`",
    "the signature does not fit the body or its trusted comment: check `verify.signature`, or ask the hotline",
    "an unknown content coding: expected identity, gzip or zstd",
    "more than N bytes when decompressed: raise `max_bytes` if the list is that large",
    "the CODING stream is corrupt after N bytes of output: expected CODING to its end",
    "the CODING stream is cut short after N bytes of output: expected all of it",
    "more than N CODING streams in one body: expected fewer, larger ones",
    "an empty body: expected a list in the format OURS; if it may be empty, set `min_entries: 0`",
    "this is HTML or XML, not a list in the format OURS: check `url`, or ask the hotline if it serves an error page; "
    "set `format: xml` if it is XML",
    "no record in it: expected a list in the format OURS, check `options.records` and `options.where` if they are set; "
    "if it may be empty, set `min_entries: 0`",
    "this is UTF-16, not a list in the format OURS: expected UTF-8; convert it, for example with "
    "`iconv -f UTF-16 -t UTF-8`",
    "its lines end in CR alone: expected LF, or CR and LF; convert it, for example with `tr`",
    "this is one JSON array over many lines: set `format: json`",
    *(f"none of N records could be read as OURS (REJECTS): {next_step}" for next_step in NEXT_STEPS),
    "the last body, which this one continues, is missing: pull again",
    "its records need more than N bytes of memory: ask the hotline to split its list",
    "more than N lines: ask the hotline to split its list",
    "more than N records can't be read: check `format` and `fields`",
    "no column is configured for the value: set `fields.value`",
    "no pointer is configured for the value: set `fields.value`",
    "the first row is not CSV (CODE): expected a header with the column OURS",
    "the header has no column OURS (fields.value) among its N: expected a first row of column names, separated by "
    "commas or by `options.delimiter`; if there is no such row, set `options.columns`",
    "the first row has N cells: expected the N of `options.head`; check `options`",
    "too many quotes that do not close: expected CSV with fields quoted as in RFC 4180",
)
"""The messages of the intake job and of the job `prove`.

Placeholders: those of _TOKENS; OURS, a text from the configuration; CODE, a reason to reject a record; REJECTS, up to
three such reasons with their counts.
"""
FETCH: Final = (
    "OURS: N bytes or more: expected at most N, raise `max_bytes` if the list is that large",
    "OURS: more than N bytes: expected a signature, check `verify.signature`",
    "this transport fetches no signatures: check `verify.signature`",
)
"""The messages of any transport in a process of its own, in addition to its `Transport.reasons`."""
_JOB: Final = (
    "the job could not be started (OURS): its server died or hung, or there is no room for another process",
    "a process of the job died: perhaps no memory was left",
    "the job needed more memory than it may have",
    "the sandbox needs libseccomp: install the package libseccomp2",
)
_FAILED: Final = re.compile(r"the job failed: (\w{1,60}) at (\w{1,60}\.py):([0-9]{1,6})")
_STORE: Final = (
    "the disk is full: free space there; nothing live changed",
    "the quota is used up: raise it; nothing live changed",
    "the file system is read-only: mount it read-write",
    "permission denied: it must belong to the user that runs the daemon",
    "not permitted: it must belong to the user that runs the daemon",
)
_GENERAL: Final[dict[type[BlocklistError], str]] = {
    ParseError: "the body can't be read, and the job's own message is withheld: check `format`, or ask the hotline",
    StaleError: "a newer body was accepted before: ask the hotline",
    VerifyError: "the body does not prove its origin, and the job's own message is withheld: ask the hotline",
    FetchError: "the body did not arrive, and the job's own message is withheld: check `url`",
    StoreError: "the job could not write its files: check the disk",
    JobError: "the job failed",
}
"""The general message for each class of errors that a job may raise."""


class AllowedMessages:
    """The set of messages of one job: `reasons`, and those of any job.

    `ours`: the values of the placeholder OURS. `codes`: the values of CODE. `folder`: the folder of the job's files.
    """

    def __init__(
        self, reasons: Iterable[str], ours: Iterable[str], folder: Path, codes: Iterable[str] = ("too-long",)
    ) -> None:
        code = f"(?:{'|'.join(map(re.escape, sorted(codes)))})"
        one = f"{code}: {_TOKENS['N']}"
        words = {
            **_TOKENS,
            "OURS": f"(?:{'|'.join(map(re.escape, sorted(ours)))})",
            "CODE": code,
            "REJECTS": f"{one}(?:, {one}){{0,2}}",
        }
        token = re.compile(rf"\b({'|'.join(words)})\b")
        self._reasons = [
            re.compile("".join(words[part] if part in words else re.escape(part) for part in token.split(reason)))
            for reason in (*reasons, *_JOB)
        ]
        self._folder = folder

    @contextmanager
    def only_allowed(self) -> Iterator[None]:
        """A context in which a BlocklistError of the job is replaced by one with a message of the set, and a class of
        _GENERAL. Errors that the daemon raises about the job pass."""
        try:
            yield
        except BlocklistError as error:
            if isinstance(error, JobError) and error.cause != "failed":
                raise  # the daemon wrote this message, not the job
            kind = type(error) if type(error) in _GENERAL else JobError
            raise kind(self.fixed(kind, str(error))) from None

    def fixed(self, kind: type[BlocklistError], text: str) -> str:
        """The message `text` if it is in the set, else the general one for the class `kind`. The message of an
        unexpected error keeps its class and its file and line, if these are known names."""
        if kind is StoreError:
            what = text.removeprefix(f"{self._folder}: ").removesuffix(": the body of a pull can't be kept")
            fits = what in _STORE or what in {os.strerror(number) for number in errno.errorcode}
            return text if fits and text.startswith(f"{self._folder}: ") else f"{self._folder}: {_GENERAL[kind]}"
        if any(reason.fullmatch(text) for reason in self._reasons):
            return text
        failed = _FAILED.fullmatch(text)
        if failed is None:
            return _GENERAL[kind]
        name, file, line = failed.groups()
        is_builtin = isinstance(getattr(builtins, name, None), type)
        where = f" at {file}:{line}" if file in _modules() else ""
        return f"the job failed: {name if is_builtin else 'an error'}{where}"


def _modules() -> set[str]:
    """The file names of all loaded modules."""
    return {os.path.basename(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}

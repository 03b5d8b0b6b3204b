"""Reduces the errors of a sandboxed job to a fixed set of texts: a job that was taken over could put an entry into one.

A text of the set passes. Any other is replaced by a general text for the error's class.
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
from blocklistd.sources.intake.recognise import HINTS

_TOKENS: Final = {
    "N": "[0-9]{1,20}",
    "TIME": "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z",
    "KEY": "[0-9A-F]{1,16}",  # written without leading zeros
    "CODING": "(?:gzip|zstd)",
}
INTAKE: Final = (
    "no signature arrived: expected one of the method OURS",
    "this signature was accepted before, and a newer one after it: an old body is served again",
    "signed at TIME, expected no earlier than the last accepted one, TIME: an old body is served again",
    "signed at TIME, ahead of now by more than `verify.max_future`: is the clock of the hotline right, and ours?",
    "what was served as signature is none: expected the four lines of a .minisig file",
    "signed by key KEY, expected key KEY: did the hotline change its key?",
    "the signature is of another body, or the body (or the signature's trusted comment) was changed",
    "an unknown content coding: expected identity, gzip or zstd",
    "decompressed past N bytes: expected at most so many, see `max_bytes`",
    "the CODING stream is corrupt after N bytes of output: expected CODING to its end",
    "the CODING stream is cut short after N bytes of output: expected all of it",
    "more than N CODING streams in one body: expected fewer, larger ones",
    "an empty body: expected a list in the format OURS",
    "this is HTML or XML, not a list in the format OURS; is the URL right, or does the hotline show an error page?",
    "no record in it: expected a list in the format OURS",
    "this is UTF-16, not a list in the format OURS: expected UTF-8; convert it, for example with "
    "`iconv -f UTF-16 -t UTF-8`",
    "its lines end in CR alone: expected LF, or CR and LF; convert it, for example with `tr`",
    "this is one JSON array over many lines: expected a document a line, as `jq -c '.[]'` makes",
    *(f"none of N records could be read as OURS (REJECTS): {hint}" for hint in HINTS),
    "its records need more than N bytes of memory: expected fewer in one body",
    "more than N lines: expected fewer hashes in one body",
    "more than N records can't be read: is the format right?",
    "no column is configured for the value: expected fields.value",
    "no pointer is configured for the value: expected fields.value",
    "the first row is not CSV (CODE): expected a header with the column OURS",
    "the header has no column OURS (fields.value) among its N: expected a first row of column names, separated by "
    "commas or by `options.delimiter`; where there is no such row, `options.columns` has the names",
    "too many quotes that do not close: expected CSV with fields quoted as in RFC 4180",
)
"""The texts of the intake job and of the job `prove`. Placeholders: those of _TOKENS; OURS, a word of the
configuration; CODE, a reason for which a record is refused; REJECTS, up to three of these with their counts."""
FETCH: Final = (
    "OURS: N bytes or more: expected at most N, see `max_bytes`",
    "OURS: more than N bytes: expected a signature",
    "this transport fetches no signatures: check `verify.signature`",
)
"""The texts of every transport in a process of its own, beside its own `Transport.reasons`."""
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
    ParseError: "it can't be read, for a reason that the job put into words of its own",
    StaleError: "something newer was accepted before",
    VerifyError: "it does not prove its origin, for a reason that the job put into words of its own",
    FetchError: "it did not arrive, for a reason that the job put into words of its own",
    StoreError: "the job could not keep its files",
    JobError: "the job failed",
}


class Reasons:
    """The fixed set for one job: `reasons` and those of any job. `ours` and `codes` are the values of OURS and CODE;
    `folder` is where the job's files are."""

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
    def kept(self) -> Iterator[None]:
        """A BlocklistError that leaves the block has a text of the set, and a class of _GENERAL."""
        try:
            yield
        except BlocklistError as error:
            if isinstance(error, JobError) and error.cause != "failed":
                raise  # the daemon wrote this text, not the job
            kind = type(error) if type(error) in _GENERAL else JobError
            raise kind(self.fixed(kind, str(error))) from None

    def fixed(self, kind: type[BlocklistError], text: str) -> str:
        """The text if it is in the set, else the general one of this class. An unexpected error keeps its class and its
        place, if these are known names."""
        if kind is StoreError:
            what = text.removeprefix(f"{self._folder}: ").removesuffix(": the body of a pull can't be kept")
            fits = what in _STORE or what in {os.strerror(number) for number in errno.errorcode}
            return text if fits and text.startswith(f"{self._folder}: ") else f"{self._folder}: {_GENERAL[kind]}"
        if any(reason.fullmatch(text) for reason in self._reasons):
            return text
        failed = _FAILED.fullmatch(text)
        if failed is None:
            return _GENERAL[kind]
        name, place, line = failed.groups()
        known = isinstance(getattr(builtins, name, None), type)
        where = f" at {place}:{line}" if place in _modules() else ""
        return f"the job failed: {name if known else 'an error'}{where}"


def _modules() -> set[str]:
    """The file names of all loaded modules."""
    return {os.path.basename(getattr(module, "__file__", None) or "") for module in list(sys.modules.values())}

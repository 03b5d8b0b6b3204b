"""Entries that an approval excepts (`candidate approve --except`): found in the delta of the candidate, by id.

An exception is a correction of the kind EXCEPTED, which begins in the transaction of the version. So the approved delta
without the additions of these entries is released; an entry that the delta changes is taken out. Reads sealed files:
call it in a thread or a job.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from blocklistd.change import Candidate, Correction, CorrectionKind
from blocklistd.errors import RefusedError
from blocklistd.lines.delta import ENTRIES
from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.model import Sha256
from blocklistd.store.files import SealedFiles

_ID: Final = re.compile(rb'"id":"(e-[0-9a-f]{32})"')  # quotes in a value are escaped: only an id looks so
_EMPTY: Final = Sha256(hashlib.sha256().hexdigest())


class _LineOfEntry(NamedTuple):
    """A line of a delta: the id of its entry, and its offsets, without the newline."""

    entry: str
    start: int
    end: int


def exceptions(files: SealedFiles, held: Candidate, ids: Sequence[str]) -> tuple[Correction, ...]:
    """The corrections that except the entries with these ids from a held candidate.

    Raises RefusedError for ids that are not of one entry which it adds or changes; StoreError.
    """
    if not ids:
        return ()
    found: dict[str, tuple[str, str]] = {}
    removed: set[str] = set()
    ambiguous: list[str] = []
    with files.map(held.delta) as delta:
        for entry, start, end in _lines(delta, ids):
            line = bytes(delta[start:end])
            if line.startswith(ENTRIES.add):
                kind, value = type_and_value(ENTRIES.item(line))
                if entry in found:
                    ambiguous.append(entry)
                found[entry] = kind.decode(), value.decode()
            else:
                removed.add(entry)
    if ambiguous:
        raise RefusedError(
            f"--except: the id {ambiguous[0]} is ambiguous, as two entries of candidate {held.id} have it (another "
            f"publisher's entry keeps its id): reject the candidate, or embargo the entry itself on stdin first"
        )
    if kept := [entry for entry in ids if entry in removed and entry not in found]:
        raise RefusedError(
            f"--except: candidate {held.id} removes {', '.join(kept)}; an exception keeps an entry out, not in: "
            f"approve without it, or reject the candidate"
        )
    if unknown := [entry for entry in ids if entry not in found]:
        raise RefusedError(
            f"--except: candidate {held.id} neither adds nor changes {', '.join(unknown)}: expected ids of its entries"
        )
    why = f"excepted from the approval of {held.id}"
    return tuple(Correction(0, CorrectionKind.EXCEPTED, *found[entry], entry, why) for entry in dict.fromkeys(ids))


def delta_without(files: SealedFiles, delta: Sha256, excepted: Collection[Correction]) -> Sha256 | None:
    """The SHA-256 of a delta without the additions of the excepted entries; None if nothing remains of it."""
    if not excepted:
        return delta
    digest = hashlib.sha256()
    with files.map(delta) as content:
        start = 0
        for _, line, end in _lines(content, {one.entry for one in excepted}):
            if content[line : line + len(ENTRIES.add)] == ENTRIES.add:
                digest.update(content[start:line])
                start = end + 1
        digest.update(content[start:])
    return None if digest.hexdigest() == _EMPTY else Sha256(digest.hexdigest())


def _lines(delta: Buffer, ids: Collection[str]) -> Iterator[_LineOfEntry]:
    """The id, the start and the end of each line of a delta that has one of these ids, in order."""
    sought = set(ids)
    for match in _ID.finditer(delta):
        entry = match[1].decode()
        if entry in sought:
            yield _LineOfEntry(entry, delta.rfind(b"\n", 0, match.start()) + 1, delta.find(b"\n", match.end()))

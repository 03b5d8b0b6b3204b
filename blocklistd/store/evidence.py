"""Bodies of sources, kept as evidence for the operator and the hotline: as they arrived, each with a record of it.

On the disk, in STATE_DIR/evidence/SOURCE:

    TIME-VERDICT-BODY.zst    the bytes as they arrived, compressed with Zstandard (RFC 8878)
    TIME-VERDICT-BODY.json   a record of that body (evidence_record.py)

TIME is in UTC, to the microsecond. VERDICT is `accepted`, `held` or `refused`. BODY is a random number, the same for
all records of a body. With `evidence.key` both files are encrypted (encrypted.py), and their names end in `.enc`: a
name says nothing about the content. Version 0.3.0 kept refused bodies as TIME-RANDOM.body, with TIME-RANDOM.minisig.

- A body is written before its record; one without a record, and an unfinished file (`.draft-…`), are removed.
- If the newest record is of the same bytes, only a record is added, and none if signature and verdict are the same too.
- For each source they are bounded in bytes, age and number, so that a hotline can't fill the disk. The oldest refused
  bodies are dropped first, then the oldest others. The newest accepted body of a configured source has no age.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final

from blocklistd.errors import RefusedError, StoreError, store_errors
from blocklistd.events import Event
from blocklistd.limits import EVIDENCE_BODIES, EVIDENCE_BYTES, EVIDENCE_DAYS, EVIDENCE_RECORDS, MIB
from blocklistd.model import SourceId
from blocklistd.store.encrypted import FileKey, decrypted
from blocklistd.store.evidence_files import DAMAGED, DRAFT, ENCRYPTED, TooLargeError, compress, new_file, unpack
from blocklistd.store.evidence_record import EvidenceRecord, Verdict
from blocklistd.store.store import Store

log: Final = logging.getLogger(__name__)

_TIME: Final = "%Y%m%dT%H%M%S%f"  # in UTC: names sort by time
_NAME: Final = re.compile(r"([0-9]{8}T[0-9]{12}-(accepted|held|refused)-([0-9a-f]{8}))\.(zst|json)(\.enc)?")
_FIRST: Final = re.compile(r"([0-9]{8}T[0-9]{6}-[0-9a-f]{8})\.(body|minisig)")  # of version 0.3.0
_MAX_RECORD: Final = MIB  # bytes of a record, which has some kilobytes
_CHANGING: Final = threading.Lock()
"""Held while files are added or dropped: a body that is kept has no record for a moment."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The bound of one source's evidence: `keep` is the maximum age, `max_bytes` includes the records."""

    keep: timedelta = timedelta(days=EVIDENCE_DAYS)
    max_bytes: int = EVIDENCE_BYTES


@dataclass(frozen=True, slots=True)
class Listed:
    """A kept record. `bytes`: of its files. `body`: whether the body is kept. `record` is None if it can't be read;
    `problem` then says why, and what to do."""

    name: str
    time: datetime
    verdict: Verdict
    bytes: int
    body: bool
    record: EvidenceRecord | None = None
    problem: str | None = None


@dataclass(slots=True)
class _Kept:
    """The files of one body. `files`: for each name without suffixes, its files with their sizes."""

    id: str
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    files: dict[str, dict[Path, int]] = field(default_factory=dict)

    @property
    def newest(self) -> str:
        """The name of the newest record."""
        return max(self.files)

    @property
    def is_refused(self) -> bool:
        """Whether it was never accepted."""
        return set(self.verdicts.values()) == {Verdict.REFUSED}

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(sum(files.values()) for files in self.files.values())

    @property
    def body(self) -> Path | None:
        """The file with the bytes; None if it was lost."""
        found = (path for name in sorted(self.files) for path in self.files[name])
        return next((path for path in found if ".zst" in path.suffixes or path.suffix == ".body"), None)

    @property
    def is_without_record(self) -> bool:
        """Whether a crash came between the body and its record."""
        paths = [path for files in self.files.values() for path in files]
        return not any(".json" in path.suffixes or path.suffix in (".body", ".minisig") for path in paths)


def keep(
    store: Store, record: EvidenceRecord, content: BinaryIO, bound: Bound, key: FileKey | None = None
) -> str | None:
    """Keeps a body, or only a record of it, and drops other evidence to stay within the bound. Returns its name; None
    if nothing is kept: the evidence has it already, or it exceeds the bound.

    `content`: the file of the body, read from its beginning. Raises StoreError.
    """
    folder = store.evidence / record.source
    with store_errors(folder), _CHANGING:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        last = max(_scan(folder).values(), key=lambda kept: kept.newest, default=None)
        before = _record(last, last.newest, key) if last is not None and last.body is not None else None
        again = (
            last.id
            if last is not None and isinstance(before, EvidenceRecord) and before.sha256 == record.sha256
            else None
        )
        if again and isinstance(before, EvidenceRecord) and before.is_repeated_by(record):
            return None
        name = _new_name(record, again or secrets.token_hex(4), last)
        try:
            if again is None:
                with new_file(folder / f"{name}.zst", key) as out:
                    compress(content, out, bound.max_bytes)
            with new_file(folder / f"{name}.json", key) as out:
                out.write(record.to_bytes())
            _drop(folder, _text(record.time - bound.keep), bound.max_bytes, keep_newest=True)
        except TooLargeError:
            pass
        if any(folder.glob(f"{name}.*")):
            return name
    Event.EVIDENCE_NOT_STORED.log(log, source=record.source, bytes=record.length)
    return None


def _new_name(record: EvidenceRecord, body: str, last: _Kept | None) -> str:
    """The name of a new record. It sorts behind that of every other record, also if the clock was set back."""
    time = _text(record.time)
    if last is not None and time <= (newest := last.newest.partition("-")[0]):
        time = _text(_time(newest) + timedelta(microseconds=1))
    return f"{time}-{record.verdict}-{body}"


# -- bounds ------------------------------------------------------------------------------------------------------------


def expire(store: Store, bounds: Mapping[SourceId, Bound], now: datetime) -> None:
    """Drops evidence that exceeds the bound of its source. A source that is not configured any more has the default
    bound. Raises StoreError."""
    with store_errors(store.evidence), _CHANGING:
        for folder in store.evidence.iterdir() if store.evidence.is_dir() else ():
            bound = bounds.get(SourceId(folder.name))
            keep_newest = bound is not None
            bound = bound or Bound()
            _drop(folder, _text(now - bound.keep), bound.max_bytes, keep_newest=keep_newest)


def _drop(folder: Path, oldest: str, max_bytes: int, *, keep_newest: bool) -> None:
    """Keeps the newest bodies within the bounds, accepted and held ones before refused ones; drops the rest.

    `oldest`: the time in names. `keep_newest`: the newest accepted body may be older.
    """
    for draft in folder.glob(f"{DRAFT}*"):
        draft.unlink(missing_ok=True)
    found, count = _scan(folder).values(), EVIDENCE_BODIES
    newest = max((kept for kept in found if Verdict.ACCEPTED in kept.verdicts.values()), key=_newest, default=None)
    for kept in sorted(found, key=lambda kept: (not kept.is_refused, kept.newest), reverse=True):
        _drop_records(kept)
        max_bytes -= kept.size
        count -= 1
        is_old = kept.newest < oldest and not (keep_newest and kept is newest)
        if max_bytes < 0 or count < 0 or is_old or kept.is_without_record:
            for path in sorted((path for files in kept.files.values() for path in files), key=lambda path: path.suffix):
                path.unlink(missing_ok=True)


def _newest(kept: _Kept) -> str:
    return kept.newest


def _drop_records(kept: _Kept) -> None:
    """Drops records of a body between its first one, which is beside the body, and the newest EVIDENCE_RECORDS."""
    for name in sorted(kept.files)[1:-EVIDENCE_RECORDS]:
        for path in kept.files.pop(name):
            path.unlink(missing_ok=True)


def _scan(folder: Path) -> dict[str, _Kept]:
    """The evidence in a folder, by body. Files with other names are not evidence."""
    found: dict[str, _Kept] = {}
    if not folder.is_dir():
        return found
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            name, verdict, body = match[1], Verdict(match[2]), match[3]
        elif match := _FIRST.fullmatch(path.name):
            name, verdict, body = match[1], Verdict.REFUSED, match[1]
        else:
            continue
        with suppress(FileNotFoundError):  # dropped meanwhile
            kept = found.setdefault(body, _Kept(body))
            kept.files.setdefault(name, {})[path] = path.stat().st_size
            kept.verdicts[name] = verdict
    return {body: kept for body, kept in found.items() if kept.files}


def _text(time: datetime) -> str:
    return f"{time.astimezone(UTC):{_TIME}}"


def _time(text: str) -> datetime:
    """The time in a name; names of version 0.3.0 have whole seconds."""
    return datetime.strptime(text.ljust(21, "0"), _TIME).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Usage:
    """The evidence of a source on the disk. `bytes`: of all files. `oldest`: the time of the oldest body, by its newest
    record; the newest accepted body, which stays whatever its age, does not count. None without one."""

    bytes: int
    bodies: int
    oldest: datetime | None


def usage(store: Store, source: SourceId) -> Usage:
    """What the evidence of a source takes; reads no file. Raises StoreError."""
    folder = store.evidence / source
    with store_errors(folder):
        found = list(_scan(folder).values())
    newest = max((kept for kept in found if Verdict.ACCEPTED in kept.verdicts.values()), key=_newest, default=None)
    times = [_time(kept.newest.partition("-")[0]) for kept in found if kept is not newest]
    return Usage(sum(kept.size for kept in found), len(found), min(times, default=None))


# -- reading -----------------------------------------------------------------------------------------------------------


def listed(store: Store, source: SourceId, key: FileKey | None = None) -> list[Listed]:
    """All records of a source, newest first. One that can't be read is listed with its problem. Raises StoreError."""
    folder = store.evidence / source
    with store_errors(folder):
        found = [_listed(kept, name, key) for kept in _scan(folder).values() for name in kept.files]
    return sorted(found, key=lambda one: one.name, reverse=True)


def _listed(kept: _Kept, name: str, key: FileKey | None) -> Listed:
    read = _record(kept, name, key)
    time = _time(name.partition("-")[0])
    made = Listed(name, time, kept.verdicts[name], sum(kept.files[name].values()), kept.body is not None)
    return replace(made, record=read) if isinstance(read, EvidenceRecord) else replace(made, problem=read)


def _record(kept: _Kept, name: str, key: FileKey | None) -> EvidenceRecord | str | None:
    """The record; the problem if it can't be read; None for evidence of version 0.3.0, which has no records."""
    path = next((path for path in kept.files[name] if ".json" in path.suffixes), None)
    if path is None:
        return None if _FIRST.match(f"{name}.body") else DAMAGED
    try:
        with open(path, "rb") as file:
            if path.suffix == ENCRYPTED:
                return EvidenceRecord.from_bytes(b"".join(decrypted(file, key)))
            return EvidenceRecord.from_bytes(file.read(_MAX_RECORD))
    except StoreError as error:
        return str(error)
    except (OSError, ValueError):
        return DAMAGED


def copy_body(store: Store, source: SourceId, name: str, key: FileKey | None, out: BinaryIO) -> EvidenceRecord | None:
    """Writes a kept body to `out`, as it arrived, and returns its record; None for one of version 0.3.0.

    Raises RefusedError if there is no such evidence, StoreError if it is damaged or encrypted with another key. Then
    the content of `out` must not be used.
    """
    folder = store.evidence / source
    with store_errors(folder):
        kept = next((kept for kept in _scan(folder).values() if name in kept.files), None)
        body = kept.body if kept is not None else None
        if kept is None or body is None:
            raise RefusedError(f"there is no such evidence: run `blocklistd source evidence {source}` for the names")
        record = _record(kept, name, key)
        if isinstance(record, str):
            raise StoreError(f"evidence {name} of source {source}: {record}")
        with open(body, "rb") as file:
            try:
                digest, length = unpack(body, file, key, out)
            except StoreError as error:
                raise StoreError(f"evidence {name} of source {source}: {error}") from None
        if record is not None and (digest, length) != (record.sha256, record.length):
            raise StoreError(f"evidence {name} of source {source}: {DAMAGED}")
    return record

"""Makes a backup of a state that is in use: a copy of the database, and the files that this copy names.

Order of calls in a daemon, while no sweep runs until the third:

1. `copy_state` in a job: the copy and the manifest, in a folder of its own in `work`.
2. `read_prepared`: what the job wrote.
3. Verified.keeping for `Prepared.sealed`, so that no sweep removes these files.
4. `archive`: the bytes of the backup. They are never on the daemon's disk.

The copy is one transaction's view of the database (VACUUM INTO), so the files that it names existed at that moment. No
private key is in a backup: `archive` reads the state_dir alone, which has none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from blocklistd import __version__
from blocklistd.errors import DamagedError, StoreError, store_errors
from blocklistd.jobs.sandbox import LATER, lower_priority
from blocklistd.limits import CHUNK
from blocklistd.model import Sha256
from blocklistd.store.backup_format import (
    BLOCK,
    DATABASE,
    END,
    Manifest,
    Member,
    backup_id,
    manifest_name,
    padding,
    parse_manifest,
    read_known,
)
from blocklistd.store.database import NEWEST_MIGRATION, Database
from blocklistd.store.evidence_files import DRAFT
from blocklistd.store.numbers import numbers
from blocklistd.store.store import Store
from blocklistd.store.upkeep import named_files

KNOWN: Final = "known.json"
"""In the folder of a backup: the files that its bases have (backup_format.known_of), as JSON."""
_MANIFEST: Final = "manifest"
_EVIDENCE: Final = "evidence"


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """`folder`: for the copy. `made`: the time of the backup. `highest`: the highest number in the high-water file.
    `evidence`: whether the kept bodies belong to it. `is_increment`: whether KNOWN is in the folder."""

    folder: Path
    made: datetime
    highest: int
    evidence: bool
    is_increment: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """A backup that can be written: its `manifest` with its bytes, and the folder with the copy."""

    manifest: Manifest
    body: bytes
    folder: Path

    @property
    def id(self) -> str:
        """The id of the backup."""
        return backup_id(self.body)

    @property
    def sealed(self) -> set[Sha256]:
        """The sealed files that are in the backup."""
        return {Sha256(one.sha256) for one in self.written if one.name.startswith("sealed/")}

    @property
    def written(self) -> list[Member]:
        """The files whose bytes are in the backup, and not in a base of it."""
        return [one for one in self.manifest.members if one.base is None]


def copy_state(store: Store, request: BackupRequest) -> dict[str, Any]:
    """The job that copies the database and writes the manifest into the folder, at low priority. Raises DamagedError
    for a named file that is missing, StoreError."""
    lower_priority(LATER)
    copy = request.folder / DATABASE
    known: dict[str, str] = {}
    with store_errors(request.folder):
        if request.is_increment:
            try:
                known = read_known((request.folder / KNOWN).read_bytes())
            except ValueError:
                raise StoreError("expected the files of a base: make the increment of a backup") from None
        with store.opened() as (database, _):
            database.copy_to(copy)
        manifest = _manifest_of(store, request, copy)
        members = tuple(replace(one, base=known.get(one.sha256)) for one in manifest.members)
        body = replace(manifest, members=members).body()
        (request.folder / _MANIFEST).write_bytes(body)
    return {"backup": backup_id(body)}


def _manifest_of(store: Store, request: BackupRequest, copy: Path) -> Manifest:
    database = Database(copy, keeps_head=False, read_only=True)
    try:
        damage = database.damage()
        if damage is not None:
            raise StoreError(f"the database is damaged ({damage}): restore an earlier backup of it")
        with database.read() as connection:
            sealed, found = named_files(connection, store.sealed), numbers(connection)
    finally:
        database.close()
    members = [_member(copy, DATABASE)]
    members += [_member(path, f"root/{path.name}") for path in sorted((store.state_dir / "root").glob("*.root.json"))]
    for digest in sorted(sealed):
        try:
            size = store.sealed.path(digest).stat().st_size
        except FileNotFoundError:
            raise DamagedError(digest) from None
        members.append(Member(f"sealed/{digest[:2]}/{digest}", size, digest))
    if request.evidence:
        members += _evidence(store, request.folder)
    return Manifest(
        made=request.made.replace(microsecond=0),
        program=__version__,
        schema=NEWEST_MIGRATION,
        highest=max(request.highest, found.highest),
        versions={name: each["version"] for name, each in found.lists.items() if "version" in each},
        serials=found.zones,
        evidence=request.evidence,
        members=tuple(members),
    )


def _evidence(store: Store, folder: Path) -> Iterator[Member]:
    """The files of the evidence, each linked into the folder: one that expires meanwhile stays there."""
    for path in sorted(store.evidence.glob("*/*")):
        if path.name.startswith(DRAFT):
            continue
        linked = folder / _EVIDENCE / path.parent.name / path.name
        linked.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, linked)
        except FileNotFoundError:  # it has just expired
            continue
        yield _member(linked, f"evidence/{path.parent.name}/{path.name}")


def _member(path: Path, name: str) -> Member:
    with open(path, "rb") as file:
        return Member(name, os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


def read_prepared(request: BackupRequest) -> Prepared:
    """What `copy_state` has made. Raises StoreError."""
    with store_errors(request.folder):
        body = (request.folder / _MANIFEST).read_bytes()
    return Prepared(parse_manifest(body), body, request.folder)


def archive(store: Store, prepared: Prepared) -> Iterator[bytes]:
    """The bytes of the backup, in chunks. Raises DamagedError if a sealed file is damaged, StoreError."""
    manifest = prepared.manifest
    yield manifest.header(manifest_name(prepared.id), len(prepared.body))
    yield prepared.body + b"\0" * padding(len(prepared.body))
    for member in prepared.written:
        yield manifest.header(member.name, member.size)
        yield from _content(_path(store, prepared, member), member)
        yield b"\0" * padding(member.size)
    yield END


def _path(store: Store, prepared: Prepared, member: Member) -> Path:
    copied = member.name == DATABASE or member.name.startswith("evidence/")
    return (prepared.folder if copied else store.state_dir) / member.name


def _content(path: Path, member: Member) -> Iterator[bytes]:
    seen, left = hashlib.sha256(), member.size
    with store_errors(path):
        try:
            with open(path, "rb", buffering=0) as file:
                while left and (chunk := file.read(min(CHUNK, left))):
                    seen.update(chunk)
                    left -= len(chunk)
                    yield chunk
        except FileNotFoundError:
            left = -1
    if left or seen.hexdigest() != member.sha256:
        if member.name.startswith("sealed/"):
            raise DamagedError(member.sha256)
        raise StoreError(f"{path}: it has changed since the backup began: make the backup again")


def size_of(prepared: Prepared) -> int:
    """The size of the backup in bytes."""
    sizes = [len(prepared.body), *(one.size for one in prepared.written)]
    return sum(BLOCK + size + padding(size) for size in sizes) + len(END)

"""The format of a backup: one tar file (POSIX ustar, with GNU's sizes above 8 GiB), not compressed.

    manifest-DIGEST.json   first: what is in the backup (Manifest); DIGEST is the SHA-256 of this file, the backup's id
    blocklistd.sqlite      the database
    root/N.root.json       the versions of root.json
    sealed/ab/abcd…        the sealed files that the database names
    evidence/SOURCE/NAME   with evidence: the kept bodies and their records
    1024 zero bytes        the end of a tar file

The members have the order of the manifest, which has the size and the SHA-256 of each. Their headers contain the name,
the size, the mode 0600 and the time of the backup, and nothing else. So every byte of the file follows from the
manifest and the contents: a file that was cut, extended or altered at any place is not accepted.

An *increment* lacks the files that earlier backups have, its *bases*. The manifest then has the id of the base for each
of these. It names the backup that contains the bytes, never another increment in between.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

import orjson

from blocklistd.errors import StoreError
from blocklistd.times import rfc3339

FORMAT: Final = 1
"""The newest format that this program reads."""
DATABASE: Final = "blocklistd.sqlite"
BLOCK: Final = 512  # bytes of a header; contents are padded to a multiple of it
END: Final = b"\0" * (2 * BLOCK)
_ID: Final = re.compile(r"[0-9a-f]{64}")
_MANIFEST: Final = re.compile(r"manifest-([0-9a-f]{64})\.json")
_NAMES: Final = re.compile(
    r"blocklistd\.sqlite"
    r"|root/[0-9]{1,9}\.root\.json"
    r"|sealed/([0-9a-f]{2})/\1[0-9a-f]{62}"
    r"|evidence/[A-Za-z0-9][A-Za-z0-9_-]*/[0-9][A-Za-z0-9.-]*"
)
_NO_BACKUP: Final = "expected a file that `blocklistd backup` wrote: name that file"


class NoBackupError(StoreError):
    """The file is no backup, or not one that this program can read."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the state. `name`: its path in the state_dir. `size`: in bytes. `base`: the id of the backup that
    contains it; None: this one."""

    name: str
    size: int
    sha256: str
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup contains. `program`: the version of blocklistd, `schema`: that of the database. `highest`: the
    highest number (version, role, serial) that was served until `made`. `versions`, `serials`: the newest of each list
    and zone. `evidence`: whether the kept bodies are in it."""

    made: datetime
    program: str
    schema: str
    highest: int
    versions: Mapping[str, int]
    serials: Mapping[str, int]
    evidence: bool
    members: Sequence[Member]

    def body(self) -> bytes:
        """The bytes of the manifest."""
        document = {
            "format": FORMAT,
            "made": rfc3339(self.made),
            "program": self.program,
            "schema": self.schema,
            "highest": self.highest,
            "versions": dict(self.versions),
            "serials": dict(self.serials),
            "evidence": self.evidence,
            "files": [
                {"name": one.name, "bytes": one.size, "sha256": one.sha256, **({"base": one.base} if one.base else {})}
                for one in self.members
            ],
        }
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"

    @property
    def bases(self) -> set[str]:
        """The ids of the backups that this one needs."""
        return {one.base for one in self.members if one.base is not None}

    def header(self, name: str, size: int) -> bytes:
        """The header of a member of this backup."""
        return _header(name, size, int(self.made.timestamp()))


def backup_id(body: bytes) -> str:
    """The id of the backup with this manifest."""
    return hashlib.sha256(body).hexdigest()


def short(backup: str) -> str:
    """The id of a backup as messages and the audit have it."""
    return backup[:16]


def manifest_name(backup: str) -> str:
    """The name of the manifest in the backup with this id."""
    return f"manifest-{backup}.json"


def padding(size: int) -> int:
    """The number of zero bytes after a content of `size` bytes."""
    return -size % BLOCK


def _header(name: str, size: int, time: int) -> bytes:
    made = tarfile.TarInfo(name)
    made.size, made.mode, made.mtime = size, 0o600, time
    return made.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


@dataclass(frozen=True, slots=True)
class ManifestHeader:
    """The header of the first member: the id of the backup, and the size of its manifest in bytes."""

    backup: str
    size: int


def read_header(block: bytes) -> ManifestHeader:
    """Reads the first BLOCK bytes of a file. Raises NoBackupError."""
    try:
        found = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, UnicodeError):
        raise NoBackupError(f"it does not begin as a backup: {_NO_BACKUP}") from None
    name = _MANIFEST.fullmatch(found.name)
    if name is None:
        raise NoBackupError(f"it is a tar file that begins with another member: {_NO_BACKUP}")
    return ManifestHeader(name[1], found.size)


def read_manifest(header: bytes, body: bytes) -> Manifest:
    """Reads the manifest with this header. Raises NoBackupError if it was altered, or is of a newer format."""
    found = read_header(header)
    if backup_id(body) != found.backup:
        raise NoBackupError(
            "its manifest was altered: it does not match the digest in its name: restore another backup"
        )
    manifest = parse_manifest(body)
    if manifest.header(manifest_name(found.backup), len(body)) != header:
        raise NoBackupError("its first header was altered: restore another backup")
    return manifest


def parse_manifest(body: bytes) -> Manifest:
    """Reads the bytes of a manifest. Raises NoBackupError if it is of a newer format, or of none."""
    try:
        document = orjson.loads(body)
        number = document["format"]
    except (ValueError, KeyError, TypeError):
        raise NoBackupError(f"its manifest is not that of a backup: {_NO_BACKUP}") from None
    if number != FORMAT:
        raise NoBackupError(
            f"it has the format {number}, of blocklistd {document.get('program')}; this program reads the format "
            f"{FORMAT}: install that version"
        )
    try:
        manifest = _manifest(document)
    except (ValueError, KeyError, TypeError, AttributeError):
        manifest = None
    if manifest is None or manifest.body() != body:
        raise NoBackupError(f"its manifest has unexpected fields: {_NO_BACKUP}")
    return manifest


def _manifest(document: Any) -> Manifest:
    members = tuple(
        Member(str(one["name"]), int(one["bytes"]), str(one["sha256"]), one.get("base")) for one in document["files"]
    )
    names = [one.name for one in members]
    if len(set(names)) != len(names) or DATABASE not in names:
        raise ValueError("not the files of a state")
    for one in members:
        sealed = one.name.startswith("sealed/")
        if not _NAMES.fullmatch(one.name) or one.size < 0 or not _ID.fullmatch(one.sha256):
            raise ValueError("not a file of a state")
        if (sealed and PurePosixPath(one.name).name != one.sha256) or (one.base and not _ID.fullmatch(one.base)):
            raise ValueError("not a sealed file")
    return Manifest(
        made=datetime.fromisoformat(document["made"]),
        program=str(document["program"]),
        schema=str(document["schema"]),
        highest=int(document["highest"]),
        versions={str(name): int(number) for name, number in document["versions"].items()},
        serials={str(name): int(number) for name, number in document["serials"].items()},
        evidence=bool(document["evidence"]),
        members=members,
    )


def known_of(manifest: Manifest, backup: str) -> dict[str, str]:
    """The files that an increment of this backup need not contain: by SHA-256, the id of the backup with the bytes."""
    return {one.sha256: one.base or backup for one in manifest.members}


def read_known(body: bytes) -> dict[str, str]:
    """Reads what `known_of` gives, as JSON. Raises ValueError for anything else."""
    found = orjson.loads(body)
    if not isinstance(found, dict) or not all(
        isinstance(base, str) and _ID.fullmatch(base) and _ID.fullmatch(name) for name, base in found.items()
    ):
        raise ValueError("not ids by SHA-256")
    return found

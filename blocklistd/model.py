"""The values that pass between the stations: frozen, valid by construction, no I/O, no clock."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NewType

import orjson

SourceId = NewType("SourceId", str)
ListId = NewType("ListId", str)
SubscriberId = NewType("SubscriberId", str)
CandidateId = NewType("CandidateId", str)
Version = NewType("Version", int)
"""A list's version: from 1, up by one with each change, never reused; 0 before the first."""
Sha256 = NewType("Sha256", str)
"""64 lower-case hex digits."""

UNBUILT_TYPES = ("ip", "pdq", "photodna")
"""What a hotline may list beside what `kinds` has: left out, which is nothing that is wrong with its records."""
LEFT_OUT = "type-not-built"
"""The reason for which such a record is left out."""

ATTRIBUTES = ("category", "expires", "ref", "verified_at", "verifiers")
"""What a record may say beside its type and value, in the order of their keys (`id` stands between 2 and 3)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One canonical entry; `line()` is its one representation in files, feeds and hashes (docs: the feed's entries).

    `attributes` holds known ones only, each a text (or, for `verifiers`, an integer).
    """

    type: str
    value: str
    attributes: dict[str, str | int] = field(default_factory=dict)

    def line(self) -> bytes:
        """Canonical JSON without a newline: type, value, then the other keys sorted; absent when unknown."""
        return orjson.dumps(
            {"type": self.type, "value": self.value, **dict(sorted(self.attributes.items()))},
        )

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """The entry of a canonical line; raises ValueError where it is none."""
        record = orjson.loads(line)
        if not isinstance(record, dict):
            raise ValueError("not an entry: expected a JSON object")
        try:
            kind, value = record.pop("type"), record.pop("value")
        except KeyError as missing:
            raise ValueError(f"not an entry: no {missing.args[0]}") from None
        return cls(kind, value, record)


class Outcome(enum.StrEnum):
    """How a pull ended (the words of `source pull`)."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    HELD = "held"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Validators:
    """What a conditional GET is made with: the headers of the last body that was taken over."""

    etag: str | None = None
    last_modified: str | None = None

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body that arrived whole, as a file, not yet trusted: neither decoded, verified nor parsed.

    `encoding` is the HTTP content coding of the file's bytes: identity, gzip or zstd; `length` is in bytes, `sha256`
    their digest.
    """

    body: Path
    length: int
    sha256: Sha256
    encoding: str = "identity"
    signature: bytes | None = None
    validators: Validators = Validators()


@dataclass(frozen=True, slots=True)
class NotModified:
    """The source says that nothing changed since the validators that it was asked with."""


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """What the intake job made of a body; holds counts, digests and line numbers, never an entry.

    `body_sha256` is of the body as it arrived, `asserted` of its canonical lines (sorted, without ids); `types` counts
    these by type; `rejected` counts records that are no entries by reason and `first_rejected` gives the line number
    (from 1) of the first of each; `dropped_attributes` counts attributes that were left out. `signed_at` is the time in
    the signature's trusted comment (Unix seconds), `signature` the SHA-256 of the signature itself.
    """

    body_sha256: Sha256
    asserted: Sha256
    length: int
    records: int
    types: dict[str, int]
    rejected: dict[str, int]
    first_rejected: dict[str, int]
    dropped_attributes: int = 0
    signature: Sha256 | None = None
    signed_at: int | None = None

    @property
    def entries(self) -> int:
        return sum(self.types.values())

    @property
    def rejects(self) -> int:
        """Refused records; those that were left out (LEFT_OUT) are none."""
        return sum(count for reason, count in self.rejected.items() if reason != LEFT_OUT)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate is held: the guard, its limit and what was found, both as an operator writes them."""

    guard: str
    limit: str
    found: str

    def __str__(self) -> str:
        return f"{self.guard}: {self.found} (limit {self.limit})"


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a pull would publish in one list. Counts are of entries by (type, value), against the live version."""

    id: CandidateId
    list: ListId
    source: SourceId
    created: datetime
    asserted: Sha256
    added: int
    removed: int
    changed: int
    entries: int
    reasons: tuple[Reason, ...] = ()

    @property
    def held(self) -> bool:
        return bool(self.reasons)

    @property
    def guards(self) -> tuple[tuple[str, str], ...]:
        """The guards that hold it, with their limits."""
        return tuple((reason.guard, reason.limit) for reason in self.reasons)


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A sealed version of a list, as the database names it; `length` is in bytes, `sha256` that of the snapshot."""

    list: ListId
    session: str
    version: Version
    time: datetime
    entries: int
    length: int
    sha256: Sha256
    added: int
    removed: int
    canonicaliser: int
    released_by: str

"""The values that pass between the pipeline's stages: frozen, valid by construction, no I/O, no clock."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NewType

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
"""Types that hotlines list and `kinds` does not have: their records are left out, and don't count as rejected."""
LEFT_OUT = "type-not-built"
"""The reason counted for a record of these types."""
FRAGMENT = "fragment"
"""The reason for a URL with a fragment and neither path nor query: without the fragment it is the host's front page."""
WITHHELD = (LEFT_OUT, FRAGMENT)
"""The reasons for records that are valid and withheld: they count as no fault of the body."""

ATTRIBUTES = ("category", "expires", "ref", "verified_at", "verifiers")
"""Attributes of a record beside type and value, sorted by name. `id` sorts between `expires` and `ref`."""


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
        """Parses a canonical line. Raises ValueError if it is not an entry."""
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
class Act:
    """What was asked for, as the audit names it: the command, and the user and uid of who asked. The uid is None, and
    the user `auto`, for what the daemon does by itself."""

    action: str
    user: str
    uid: int | None


AUTO = Act("release", "auto", None)
"""A version that no guard holds is released by the daemon itself."""


@dataclass(frozen=True, slots=True)
class Validators:
    """Validators of a conditional GET: the ETag and Last-Modified of the last body that was taken over."""

    etag: str | None = None
    last_modified: str | None = None

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete body in a file, not yet trusted: neither decoded, verified nor parsed.

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
    """The source has not changed since the validators that were sent (HTTP 304)."""


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """What the intake job made of a body; holds counts, digests and line numbers, never an entry.

    `body_sha256` is of the body as it arrived, `asserted` of its canonical lines (sorted, without ids); `types` counts
    the entries by type; `rejected` counts, by reason, the records that are not entries, and `first_rejected` gives the
    line number (from 1) of the first of each; `dropped_attributes` counts attributes that were left out. `signed_at` is
    the time in the signature's trusted comment (Unix seconds), `signature` the SHA-256 of the signature itself. `key`
    is a fingerprint of the key that made the source's newest signature, `since` (RFC 3339) when the source first
    asserted these lines; both are None in the reports of earlier versions.
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
    key: Sha256 | None = None
    since: str | None = None

    @property
    def entries(self) -> int:
        return sum(self.types.values())

    @property
    def rejects(self) -> int:
        """How many records are `refused`."""
        return sum(self.refused.values())

    @property
    def refused(self) -> dict[str, int]:
        """Rejected records, by reason, without those that are WITHHELD."""
        return {reason: count for reason, count in self.rejected.items() if reason not in WITHHELD}

    @property
    def withheld(self) -> dict[str, int]:
        """Records that are WITHHELD, by reason."""
        return {reason: count for reason, count in self.rejected.items() if reason in WITHHELD}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate is held: the guard, its limit and the figure found, in the units of the configuration."""

    guard: str
    limit: str
    found: str

    def __str__(self) -> str:
        return f"{self.guard}: {self.found}, limit {self.limit}"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which entries of its sources a list takes; `sources` in order of precedence. Another policy can change any
    entry of the list, so the whole list is composed again."""

    canonicaliser: int
    sources: tuple[SourceId, ...]
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Policy:
        return cls(**(fields | {"sources": tuple(fields["sources"]), "types": tuple(fields["types"])}))


class ChangeKind(enum.StrEnum):
    """The kinds of change."""

    SOURCE = "source"
    """A source offers other entries than those that the live version was composed from."""
    POLICY = "policy"
    """The configured policy is not the one that the live version was composed under."""


@dataclass(frozen=True, slots=True)
class Change:
    """A request to alter a list: the policy and the entries that it is composed from if the change is released.

    `cause` is the source that offers other entries, empty for other kinds. `actor` is the user who asked for the
    change, empty if nobody did. `sources`: the sealed entries of each source. `records` and `rejected` are of the body
    that brought the change: how many records it has, and how many of these are not entries.
    """

    kind: ChangeKind
    cause: str
    policy: Policy
    sources: dict[SourceId, Sha256]
    actor: str = ""
    records: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change that was composed: a sealed delta against the live version `base` (0: there was none).

    A decision is bound to the digest of the delta. Counts are of entries by (type, value); `entries` is how many the
    list has once it is released. `withheld` counts, by rule, the asserted entries that the list then leaves out;
    `suffixes` counts what is added, removed and changed, by last label (in a candidate of 0.2: their sum alone).
    `snapshot` is the snapshot of the version that the delta leads to, if composing has written one: an approval then
    need not write it again.
    """

    id: CandidateId
    list: ListId
    created: datetime
    change: Change
    base: Version
    delta: Sha256
    added: int
    removed: int
    changed: int
    entries: int
    reasons: tuple[Reason, ...] = ()
    withheld: dict[str, int] = field(default_factory=dict)
    suffixes: dict[str, Any] = field(default_factory=dict)
    snapshot: Sha256 | None = None

    def comes_from(self, change: Change, base: Version) -> bool:
        """Whether the candidate was composed from these sources and policy on this base: the delta is then the same."""
        return (self.base, self.change.sources, self.change.policy) == (base, change.sources, change.policy)


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version of a list, as the database has it; `length` (bytes) and `sha256` are those of the snapshot.

    `kind` and `cause` are those of the change that made it. `delta` is the sealed delta from the version before; None
    for a first version, and once it is no longer kept."""

    list: ListId
    session: str
    version: Version
    time: datetime
    entries: int
    length: int
    sha256: Sha256
    added: int
    removed: int
    changed: int
    canonicaliser: int
    kind: ChangeKind
    cause: str
    released_by: str
    delta: Sha256 | None

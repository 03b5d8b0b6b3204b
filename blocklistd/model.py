"""The values that pass between the stages of the pipeline: frozen, valid by construction, without I/O or clock."""

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
"""A list's version: from 1, higher by one with each change, never reused; 0 before the first."""
Sha256 = NewType("Sha256", str)
"""64 lower-case hex digits."""

UNBUILT_TYPES = ("ip", "pdq", "photodna")
"""Types that hotlines list and `kinds` does not have: their records are withheld and don't count as rejects."""
TYPE_NOT_BUILT = "type-not-built"
"""The reason for withholding a record of UNBUILT_TYPES."""
FRAGMENT = "fragment"
"""The reason for withholding a URL with a fragment, and neither path nor query: without the fragment it would be the
host's front page."""
WITHHELD = (TYPE_NOT_BUILT, FRAGMENT)
"""The reasons for which intake withholds valid records; these are not a fault of the body."""

ATTRIBUTES = ("category", "expires", "ref", "verified_at", "verifiers")
"""Attributes of a record beside type and value, sorted by name. In a line, `id` is between `expires` and `ref`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One canonical entry. `line()` is its only form in files, feeds and hashes (docs/feed.md).

    `attributes`: only those in ATTRIBUTES that are known, each a text; `verifiers` is an integer.
    """

    type: str
    value: str
    attributes: dict[str, str | int] = field(default_factory=dict)

    def line(self) -> bytes:
        """Canonical JSON without a newline: type, value, then the attributes sorted by name."""
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
    """An act for the audit. `action`: the command. `user`, `uid`: of the operator; `auto` and None if the daemon acts
    by itself."""

    action: str
    user: str
    uid: int | None


AUTO = Act("release", "auto", None)
"""The daemon releases a version that no guard holds."""


@dataclass(frozen=True, slots=True)
class Validators:
    """Validators for a conditional GET (RFC 9110, 13.1): ETag and Last-Modified of an earlier response."""

    etag: str | None = None
    last_modified: str | None = None

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete body in the file `body`, not trusted yet: neither decompressed, verified nor parsed.

    `length` (bytes), `sha256`: of the file's bytes. `encoding`: their HTTP content coding: identity, gzip or zstd.
    `signature`: content of the separate signature file, if any.
    """

    body: Path
    length: int
    sha256: Sha256
    encoding: str = "identity"
    signature: bytes | None = None
    validators: Validators = Validators()


@dataclass(frozen=True, slots=True)
class NotModified:
    """The source's body has not changed since the response with the validators that were sent (HTTP 304)."""


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """The intake job's report on a body: counts, digests and line numbers, never an entry.

    `body_sha256`: of the body as it arrived. `asserted`: digest of the sealed file of its canonical lines, which are
    sorted and without ids. `length`: bytes of the decoded body. `types`: count of entries by type. `rejected`: count of
    records that are not entries, by reason; `first_rejected`: line number (from 1) of the first of each reason.
    `dropped_attributes`: count of attributes that were dropped. `signature`: SHA-256 of the signature. `signed_at`: its
    time, from its trusted comment (Unix seconds). `key`: fingerprint of the key of the source's newest signature.
    `since`: when the source first asserted these lines (RFC 3339). Reports of earlier versions have no `key`, `since`.
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
        """How many entries the body has."""
        return sum(self.types.values())

    @property
    def rejects(self) -> int:
        """How many records are in `refused`."""
        return sum(self.refused.values())

    @property
    def refused(self) -> dict[str, int]:
        """Count of rejected records by reason, without the reasons in WITHHELD."""
        return {reason: count for reason, count in self.rejected.items() if reason not in WITHHELD}

    @property
    def withheld(self) -> dict[str, int]:
        """Count of withheld records by reason (WITHHELD)."""
        return {reason: count for reason, count in self.rejected.items() if reason in WITHHELD}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate is held: the guard, its limit, and the value found, in the units of the configuration."""

    guard: str
    limit: str
    found: str

    def __str__(self) -> str:
        return f"{self.guard}: {self.found}, limit {self.limit}"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which entries of its sources a list has. `canonicaliser`: version of the rules for canonical values. `sources`:
    in the order of precedence. After a change of policy the whole list is composed again, as any entry can change."""

    canonicaliser: int
    sources: tuple[SourceId, ...]
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool

    def to_json(self) -> dict[str, Any]:
        """The policy as it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Policy:
        """The policy from its stored form."""
        return cls(**(fields | {"sources": tuple(fields["sources"]), "types": tuple(fields["types"])}))


class ChangeKind(enum.StrEnum):
    """The kinds of change of a list."""

    SOURCE = "source"
    """A source offers other entries than those from which the live version was composed."""
    POLICY = "policy"
    """The configured policy differs from that of the live version."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a list: the `policy` and the `sources` (sealed entries of each) from which it is to be composed.

    `cause`: the source that offers other entries; empty for other kinds. `actor`: user who asked for the change; empty
    if nobody did. `records`, `rejected`: of the source's new body, how many records it has, and how many of these are
    not entries.
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
    """A composed change: `delta` is the sealed delta against the live version `base` (0: there was none).

    A decision is bound to the digest of the delta. `added`, `removed`, `changed`: counts of entries by (type, value).
    `entries`: of the list after the release. `reasons`: why it is held. `withheld`: count of entries that the list then
    withholds, by rule. `suffixes`: counts of added, removed and changed entries by last label of the host; in a
    candidate of version 0.2 their sum alone. `snapshot`: sealed snapshot of the new version if composing has written
    it, so that an approval need not write it.
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
        """Whether the candidate was composed from the change's sources and policy on this base, so that the delta is
        the same."""
        return (self.base, self.change.sources, self.change.policy) == (base, change.sources, change.policy)


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version of a list. `length` (bytes), `sha256`: of its snapshot. `added`, `removed`, `changed`: counts of
    entries against the version before. `kind`, `cause`: of the change that made it. `released_by`: `auto`, or the user
    who approved. `delta`: the sealed delta from the version before; None for the first version, or if it is not kept
    any more."""

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

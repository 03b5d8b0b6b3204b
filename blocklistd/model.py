"""The values that pass between the stages of the pipeline: frozen, valid by construction, without I/O or clock."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NewType

import orjson

SourceId = NewType("SourceId", str)
ListId = NewType("ListId", str)
SubscriberId = NewType("SubscriberId", str)
CandidateId = NewType("CandidateId", str)
Version = NewType("Version", int)
"""A list's version: from 1, higher by one with each change, never reused; 0 before the first."""
Sha256 = NewType("Sha256", str)
"""64 lower-case hex digits."""

UNBUILT_TYPES = ("pdq", "photodna")
"""Types that hotlines list and `kinds` does not have: their records are withheld and don't count as rejects."""
TYPE_NOT_BUILT = "type-not-built"
"""The reason for withholding a record of UNBUILT_TYPES."""
FRAGMENT = "fragment"
"""The reason for withholding a URL with a fragment, and neither path nor query: without the fragment it would be the
host's front page."""
TOO_WIDE = "too-wide"
"""The reason for withholding an IP prefix that contains more addresses than one holder usually has."""
SPECIAL_ADDRESS = "special-address"
"""The reason for withholding an address that stands for other ones, or that a protocol needs (kinds/ip.py)."""
WITHHELD = (TYPE_NOT_BUILT, FRAGMENT, TOO_WIDE, SPECIAL_ADDRESS)
"""The reasons for which intake withholds valid records; these are not a fault of the body."""

ATTRIBUTES = ("category", "expires", "ref", "verified_at", "verifiers")
"""Attributes of a record beside type and value, sorted by name."""
ID = "id"
"""The name, in a line, of an entry's id. A list adds one to each entry that has none. Only an entry from another
blocklistd has one before."""
TEST: Final = "test"
"""The attribute, True, of a test entry: a host that the configuration names, so that resolvers can be probed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One canonical entry. `line()` is its only form in files, feeds and hashes (docs/feed.md).

    `attributes`: ID, and those in ATTRIBUTES that are known, each a text; `verifiers` is an integer.
    """

    type: str
    value: str
    attributes: dict[str, str | int] = field(default_factory=dict)

    def line(self) -> bytes:
        """Canonical JSON without a newline: type, value, then the attributes sorted by name."""
        return orjson.dumps(
            {"type": self.type, "value": self.value, **dict(sorted(self.attributes.items()))},
        )

    @property
    def reference(self) -> str | None:
        """The source's own reference of the entry, for people; None if it has none, or one that contains the value."""
        found = self.attributes.get("ref")
        return None if found is None or self.value.lower() in str(found).lower() else str(found)

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
    """Validators of an earlier response, for the next request of a source.

    `etag`, `last_modified`: for a conditional GET (RFC 9110, 13.1). `position`: where the earlier body ended, for a
    transport that can fetch only what came after it; a text that only the transport reads.
    """

    etag: str | None = None
    last_modified: str | None = None
    position: str | None = None

    def __bool__(self) -> bool:
        return bool(self.etag or self.last_modified or self.position)


@dataclass(frozen=True, slots=True)
class TlsPeer:
    """The server at the other end of a TLS connection: the SHA-256, in hex, of its certificate (DER) and of the
    certificate's public key (SPKI, as in RFC 7469)."""

    certificate: Sha256
    public_key: Sha256


@dataclass(frozen=True, slots=True)
class Fetched:
    """A complete body in the file `body`, not trusted yet: neither decompressed, verified nor parsed.

    `length` (bytes), `sha256`: of the file's bytes. `encoding`: their HTTP content coding: identity, gzip or zstd.
    `signature`: content of the separate signature file, if any. `continues`: whether the body is only what came after
    the last body, from the position of the request's validators on. `url`: redacted; of the file that was read. `peer`:
    the server that sent it, None without TLS.
    """

    body: Path
    length: int
    sha256: Sha256
    encoding: str = "identity"
    signature: bytes | None = None
    validators: Validators = Validators()
    continues: bool = False
    url: str = ""
    peer: TlsPeer | None = None


@dataclass(frozen=True, slots=True)
class NotModified:
    """The source's body has not changed since the response with the validators that were sent (HTTP 304)."""


@dataclass(frozen=True, slots=True)
class KeyHistory:
    """The newest values that were accepted of one key of a source; an older body of the key is a replay.

    `key`: the fingerprint; None: the values count for every key. `signed_at`: the time of signing (Unix seconds).
    `sequence`: the number of the body, which never goes back, and `location`: the SHA-256 of the URL that it belongs
    to. None: no accepted body had one.
    """

    key: Sha256 | None
    signed_at: int | None = None
    sequence: int | None = None
    location: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class IntakeReport:
    """The intake job's report on a body: counts, digests and line numbers, never an entry.

    `body_sha256`: of the body as it arrived. `asserted`: digest of the sealed file of its canonical lines, which are
    sorted; only those of another blocklistd have ids. `length`: bytes of the decoded body. `types`: count of entries by
    type. `rejected`: count of records that are not entries, by reason; `first_rejected`: line number (from 1) of the
    first of each reason. `dropped_attributes`: count of attributes that were dropped. `signature`: SHA-256 of the
    signature. `signed_at`: its time (Unix seconds). `key`: fingerprint of the key of the source's newest signature.
    `since`: when the source first asserted these lines (RFC 3339). `sequence`: the number of the body, which never goes
    back; None if it has none. `expires`: when its proof is to be verified again (Unix seconds); None if it does not
    expire. Reports of earlier versions have no `key`, `since`, `sequence` and `expires`.
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
    sequence: int | None = None
    expires: int | None = None

    @property
    def signed(self) -> datetime | None:
        """The time of the signature; None without one."""
        return None if self.signed_at is None else datetime.fromtimestamp(self.signed_at, UTC)

    @property
    def is_signed(self) -> bool:
        """Whether the body was proven by a key, which `key` then is. Otherwise `key` is that of an earlier body."""
        return self.signature is not None or self.sequence is not None

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

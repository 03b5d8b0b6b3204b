"""A change of a list, its policy, its corrections, and the candidate that it is while it is held. Frozen values."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from blocklistd.model import Act, CandidateId, Entry, ListId, Sha256, SourceId, Version

NOT_MEASURED: Final = ("release", "base", "decision")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate is held: the guard, its limit, and the value found, in the units of the configuration. For a
    guard in NOT_MEASURED `found` is a sentence."""

    guard: str
    limit: str
    found: str

    def __str__(self) -> str:
        limit = "" if self.guard in NOT_MEASURED else f", limit {self.limit}"
        return f"{self.guard}: {self.found}{limit}"


@dataclass(frozen=True, slots=True)
class Policy:
    """Which entries of its sources a list has. After a change of policy the whole list is composed again, as any entry
    can change.

    - `canonicaliser`: version of the rules for canonical values. `sources`: in the order of precedence.
    - `quorum`: an entry is withheld while fewer sources assert it.
    - `never_block`, `own_names`, `shared_hosts`: sealed files of names (compose/names.py); None: no such name.
    - `additions`: False while a guard file is unusable, and for the part of a divided rollback that is released at
      once. Entries that are not live are then withheld.
    - `pending`: sealed files of configured names that wait for a release. Entries that are not live and hit one of
      these names are withheld.
    - `exceptions`: sealed file of local exceptions (lines/exceptions.py); None: there are none.
    - `reverify`, `max_life`: seconds after which entries are due (compose/lifetimes.py); None: there is no such term.
      `ends_by_age`: what is due ends by itself, in an expiry; else it stays live.
    - `tests`: the hosts of the test entries, which the list has whatever its sources assert.
    """

    canonicaliser: int
    sources: tuple[SourceId, ...]
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool
    quorum: int = 1
    never_block: Sha256 | None = None
    own_names: Sha256 | None = None
    shared_hosts: Sha256 | None = None
    additions: bool = True
    pending: tuple[Sha256, ...] = ()
    reverify: int | None = None
    max_life: int | None = None
    ends_by_age: bool = False
    exceptions: Sha256 | None = None
    tests: tuple[str, ...] = ()

    @property
    def files(self) -> set[Sha256]:
        """The sealed files of names and of exceptions."""
        return {*self.pending, *self.names, *([self.exceptions] if self.exceptions is not None else [])}

    @property
    def names(self) -> tuple[Sha256, ...]:
        """The sealed files of the names in force."""
        found = self.never_block, self.own_names, self.shared_hosts
        return tuple(digest for digest in found if digest is not None)

    def with_names_of(self, other: Policy) -> Policy:
        """The policy with the names of another one, and its `additions`. No name waits then."""
        return replace(
            self,
            never_block=other.never_block,
            own_names=other.own_names,
            shared_hosts=other.shared_hosts,
            additions=other.additions,
            pending=(),
        )

    def to_json(self) -> dict[str, Any]:
        """The policy as it is stored."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Policy:
        """The policy from its stored form."""
        return cls(**fields | {name: tuple(fields.get(name, ())) for name in ("sources", "types", "pending", "tests")})


class ChangeKind(enum.StrEnum):
    """The kinds of change of a list."""

    SOURCE = "source"
    """A source offers other entries than those from which the live version was composed."""
    POLICY = "policy"
    """The configured policy differs from that of the live version."""
    EXPIRY = "expiry"
    """Entries have ended by themselves. The sources and the policy are those of the live version."""
    CORRECTION = "correction"
    """A person takes an entry out, or a correction ends. The sources and the policy are those of the live version."""
    ROLLBACK = "rollback"
    """A person brings back the content of an earlier version."""


class CorrectionKind(enum.StrEnum):
    """The kinds of correction: each withholds one entry of a list, under the rule of its name."""

    DELISTED = "delisted"
    """It was listed by mistake, or no longer qualifies (`entry delist`)."""
    EMBARGOED = "embargoed"
    """It is not to be published yet (`entry embargo`)."""
    EXCEPTED = "excepted"
    """A reviewer approved a candidate without it (`candidate approve --except`)."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A correction in force: it withholds the entry of this type and value from the list, in every version.

    `number`: of its row; 0 before it has one. `entry`: the id of the entry. `until`: when it ends; None: when a person
    ends it. `owner`: who asked for an embargo. `created`, `user`: when and by whom it was placed.
    """

    number: int
    kind: CorrectionKind
    type: str
    value: str
    entry: str
    why: str
    until: datetime | None = None
    owner: str = ""
    created: datetime | None = None
    user: str = ""

    @property
    def key(self) -> bytes:
        """The key of the entry's line (lines.keys.key_of)."""
        return Entry(self.type, self.value).line().removesuffix(b"}")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Correction:
        """The correction from the JSON of its fields."""
        times = {name: fields.get(name) for name in ("until", "created")}
        times = {name: datetime.fromisoformat(time) if time else None for name, time in times.items()}
        return cls(**fields | times | {"kind": CorrectionKind(fields["kind"])})


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a list: the `policy` and the `sources` (sealed entries of each) from which it is to be composed.

    - `cause`: the source that offers other entries; of a correction that ends, its number and the number of the
      request, as `12.1`; of a rollback, the version whose content it brings back; empty for other kinds.
    - `actor`, `actor_uid`: user who asked for the change; empty and None if nobody did.
    - `records`, `rejected`: of the source's new body, how many records it has, and how many of these are not entries.
    - `basis`: the snapshot of an earlier version, which takes the place of the sources' entries (a rollback); None:
      the list is composed from `sources`.
    - `lifts`: numbers of the corrections that end with this change. `places`: corrections that begin with it.
    - `evaluated`: of an expiry: the time by which entries have ended; None: the time of the commit.
    """

    kind: ChangeKind
    cause: str
    policy: Policy
    sources: dict[SourceId, Sha256]
    actor: str = ""
    actor_uid: int | None = None
    records: int = 0
    rejected: int = 0
    basis: Sha256 | None = None
    lifts: tuple[int, ...] = ()
    places: tuple[Correction, ...] = ()
    evaluated: datetime | None = None

    @property
    def origins(self) -> tuple[object, ...]:
        """Everything that decides, together with the live version, which delta the change gives."""
        return self.sources, self.policy, self.basis, self.lifts, self.places, self.evaluated

    @property
    def source(self) -> SourceId | None:
        """The source that offers other entries; None for other kinds of change."""
        return SourceId(self.cause) if self.kind == ChangeKind.SOURCE else None

    @property
    def begins_corrections(self) -> bool:
        """Whether it is a correction that begins. No guard judges it, so it may take out its own entries only."""
        return self.kind == ChangeKind.CORRECTION and bool(self.places)

    def by(self, act: Act | None) -> Change:
        """The change, asked for by the user of the act. None, or an act of the daemon: nobody asked for it."""
        person = act is not None and act.uid is not None
        return replace(self, actor=act.user if act and person else "", actor_uid=act.uid if act else None)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Change:
        """The change from the JSON of its fields, which a job returns."""
        evaluated = fields["evaluated"]
        return cls(
            **fields
            | {
                "kind": ChangeKind(fields["kind"]),
                "policy": Policy.from_json(fields["policy"]),
                "lifts": tuple(fields["lifts"]),
                "places": tuple(map(Correction.from_json, fields["places"])),
                "evaluated": datetime.fromisoformat(evaluated) if evaluated else None,
            }
        )


@dataclass(frozen=True, slots=True)
class Freeze:
    """A frozen list: only corrections and rollbacks change it, until `list resume`. `why`: given by `user`."""

    user: str
    time: str
    why: str

    @staticmethod
    def holds(kind: ChangeKind) -> bool:
        """Whether changes of this kind wait for `list resume`."""
        return kind not in (ChangeKind.CORRECTION, ChangeKind.ROLLBACK)

    def sentence(self, list_id: ListId) -> str:
        """For a person: that the list is frozen, and what ends that."""
        return (
            f"list {list_id} has been frozen since {self.time} by {self.user} ({self.why}): only corrections and "
            f"rollbacks change it until `blocklistd list resume {list_id}`"
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A composed change: `delta` is the sealed delta against the live version `base` (0: there was none).

    A decision is bound to the digest of the delta. `added`, `removed`, `changed`: counts of entries by (type, value).
    `entries`: of the list after the release. `reasons`: why it is held. `withheld`: count of entries that the list then
    withholds, by rule. `suffixes`: counts of added, removed and changed entries by last label of the host; in a
    candidate of version 0.2 their sum alone. `snapshot`: sealed snapshot of the new version if composing has written
    it, so that an approval need not write it. `hits`: by rule, the ids of entries that a guard file newly withholds, at
    most MAX_HITS. `categories`, `by_source`: counts of added, removed and changed entries, as `suffixes`.
    `next_expiry`: no entry that decides what the list has ends before (None: none ends).
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
    hits: dict[str, Any] = field(default_factory=dict)
    categories: dict[str, Any] = field(default_factory=dict)
    by_source: dict[str, Any] = field(default_factory=dict)
    next_expiry: datetime | None = None

    def comes_from(self, change: Change, base: Version) -> bool:
        """Whether the candidate was composed from the same origins as the change, on this base, so that the delta is
        the same."""
        return (self.base, self.change.origins) == (base, change.origins)


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

"""The plan of a list: its part of the configuration, as the pipeline needs it."""

from __future__ import annotations

from dataclasses import dataclass

from blocklistd.change import Policy
from blocklistd.compose.guard import DailyLimits
from blocklistd.compose.selection import Selection
from blocklistd.kinds import CANONICALISER
from blocklistd.model import ListId, Sha256, SourceId


@dataclass(frozen=True, slots=True)
class ListPlan:
    """The configuration of a list. `sources`: in order of precedence, without those in quarantine.

    `max_added`, `max_removed` and `max_rejected` are shares (0.2 is 20 %); `min_change` and `min_entries` are numbers
    of entries. compose/guard.py explains them. `release`: `auto` (the guards alone), `review` (one reviewer) or
    `two-person`. `quorum`: sources that must assert an entry. `never_block`, `own_names`, `shared_hosts`: sealed files
    of names. `additions`: False while a guard file is unusable. `selections`: those of the list's zones that have
    `categories`. `reverify`, `max_life` (seconds), `ends_by_age`, `tests`: as in
    Policy.
    """

    id: ListId
    sources: tuple[SourceId, ...]
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool
    max_added: float
    max_removed: float
    daily: DailyLimits | None
    min_change: int
    min_entries: int
    max_rejected: float
    release: str
    quorum: int = 1
    never_block: Sha256 | None = None
    own_names: Sha256 | None = None
    shared_hosts: Sha256 | None = None
    additions: bool = True
    selections: tuple[Selection, ...] = ()
    reverify: int | None = None
    max_life: int | None = None
    ends_by_age: bool = False
    exceptions: Sha256 | None = None
    tests: tuple[str, ...] = ()

    @property
    def policy(self) -> Policy:
        """The policy that a version composed under this plan has."""
        return Policy(
            CANONICALISER,
            self.sources,
            self.types,
            self.allow_public_suffix,
            self.allow_ip,
            quorum=self.quorum,
            never_block=self.never_block,
            own_names=self.own_names,
            shared_hosts=self.shared_hosts,
            additions=self.additions,
            reverify=self.reverify,
            max_life=self.max_life,
            ends_by_age=self.ends_by_age,
            exceptions=self.exceptions,
            tests=self.tests,
        )

"""A list's state in the store before one of its changes is settled, read in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from blocklistd.model import Candidate, CandidateId, Change, ChangeKind, SourceId
from blocklistd.pipeline.settle import ListPlan
from blocklistd.store import candidates
from blocklistd.store.candidates import Case
from blocklistd.store.lists import ListState, list_state
from blocklistd.store.pulls import Offer, never_pulled, offers


@dataclass(frozen=True, slots=True)
class Situation:
    """A list's state, the offers of its configured sources, the sources that never ended a pull (`unheard`), the
    held candidates (`cases`), and the candidates rejected on the live version (`refusals`)."""

    plan: ListPlan
    state: ListState
    offers: dict[SourceId, Offer]
    unheard: list[SourceId]
    cases: list[Case]
    refusals: list[Candidate]

    @classmethod
    def read(cls, connection: Connection, plan: ListPlan, settings: Mapping[SourceId, str]) -> Situation:
        """`settings` are those of the sources that are configured: what was read with others is no offer. Raises
        StoreError where the list is not in the store."""
        state = list_state(connection, plan.id)
        return cls(
            plan=plan,
            state=state,
            offers=offers(connection, {name: settings[name] for name in plan.sources if name in settings}),
            unheard=never_pulled(connection, plan.sources) if state.live is None else [],
            cases=candidates.held(connection, plan.id),
            refusals=candidates.refusals(connection, plan.id),
        )

    def awaited(self, source: SourceId) -> list[SourceId]:
        """The sources whose first pull a first version waits for."""
        return [name for name in self.unheard if name != source]

    def offered(self, source: SourceId) -> Change | None:
        """The change that the source's present offer asks for; None while the list does not take the source, since the
        policy that takes it is held. A first version takes every offer that there is: nothing can be compared with it.
        """
        offer = self.offers.get(source)
        if self.state.live is None or self.state.policy is None:
            accepted = {name: found.entries for name, found in self.offers.items()}
            policy = self.plan.policy
        else:
            accepted, policy = dict(self.state.accepted), self.state.policy
            if offer is not None:
                accepted[source] = offer.entries
        if source not in policy.sources:
            return None
        worst = self._least_readable(policy.sources) if self.state.live is None else offer
        return Change(
            kind=ChangeKind.SOURCE,
            cause=source,
            policy=policy,
            sources={name: accepted[name] for name in policy.sources if name in accepted},
            records=worst.records if worst else 0,
            rejected=worst.rejected if worst else 0,
        )

    def _least_readable(self, sources: Iterable[SourceId]) -> Offer | None:
        """The offer with the largest share of rejected records. A first version takes all offers, and in their sum one
        bad offer would be hidden."""
        found = [self.offers[name] for name in sources if name in self.offers]
        return max(found, key=lambda offer: offer.rejected / max(1, offer.records), default=None)

    def policy_change(self) -> Change:
        """The change from the policy in force to the configured one."""
        policy, accepted = self.plan.policy, self.state.accepted
        return Change(
            kind=ChangeKind.POLICY,
            cause="",
            policy=policy,
            sources={name: accepted[name] for name in policy.sources if name in accepted},
        )

    def asked_again(self, change: Change) -> Change:
        """A held change on the live version: the entries of its cause as held, those of other sources as accepted."""
        if change.kind == ChangeKind.POLICY:
            return self.policy_change()
        if self.state.live is None or self.state.policy is None:
            policy = self.plan.policy
            sources = {name: change.sources[name] for name in policy.sources if name in change.sources}
            return replace(change, policy=policy, sources=sources)
        accepted = dict(self.state.accepted)
        if SourceId(change.cause) in change.sources:
            accepted[SourceId(change.cause)] = change.sources[SourceId(change.cause)]
        policy = self.state.policy
        sources = {name: accepted[name] for name in policy.sources if name in accepted}
        return replace(change, policy=policy, sources=sources)

    def held(self, change: Change) -> Candidate | None:
        """The held candidate of the same cause; of a list without a version, whichever is held."""
        for case in self.cases:
            other = case.candidate.change
            if self.state.live is None or (other.kind, other.cause) == (change.kind, change.cause):
                return case.candidate
        return None

    def rejected(self, change: Change) -> CandidateId | None:
        """The rejected candidate that asked for what this change asks for: it stays rejected on every base."""
        for found in self.refusals:
            if found.comes_from(change, self.state.version) or _asks_for(found.change) == _asks_for(change):
                return found.id
        return None


def _asks_for(change: Change) -> tuple[object, ...]:
    """What identifies a change. The canonicaliser is left out: what a newer one changes is in the entries."""
    policy = replace(change.policy, canonicaliser=0)
    asked = change.sources.get(SourceId(change.cause)) if change.kind == ChangeKind.SOURCE else None
    return change.kind, change.cause, policy, asked

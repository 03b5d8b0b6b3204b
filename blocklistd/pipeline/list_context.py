"""The context of a change: the state of its list in the store, read in one transaction before the commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from blocklistd.model import Candidate, CandidateId, Change, ChangeKind, SourceId
from blocklistd.pipeline.commit import ListPlan
from blocklistd.store import candidates
from blocklistd.store.candidates import Case
from blocklistd.store.lists import ListState, list_state
from blocklistd.store.pulls import Offer, never_pulled, offers


@dataclass(frozen=True, slots=True)
class ListContext:
    """The context of a list's next change. Read it again for each change, under the list's lock.

    `offers`: the newest entries of each configured source, read with today's settings. `never_pulled`: sources that
    never ended a pull; empty once the list has a version. `held`: the held candidates, oldest first. `rejected`: the
    rejected candidates whose cause has not changed the list since.
    """

    plan: ListPlan
    state: ListState
    offers: dict[SourceId, Offer]
    never_pulled: list[SourceId]
    held: list[Case]
    rejected: list[Candidate]

    @classmethod
    def read(cls, connection: Connection, plan: ListPlan, settings: Mapping[SourceId, str]) -> ListContext:
        """Reads the context of a list. `settings`: those of each configured source (SourcePlan.settings); entries that
        were read with other settings are not offered. Raises StoreError where the list is not in the store."""
        state = list_state(connection, plan.id)
        return cls(
            plan=plan,
            state=state,
            offers=offers(connection, {name: settings[name] for name in plan.sources if name in settings}),
            never_pulled=never_pulled(connection, plan.sources) if state.live is None else [],
            held=candidates.held(connection, plan.id),
            rejected=candidates.rejected_candidates(connection, plan.id),
        )

    def sources_to_wait_for(self, source: SourceId) -> list[SourceId]:
        """The sources, except this one, whose first pull the first version waits for."""
        return [name for name in self.never_pulled if name != source]

    def source_change(self, source: SourceId) -> Change | None:
        """The change to the newest entries (the offer) of a source. None while the policy in force does not include
        the source: the policy change that adds it is held.

        A change to a first version takes the offers of all sources.
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
        judged = self._least_readable(policy.sources) if self.state.live is None else offer
        return Change(
            kind=ChangeKind.SOURCE,
            cause=source,
            policy=policy,
            sources={name: accepted[name] for name in policy.sources if name in accepted},
            records=judged.records if judged else 0,
            rejected=judged.rejected if judged else 0,
        )

    def _least_readable(self, sources: Iterable[SourceId]) -> Offer | None:
        """The offer with the largest share of rejected records. A first version is judged by this offer: the sum of
        all offers would hide a bad one."""
        found = [self.offers[name] for name in sources if name in self.offers]
        return max(found, key=lambda offer: offer.rejected / max(1, offer.records), default=None)

    def policy_change(self) -> Change:
        """The change from the policy in force to the configured policy, with the accepted entries."""
        policy, accepted = self.plan.policy, self.state.accepted
        return Change(
            kind=ChangeKind.POLICY,
            cause="",
            policy=policy,
            sources={name: accepted[name] for name in policy.sources if name in accepted},
        )

    def on_live_version(self, change: Change) -> Change:
        """A held change, moved to the live version: the held entries for the change's cause, the accepted entries for
        the other sources, and the policy in force. A policy change becomes the one that is configured now. Before a
        first version, all held entries stay, and the policy is the configured one."""
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

    def held_candidate(self, change: Change) -> Candidate | None:
        """The held candidate of the same cause; before a first version, the held candidate of any cause."""
        for case in self.held:
            other = case.candidate.change
            if self.state.live is None or (other.kind, other.cause) == (change.kind, change.cause):
                return case.candidate
        return None

    def rejected_candidate(self, change: Change) -> CandidateId | None:
        """The rejected candidate of the same cause, entries and policy, whatever version it was composed on."""
        for candidate in self.rejected:
            if candidate.comes_from(change, self.state.version) or _identity(candidate.change) == _identity(change):
                return candidate.id
        return None


def _identity(change: Change) -> tuple[object, ...]:
    """The parts in which two changes must agree to be the same on different versions: kind, cause, policy, and the
    entries of the cause.

    Without the number of the canonicaliser: a newer canonicaliser shows in the entries.
    """
    policy = replace(change.policy, canonicaliser=0)
    entries = change.sources.get(SourceId(change.cause)) if change.kind == ChangeKind.SOURCE else None
    return change.kind, change.cause, policy, entries

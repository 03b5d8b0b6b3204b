"""The context of a change: the state of its list in the store, read in one transaction before the commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from blocklistd.change import Candidate, Change, ChangeKind, Policy, Reason
from blocklistd.model import CandidateId, ListId, Outcome, Sha256, SourceId
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.store import candidates
from blocklistd.store.candidates import Case
from blocklistd.store.distrust import GUARD, restored_offer
from blocklistd.store.lists import ListState, list_state
from blocklistd.store.pulls import Offer, never_pulled, no_version_of, offers, wait_of


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """Outcome of offering a source's entries to its lists, or to one of them.

    `reason`: for a person, None if there is nothing to explain. `candidate`: the candidate that is held, or that was
    rejected earlier with the same content.
    """

    outcome: Outcome
    reason: str | None = None
    candidate: CandidateId | None = None

    @classmethod
    def held(cls, candidate: Candidate) -> ReleaseResult:
        """The result of a change that is held as this candidate."""
        return cls(Outcome.HELD, "; ".join(map(str, candidate.reasons)), candidate.id)

    @classmethod
    def rejected_before(cls, list_id: ListId, change: Change, rejected: CandidateId) -> ReleaseResult:
        """The result of a change whose content was rejected before, as the candidate `rejected`."""
        until = "the entries of the source change" if change.kind == ChangeKind.SOURCE else "its configuration changes"
        return cls(
            Outcome.FAILED,
            f"candidate {rejected} with this content was rejected; list {list_id} keeps its last good version until "
            f"{until}",
            rejected,
        )


def most_urgent(results: Iterable[ReleaseResult]) -> ReleaseResult:
    """The result that most needs attention: failed before held before published before unchanged."""
    by_urgency = [Outcome.FAILED, Outcome.HELD, Outcome.PUBLISHED, Outcome.UNCHANGED]
    return min(results, key=lambda result: by_urgency.index(result.outcome), default=ReleaseResult(Outcome.UNCHANGED))


@dataclass(frozen=True, slots=True)
class ListContext:
    """The context of a list's next change. Read it again for each change, under the list's lock.

    `offers`: the newest entries of each configured source, read with today's settings. `awaited`: sources whose pulls
    the first version waits for; empty once the list has a version. `held`: the held candidates, oldest first.
    `rejected`: the rejected candidates whose cause has not changed the list since.
    """

    plan: ListPlan
    state: ListState
    offers: dict[SourceId, Offer]
    awaited: list[SourceId]
    held: list[Case]
    rejected: list[Candidate]

    @classmethod
    def read(
        cls,
        connection: Connection,
        plan: ListPlan,
        settings: Mapping[SourceId, str],
        pulled_now: Collection[SourceId] = (),
    ) -> ListContext:
        """Reads the context of a list. `settings`: those of each configured source (SourcePlan.settings); entries that
        were read with other settings are not offered. `pulled_now`: sources whose pulls run, of which a first version
        waits for those that offer nothing yet. Raises StoreError where the list is not in the store."""
        state = list_state(connection, plan.id)
        offered = offers(connection, {name: settings[name] for name in plan.sources if name in settings})
        awaited = {*never_pulled(connection, plan.sources), *pulled_now} - offered.keys()
        return cls(
            plan=plan,
            state=state,
            offers=offered,
            awaited=[name for name in plan.sources if name in awaited] if state.live is None else [],
            held=candidates.held(connection, plan.id),
            rejected=candidates.rejected_candidates(connection, plan.id),
        )

    def sources_to_wait_for(self, source: SourceId) -> list[SourceId]:
        """The sources, except this one, whose pulls the first version waits for."""
        return [name for name in self.awaited if name != source]

    def offered_change(self, source: SourceId) -> Change | ReleaseResult:
        """The change to the newest entries of a source. If none can be committed now, the result of the offer."""
        change = self.source_change(source)
        if change is None:
            held = any(case.candidate.change.kind == ChangeKind.POLICY for case in self.held)
            why = "approve its policy change" if held else "see `blocklistd status`, if its policy change was rejected"
            return ReleaseResult(Outcome.UNCHANGED, f"list {self.plan.id} does not take this source yet: {why}")
        if waits_for := self.sources_to_wait_for(source):
            # otherwise the first pull would make version 1, and the next sources would be held as large changes, each
            # composed in full
            return ReleaseResult(Outcome.UNCHANGED, wait_of(self.plan.id, waits_for))
        return change

    def end_of_wait(self, source: SourceId) -> ReleaseResult:
        """How the pull of a source has ended that waited for the pulls of others, as far as these have ended."""
        if waits_for := self.sources_to_wait_for(source):
            return ReleaseResult(Outcome.UNCHANGED, wait_of(self.plan.id, waits_for))
        if self.state.live is not None:
            return ReleaseResult(Outcome.PUBLISHED)
        if self.held:
            return ReleaseResult.held(self.held[0].candidate)
        return ReleaseResult(Outcome.UNCHANGED, no_version_of(self.plan.id))

    def known_result(self, change: Change, *, keep_held: bool = False) -> ReleaseResult | None:
        """The result of a change that need not be composed: the live version was made from it, the list is frozen, it
        was rejected before, or it is held already, by the same counts. None for any other change. `keep_held`: as in
        CommitRequest."""
        if self.state.is_composed_from(change):
            return ReleaseResult(Outcome.UNCHANGED)
        if self.state.frozen is not None and self.state.frozen.holds(change.kind):
            return ReleaseResult(Outcome.HELD, self.state.frozen.sentence(self.plan.id))
        if (rejected := self.rejected_candidate(change)) is not None:
            return ReleaseResult.rejected_before(self.plan.id, change, rejected)
        held = self.held_candidate(change)
        if held is not None and not keep_held and self.is_held(held, change):
            return ReleaseResult.held(held)
        return None

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
            accepted, policy = dict(self.state.accepted), self.policy_in_force
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

    @property
    def policy_in_force(self) -> Policy:
        """The policy of the live version. If the change to the configured policy waits, what that would keep out is not
        added: any entry while a guard file is unusable, and entries with the configured names."""
        policy = self.state.policy
        assert policy is not None, "there is a live version"
        additions, known = policy.additions and self.plan.additions, policy.names
        pending = tuple(digest for digest in self.plan.policy.names if digest not in known)
        return replace(policy, additions=additions, pending=pending)

    @property
    def policy_to_apply(self) -> Policy:
        """The configured policy. While the list has the content of an earlier version, this is the policy in force with
        the configured names: nobody could see what the rest does until a source brings its entries again."""
        configured, policy = self.plan.policy, self.state.policy
        if self.state.basis is None or policy is None:
            return configured
        return policy.with_names_of(configured)

    def policy_change(self) -> Change:
        """The change from the policy in force to `policy_to_apply`, with the accepted entries."""
        policy, accepted = self.policy_to_apply, self.state.accepted
        return Change(
            kind=ChangeKind.POLICY,
            cause="",
            policy=policy,
            sources={name: accepted[name] for name in policy.sources if name in accepted},
            basis=self.state.basis,
        )

    def expiry_change(self, now: datetime) -> Change:
        """The change that ends the entries which end by `now`: same entries of the sources, same policy."""
        return replace(self.same_entries(ChangeKind.EXPIRY), evaluated=now)

    def same_entries(self, kind: ChangeKind) -> Change:
        """A change with the sources, the policy and the basis of the live version."""
        assert self.state.policy is not None, "there is a live version"
        return Change(kind, "", self.state.policy, dict(self.state.accepted), basis=self.state.basis)

    def on_live_version(self, change: Change) -> Change:
        """A held change, moved to the live version: the held entries for the change's cause, the accepted entries for
        the other sources, and the policy in force. A policy change becomes the one that is configured now. Before a
        first version, all held entries stay, and the policy is the configured one."""
        if change.kind == ChangeKind.POLICY:
            return replace(self.policy_change(), actor=change.actor, actor_uid=change.actor_uid)
        if self.state.live is None or self.state.policy is None:
            policy = self.plan.policy
            sources = {name: change.sources[name] for name in policy.sources if name in change.sources}
            return replace(change, policy=policy, sources=sources)
        accepted = dict(self.state.accepted)
        if change.kind == ChangeKind.SOURCE and SourceId(change.cause) in change.sources:
            accepted[SourceId(change.cause)] = change.sources[SourceId(change.cause)]
        policy = self.state.policy if change.kind == ChangeKind.EXPIRY else self.policy_in_force
        sources = {name: accepted[name] for name in policy.sources if name in accepted}
        brings_basis = change.kind in (ChangeKind.SOURCE, ChangeKind.ROLLBACK)
        basis = change.basis if brings_basis else self.state.basis
        return replace(change, policy=policy, sources=sources, basis=basis)

    def held_candidate(self, change: Change) -> Candidate | None:
        """The held candidate of the same cause; before a first version, the held candidate of any cause."""
        for case in self.held:
            other = case.candidate.change
            if self.state.live is None or (other.kind, other.cause) == (change.kind, change.cause):
                return case.candidate
        return None

    def with_actor(self, change: Change) -> Change:
        """The change, with the actor of the held candidate that has the same content: who pulls it again, or finds it
        on the schedule, brings nothing. Before a first version the actor stays until another user brings something."""
        held = self.held_candidate(change)
        if held is None:
            return change
        is_same = _content(held.change) == _content(change)
        if not is_same and (self.state.live is not None or change.actor_uid is not None):
            return change
        return replace(change, actor=held.change.actor, actor_uid=held.change.actor_uid)

    def reasons(self, change: Change) -> tuple[Reason, ...]:
        """The reasons to hold a change whatever the guards say: the source's offer was restored when a key was
        distrusted. While the source has no offer under today's settings, those of its held candidate stay."""
        if change.kind != ChangeKind.SOURCE:
            return ()
        offer = self.offers.get(SourceId(change.cause))
        if offer is not None:
            return restored_offer(offer.restored)
        held = self.held_candidate(change)
        return tuple(reason for reason in held.reasons if reason.guard == GUARD) if held is not None else ()

    def is_held(self, held: Candidate | None, change: Change) -> bool:
        """Whether the held candidate is this change, so that it need not be composed again: from the same entries, the
        same counts of the body, and for the reasons that still apply."""
        if held is None or not held.comes_from(change, self.state.version):
            return False
        still_distrusted = bool(self.reasons(change)) == any(reason.guard == GUARD for reason in held.reasons)
        return still_distrusted and _counts(held.change) == _counts(change)

    def rejected_candidate(self, change: Change) -> CandidateId | None:
        """The rejected candidate of the same cause, entries and policy, whatever version it was composed on. The
        end of a correction may be requested again."""
        if change.kind == ChangeKind.CORRECTION:
            return None
        for candidate in self.rejected:
            if candidate.comes_from(change, self.state.version) or _identity(candidate.change) == _identity(change):
                return candidate.id
        return None


def _counts(change: Change) -> tuple[int, int]:
    """The counts of a source's body: a candidate is judged again when they change."""
    return change.records, change.rejected


def _identity(change: Change) -> tuple[object, ...]:
    """The parts in which two changes must agree to be the same on different versions: kind, cause, policy, and the
    entries of the cause.

    Without the number of the canonicaliser: a newer canonicaliser shows in the entries.
    """
    policy = replace(change.policy, canonicaliser=0)
    entries = change.sources.get(SourceId(change.cause)) if change.kind == ChangeKind.SOURCE else None
    return change.kind, change.cause, policy, entries


def _content(change: Change) -> tuple[object, ...]:
    """What a person brings with a change: the entries of a source, a policy, or the end of a correction."""
    brought = change.sources.get(SourceId(change.cause)) if change.kind == ChangeKind.SOURCE else change.policy
    return change.kind, change.cause, brought


def digests_to_read(state: ListState, change: Change, others: Iterable[Sha256 | None] = ()) -> list[Sha256 | None]:
    """The sealed files that a commit reads: the live snapshot, the entries of the sources or the basis, the files of
    ages and of names, and `others`. The bases of patches are not among them (asserted.bases)."""
    live = state.live.sha256 if state.live else None
    entries = *state.accepted.values(), *change.sources.values(), state.basis, change.basis
    ages = [stored.file for stored in state.ages.values()]
    return [live, *entries, *ages, *change.policy.files, *others]

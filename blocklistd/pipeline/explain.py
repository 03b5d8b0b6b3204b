"""Explains an entry of a list, for `entry explain`: its sources and versions, or why it is not live.

The reason is that of `compose.evaluate` under the policy, the corrections and the instant of the live version, so it
can't disagree with composing. Nothing here is logged, and no text has the value: entries are named by type and id.

Reads sealed files, in a thread.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from blocklistd.change import Candidate, Correction
from blocklistd.compose.compose import Asserted, evaluate, keys_of_tests, withheld
from blocklistd.compose.lifetimes import Ending, Terms
from blocklistd.errors import StoreError
from blocklistd.lines.expiry import has_ended
from blocklistd.lines.snapshot import find
from blocklistd.model import ListId, SourceId
from blocklistd.pipeline.explain_words import sentence
from blocklistd.pipeline.list_context import ListContext
from blocklistd.pipeline.list_rules import entry_ages, instant_of, live_rules
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.store import kept_entries
from blocklistd.store.entries import FoundEntry, asserted_since, covering, find_entry, offered_lines
from blocklistd.store.entry_versions import EntryVersions, change_of, versions_of_entry
from blocklistd.store.files import SealedFiles
from blocklistd.store.kept_entries import Confirmation
from blocklistd.store.lists import ListState


@dataclass(frozen=True, slots=True)
class Assertion:
    """A source that asserts an entry. `line`: its canonical line. `since`: since when it asserts the entry; None if
    that is not known. `state`: `accepted` (the live version was composed with it), `offered` (its newest entries have
    it, but the live version was not composed with them), `quarantine`, `not taken` (the policy in force is without the
    source)."""

    source: SourceId
    line: bytes
    since: datetime | None
    state: str


@dataclass(frozen=True, slots=True)
class HeldChange:
    """A held candidate that would change the entry: `change` is added, removed or changed."""

    candidate: Candidate
    change: str


@dataclass(frozen=True, slots=True)
class WhyNot:
    """Why an entry is not live: the rule, and a sentence for a person."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a list knows of an entry. `rule`: the rule that withholds it. `why_not`: None if it is live. `covered_by`:
    ids of other live entries that block its name. `ending`: the term of a live entry that ends first, if the list has a
    lifetime; `is_due`: it has ended. `kept`: the newest confirmation by a person. `is_test`: whether it is a test entry
    of the policy in force."""

    entry: FoundEntry
    assertions: tuple[Assertion, ...]
    versions: EntryVersions
    held: tuple[HeldChange, ...]
    rule: str | None
    why_not: WhyNot | None
    covered_by: tuple[str, ...]
    ending: Ending | None = None
    is_due: bool = False
    kept: Confirmation | None = None
    is_test: bool = False

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """Those in force."""
        return self.entry.corrections

    @property
    def is_known(self) -> bool:
        """Whether the list knows the entry now, or has known it."""
        return self.entry.is_known or bool(self.assertions or self.versions.intervals)


class Explainer:
    """Explains entries. It takes no lock, so a commit that runs at the same time is in the answer or not."""

    def __init__(self, resources: Resources, releaser: Releaser) -> None:
        self._files = resources.store.sealed
        self._database = resources.database
        self._clock = resources.clock
        self._releaser = releaser

    async def explain(self, list_id: ListId, text: str) -> list[Explanation]:
        """The entries that `text` names: first those that are live, then those that the list knows, then the others.

        Raises RefusedError where the list is not configured, where the text is no entry, or where no entry has the id;
        StoreError where files can't be read.
        """
        plan = self._releaser.plan_of(list_id)

        def read(connection: Connection) -> list[Explanation]:
            context = self._releaser.context(connection, plan)
            found = find_entry(self._files, connection, list_id, text)
            return [self.explained(connection, context, entry) for entry in found]

        found = await self._database.reading(read)
        return sorted(found, key=lambda one: (one.entry.live is None, not one.is_known))

    def explained(self, connection: Connection, context: ListContext, entry: FoundEntry) -> Explanation:
        """The explanation of one entry of the list. Raises StoreError where files can't be read."""
        state, live = context.state, entry.live is not None
        assertions = self._assertions(connection, context, entry)
        held = tuple(
            HeldChange(case.candidate, change)
            for case in context.held
            if case.candidate.id in entry.held
            and (change := _change(self._files, case.candidate, entry.key)) is not None
        )
        made = versions_of_entry(self._files, connection, state.id, entry.key, is_live=live)
        rule, lasting = self._rule(connection, state, entry)
        found = Explanation(
            entry=entry,
            assertions=assertions,
            versions=made,
            held=held,
            rule=rule,
            why_not=None,
            covered_by=tuple(covering(self._files, state, entry.type, entry.value)),
            kept=kept_entries.confirmation(connection, state.id, entry.type, entry.value),
            is_test=state.policy is not None and entry.key in keys_of_tests(state.policy.tests),
        )
        if live and not found.is_test and (ending := self._ending(connection, context, entry)) is not None:
            now = instant_of(self._clock())
            found = replace(found, ending=ending, is_due=now is not None and ending.end <= now)
        if live:
            return found
        name = rule or self._reason(connection, context, found)
        return replace(found, why_not=WhyNot(name, sentence(name, context, found, lasting)))

    def _rule(self, connection: Connection, state: ListState, entry: FoundEntry) -> tuple[str | None, int]:
        """The rule that withholds the entry from the live version, and how many sources assert it that have not ended.
        A correction in force counts for an entry that no source asserts, too."""
        if state.policy is None:
            return next((one.kind.value for one in entry.corrections), None), 0
        kept = kept_entries.kept(connection, state.id)
        with live_rules(self._files, state, state.policy, kept) as rules:
            asserted = self._asserted(state, entry)
            found = evaluate(entry.key, asserted, rules, is_live=entry.live is not None)
            lasting = sum(not has_ended(line, rules.now) for _, line in asserted)
            if not asserted and state.basis is not None and entry.accepted:  # a rollback is not the only reason
                found = found._replace(rule=withheld(entry.key + b"}", rules))
        if found.rule is not None or found.line is not None:
            return found.rule, lasting
        return next((one.kind.value for one in entry.corrections), None), lasting

    def _ending(self, connection: Connection, context: ListContext, entry: FoundEntry) -> Ending | None:
        """When the lifetime of a live entry ends, by the configured terms; None if it does not end."""
        state, plan = context.state, context.plan
        terms = Terms(plan.reverify, plan.max_life)
        if not terms or state.policy is None or state.live is None or state.basis is not None:
            return None
        policy = replace(state.policy, reverify=terms.reverify, max_life=terms.max_life)
        kept, now = kept_entries.kept(connection, state.id), instant_of(self._clock())
        with entry_ages(self._files, policy, state.ages, kept, state.live.time) as ages:
            lasting = [(index, line) for index, line in self._asserted(state, entry) if not has_ended(line, now)]
            return ages.ending_of(entry.key, lasting)

    def _asserted(self, state: ListState, entry: FoundEntry) -> Asserted:
        """The lines from which the live version was composed."""
        if state.basis is not None:
            with self._files.map(state.basis) as basis:
                line = find(basis, entry.key)
                return [] if line is None else [(0, bytes(line))]
        order = state.policy.sources if state.policy else ()
        return [(index, entry.accepted[name]) for index, name in enumerate(order) if name in entry.accepted]

    def _assertions(self, connection: Connection, context: ListContext, entry: FoundEntry) -> tuple[Assertion, ...]:
        """The sources that assert the entry: those of the policy in its order, then the others that are configured."""
        state, plan = context.state, context.plan
        taken = state.policy.sources if state.policy else ()
        configured = [one for one in self._releaser.sources.values() if plan.id in one.lists]
        quarantined = {one.id for one in configured if one.quarantine}
        more = [name for name in (*plan.sources, *sorted(one.id for one in configured)) if name not in taken]
        others = offered_lines(self._files, connection, list(dict.fromkeys(more)), entry.key)
        found: dict[SourceId, tuple[bytes, str]] = {}
        for name in taken:
            if (line := entry.accepted.get(name)) is not None:
                found[name] = line, "accepted"
            elif (line := entry.offered.get(name)) is not None:
                found[name] = line, "quarantine" if name in quarantined else "offered"
        for name, line in others.items():
            state_of = "quarantine" if name in quarantined else "offered" if state.live is None else "not taken"
            found.setdefault(name, (line, state_of))
        since = asserted_since(self._files, connection, state, entry, found)
        return tuple(Assertion(name, line, since.get(name), state_of) for name, (line, state_of) in found.items())

    def _reason(self, connection: Connection, context: ListContext, found: Explanation) -> str:
        """Why an entry is not live that no rule withholds."""
        if any(one.change == "added" for one in found.held):
            return "held"
        if found.entry.key in keys_of_tests(context.plan.tests):
            return "test_entry"
        states = {one.state for one in found.assertions}
        if "offered" in states:
            if any(_change(self._files, one, found.entry.key) == "added" for one in context.rejected):
                return "rejected"
            return "frozen" if context.state.frozen else "not_released" if context.state.live else "no_version"
        for state in ("not taken", "quarantine"):
            if state in states:
                return state.replace(" ", "_")
        if "accepted" in states:
            return "rollback" if context.state.basis is not None else "not_composed"
        return "not_asserted" if found.versions.intervals else "never_asserted"


def _change(files: SealedFiles, candidate: Candidate, key: bytes) -> str | None:
    with suppress(StoreError, ValueError):  # the delta of a candidate that was rejected long ago is not kept
        return change_of(files, candidate.delta, key)
    return None

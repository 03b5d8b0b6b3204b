"""The machine that compares the daemon's stages with a plain model of a list, after each event: the part that all such
machines share (tests/property/test_model.py)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import replace
from datetime import date, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blocklistd.change import Candidate, Change, ChangeKind, Correction, CorrectionKind, VersionInfo
from blocklistd.errors import RefusedError
from blocklistd.kinds import readings
from blocklistd.lines.delta import ENTRIES, parse
from blocklistd.model import Act, Outcome, Sha256, SourceId, Version
from blocklistd.pipeline.corrections import Corrections
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.due import DueEntries
from blocklistd.pipeline.explain import Explainer
from blocklistd.pipeline.freezing import Freezing
from blocklistd.pipeline.guard_names import seal_names
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.store import candidates, guard_hits
from blocklistd.store.lists import release, version_rows
from blocklistd.store.pulls import accept_body
from blocklistd.times import TOLERANCE, rfc3339
from tests import reference
from tests.list_model import KEYS, NAMES, SOURCES, TEST, Key, Line, Listing, Model, Rules, is_protected
from tests.unit.test_pipeline_pull import NoPublisher, NoZones, background_ended, hotline, render_nothing, resources_of
from tests.versions_of import LIST, NOW, Versions, report

T = TypeVar("T")
FORMAT: Final = FormatOptions({"type": "/t", "value": "/v", "category": "/c", "expires": "/e"}, {})
DELISTED, EMBARGOED, EXCEPTED = CorrectionKind.DELISTED, CorrectionKind.EMBARGOED, CorrectionKind.EXCEPTED
EDITOR = Act("entry delist", "alice", 1000)
HEAD = Act("list rollback", "dave", 1003)
BASIS = "basis"
REVIEWERS = [Act("candidate approve", name, uid) for name, uid in (("bob", 1001), ("carol", 1002))]

ends = st.sampled_from([-2, 0, 1, 3, 9, 14, 20, 40]).map(lambda hours: NOW + timedelta(hours=hours))
lines = st.tuples(st.none() | ends, st.sampled_from("AB"))
listings = st.dictionaries(st.sampled_from(KEYS), lines, max_size=6)
all_rules = st.builds(
    Rules,
    sources=st.sampled_from([("a", "b"), ("b", "a"), ("a",), ("c", "a", "b"), ("a", "b", "c")]),
    quorum=st.sampled_from([1, 1, 2]),
    types=st.sampled_from([("url", "host", "domain"), ("url", "host", "domain"), ("domain",)]),
    protected=st.frozensets(st.sampled_from([*NAMES, "x.b.a.example"]), max_size=1),
    additions=st.sampled_from([True, True, True, False]),
    tests=st.sampled_from([(), (), ("a.example",), ("c.test", "b.a.example")]),
)
texts = st.sampled_from([*NAMES, "https://a.example/"])
terms = st.sampled_from([None, None, 12, 24, 48])
untils = st.none() | st.integers(1, 9)


Corrected = tuple[CorrectionKind, Key]
Commit = tuple[Change, datetime, datetime | None]
"""What a commit recorded: the change, its time, and by when entries have ended."""
Changes = tuple[frozenset[bytes], frozenset[bytes]]
"""The removed and the added lines of a delta."""


class World(RuleBasedStateMachine):
    """The real list: the store and the pipeline, with jobs in this process."""

    guards: dict[str, Any]
    stops = True
    """Whether additions stop at times."""
    reverify: int | None = None
    max_life: int | None = None
    """The terms, in hours."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.patch = self.stack.enter_context(pytest.MonkeyPatch.context())
        self.patch.setattr("blocklistd.pipeline.due.lower_priority", lambda nice: None)
        self.commits: list[Commit] = []
        self.observe()
        self.now = NOW
        self.model = Model()
        self.wanted = Rules()
        self.lines: list[bytes] = []  # of the newest version that was checked, by its delta
        self.numbers: dict[int, Sha256] = {}
        self.history: dict[Key, list[list[float]]] = defaultdict(list)  # in which versions an entry was
        self.expiries: Counter[date] = Counter()
        self.went_back = False
        self.listings: dict[Sha256, Listing] = {}
        self.names: dict[Sha256 | None, frozenset[str]] = {}
        self.steps = 0
        self.open()

    def observe(self) -> None:
        """Every commit is in `commits` from now on."""

        def observed(connection: Any, state: Any, change: Change, made: Any, **more: Any) -> Version:
            self.commits.append((change, more["now"], more["evaluated"]))
            return release(connection, state, change, made, **more)

        self.patch.setattr("blocklistd.pipeline.commit.release", observed)

    def open(self) -> None:
        self.versions = Versions(self.folder, *SOURCES)
        resources = replace(resources_of(self.versions), clock=lambda: self.now)
        self.alarms = resources.alarms
        self.releases = Releaser(resources, NoPublisher(), NoZones(), render_nothing)
        self.reconciler = Reconciler(self.releases, self.versions.database)
        self.decisions = Decisions(self.releases, self.reconciler, self.versions.database, lambda: self.now)
        self.corrections = Corrections(resources, self.releases)
        self.freezing = Freezing(resources, self.releases, self.reconciler)
        self.dues = DueEntries(resources, self.releases, self.reconciler)
        self.configure()

    def configure(self) -> None:
        rules = self.wanted
        protected = seal_names(self.versions.store.sealed, rules.protected)
        self.names[protected] = rules.protected
        plan = replace(
            self.versions.plan,
            sources=tuple(map(SourceId, rules.sources)),
            quorum=rules.quorum,
            types=rules.types,
            never_block=protected,
            additions=rules.additions or not self.stops,
            tests=rules.tests,
            reverify=self.reverify and self.reverify * 3600,
            max_life=self.max_life and self.max_life * 3600,
            ends_by_age=bool(self.reverify or self.max_life),
            **self.guards,
        )
        sources = {SourceId(name): replace(hotline(name), quarantine=name not in rules.sources) for name in SOURCES}
        self.releases.configure({LIST: plan}, sources)

    def teardown(self) -> None:
        self.versions.close()
        self.stack.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        self.steps += 1

        async def settled() -> T:
            done = await work
            await background_ended(self.releases)
            return done

        return asyncio.run(settled())

    def seal(self, source: str, listing: Listing) -> None:
        """What a pull stores before the source's lists hear of it."""
        records = (
            {"t": kind, "v": value, "c": category, "e": ends and rfc3339(ends)}
            for (kind, value), (ends, category) in listing.items()
        )
        body = b"".join(orjson.dumps(record) + b"\n" for record in records)
        sealed = self.versions.offer(body, "ndjson", FORMAT, source)
        plan = self.releases.sources[SourceId(source)]
        with self.versions.database.write() as connection:
            accept_body(connection, plan.id, report(sealed), plan.settings)
        self.model.offers[source] = self.listings[sealed] = listing

    @property
    def held(self) -> list[Candidate]:
        with self.versions.database.read() as connection:
            found = candidates.held(connection, LIST)
        return sorted((case.candidate for case in found), key=lambda one: (one.change.kind, one.change.cause))

    def changes(self, delta: Sha256) -> Changes:
        removes, adds = parse(ENTRIES, self.versions.store.sealed.path(delta).read_bytes())
        return frozenset(removes), frozenset(adds)

    def taken(self, event: Callable[[], None]) -> None:
        """The list took the change of an event as far as the guards let it: tells the model."""
        raise NotImplementedError

    def ended(self, passed: set[Corrected]) -> None:
        """The ends of these corrections were requested: tells the model."""
        raise NotImplementedError

    def expiry_waits(self) -> bool:
        """Whether an expiry waits for a person, or was rejected."""
        return False

    def judge(self, row: VersionInfo, changes: Changes, live: int) -> None:
        """Judges a new version, which made these changes of a list of `live` entries."""

    # -- events --------------------------------------------------------------------------------------------------------

    @initialize(listed=st.tuples(*[listings] * len(SOURCES)), complete=st.booleans())
    def begin(self, listed: tuple[Listing, ...], complete: bool) -> None:
        """`complete`: every change is composed in full."""
        if complete:
            self.patch.setattr("blocklistd.pipeline.composing.FEW", 0)
        for source, listing in zip(SOURCES, listed, strict=True):
            self.seal(source, listing)

    @rule(source=st.sampled_from(SOURCES), listing=listings)
    def pull(self, source: str, listing: Listing) -> None:
        self.seal(source, listing)
        self.run(self.releases.offer_to_lists(self.releases.sources[SourceId(source)]))
        if source in self.wanted.sources:
            self.taken(lambda: self.model.offer(source, self.wanted))

    @rule(source=st.sampled_from(SOURCES), key=st.sampled_from(KEYS), line=lines)
    def change_one(self, source: str, key: Key, line: Line) -> None:
        """A source asserts another entry, or withdraws one."""
        listing = self.model.offers[source]
        self.pull(
            source, {of: line for of, line in listing.items() if of != key} if key in listing else listing | {key: line}
        )

    @rule(rules=all_rules)
    def reload(self, rules: Rules) -> None:
        self.wanted = rules
        self.configure()
        self.run(self.reconciler.reconcile())
        self.taken(lambda: self.model.reload(rules))

    @precondition(lambda self: self.steps > 8)
    @rule()
    def restart(self) -> None:
        self.versions.close()
        self.open()
        self.reload(self.wanted)
        self.steps = 0

    @rule(hours=st.sampled_from([0.5, 1, 3, 12, 24, -1.5]), wrong=st.sampled_from([False, False, False, True]))
    def wait(self, hours: float, wrong: bool) -> None:
        """The time passes, or the clock is set back, and the daemon's work of each minute is done. `wrong`: the clock
        is known to be wrong."""
        self.now += timedelta(hours=hours)
        self.went_back |= hours < 0
        self.alarms.set_alarm("clock", text="it is wrong" if wrong else None)
        before = self.versions.state.version
        self.run(self.reconciler.expire(LIST))
        self.run(self.corrections.end_passed(LIST))
        if wrong:
            assert self.versions.state.version == before
        else:
            self.ended({one for one, until in self.model.corrected.items() if until is not None and until <= self.now})
            state = self.versions.state
            evaluated = state.evaluated or self.now
            assert state.frozen is not None or self.expiry_waits() or evaluated <= self.now + TOLERANCE
        self.taken(self.model.compose)

    @rule(text=texts, kind=st.sampled_from([DELISTED, EMBARGOED]), hours=untils)
    def correct(self, text: str, kind: CorrectionKind, hours: int | None) -> None:
        until = None if hours is None else self.now + timedelta(hours=hours)
        named = set(readings(text))
        try:
            placed = self.run(self.corrections.place(LIST, text, kind, "a mistake", EDITOR, until=until, owner="unit"))
        except RefusedError:
            return
        entries = {(one.type, one.value) for one in placed.entries}
        assert entries <= named
        self.model.corrected |= {(kind, key): until for key in entries}
        self.taken(self.model.compose)
        assert not (self.model.live or {}).keys() & named, "it is out at once"

    @rule(text=texts, kind=st.sampled_from([DELISTED, EMBARGOED, EXCEPTED]))
    def end_correction(self, text: str, kind: CorrectionKind) -> None:
        try:
            ended = self.run(self.corrections.end(LIST, text, {kind}, "no mistake", EDITOR))
        except RefusedError:
            assert not any((kind, key) in self.model.corrected for key in readings(text))
            return
        entries = {(one.type, one.value) for one in ended.ended}
        assert entries == {key for key in readings(text) if (kind, key) in self.model.corrected}
        if ended.result.outcome is not Outcome.HELD:
            for key in entries:
                del self.model.corrected[kind, key]
        self.taken(self.model.compose)

    # -- the law -------------------------------------------------------------------------------------------------------

    @invariant()
    def the_list_is_that_of_the_model(self) -> None:
        state, model = self.versions.state, self.model
        assert (state.live is None) == (model.live is None)
        self.replay()
        if state.live is None or model.live is None:
            return
        found = {keyed(line): (of.get("expires"), category_of(of)) for line in self.lines if (of := json.loads(line))}
        assert found == {key: (ends and rfc3339(ends), category) for key, (ends, category) in model.live.items()}
        assert state.live.entries == len(model.live)
        assert state.withheld == Counter(model.withheld.values())
        assert not any(is_protected(key, model.rules.protected) for key in found.keys() - model.rules.test_keys)
        assert {place_of(one): one.until for one in state.corrections} == model.corrected
        with self.versions.database.read() as connection:
            hits = {(row.type, row.value) for row in guard_hits.of_list(connection, LIST)}
        assert hits == {key for key, rule in model.withheld.items() if rule == "never_block"}

    def replay(self) -> None:
        """Each version has a number of its own, higher than all before, and its delta leads from the version before to
        it."""
        with self.versions.database.read() as connection:
            rows = sorted(version_rows(connection, LIST), key=lambda row: row.version)
        files = self.versions.store.sealed
        for row in rows:
            if row.version in self.numbers:
                assert self.numbers[row.version] == row.sha256
                continue
            assert row.version > max(self.numbers, default=0)
            self.numbers[row.version] = row.sha256
            before = b"".join(self.lines)
            if row.delta is None:
                assert row.version == 1
                after = files.path(row.sha256).read_bytes()
            else:
                after = b"".join(reference.apply(ENTRIES, before, files.path(row.delta).read_bytes()))
                assert after != before, "a version that changes nothing"
                self.judge(row, self.changes(row.delta), len(self.lines))
            assert Sha256(hashlib.sha256(after).hexdigest()) == row.sha256
            self.lines, lines = after.splitlines(keepends=True), self.lines
            was, now = ({keyed(line) for line in some} for some in (lines, self.lines))
            for key in was - now:
                self.history[key][-1][1] = row.version
            for key in now - was:
                self.history[key].append([row.version, inf])
            self.expiries[row.time.date()] += row.kind is ChangeKind.EXPIRY and row.released_by == "auto"
        assert self.went_back or max(self.expiries.values(), default=0) <= 1

    @rule(text=texts)
    def explain(self, text: str) -> None:
        model = self.model
        found = self.run(Explainer(self.releases.resources, self.releases).explain(LIST, text))
        assert {(one.entry.type, one.entry.value) for one in found} == {*readings(text)}
        for one in found:
            key = one.entry.type, one.entry.value
            assert (one.entry.live is not None) == (one.why_not is None) == (key in (model.live or {}))
            asserting = model.asserting(key) if model.live is not None else []
            if BASIS not in model.accepted:
                assert [of.source for of in one.assertions if of.state == "accepted"] == asserting
            assert {of.kind for of in one.corrections} == {kind for kind, of in model.corrected if of == key}
            assert one.is_test == (key in model.rules.test_keys and model.live is not None)
            if asserting or one.is_test:
                assert one.rule == model.withheld.get(key)
            assert [[of.added_in, of.removed_in or inf] for of in one.versions.intervals] == self.history[key]
            effects = {held.id: effect(self.changes(held.delta), key) for held in self.held}
            assert {of.candidate.id: of.change for of in one.held} == {name: of for name, of in effects.items() if of}


def keyed(line: bytes) -> Key:
    found = json.loads(line)
    return found["type"], found["value"]


def category_of(entry: dict[str, Any]) -> str:
    """The category as the model has it."""
    return TEST if entry.get("test") is True else entry["category"]


def effect(changes: Changes, key: Key) -> str | None:
    """What a delta does to an entry."""
    removed, added = (key in map(keyed, lines) for lines in changes)
    return "changed" if removed and added else "removed" if removed else "added" if added else None


def place_of(correction: Correction) -> Corrected:
    return correction.kind, (correction.type, correction.value)

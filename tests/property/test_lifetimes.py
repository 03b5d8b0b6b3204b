"""The laws of lifetimes: which entries end by their age, whatever the order of pulls, expiries and reloads, and whether
a change is composed key by key or in full."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from blocklistd.change import Change, ChangeKind
from blocklistd.compose.compose import ListRules
from blocklistd.lines.keys import key_of
from blocklistd.model import Act, CandidateId, Entry, SourceId
from blocklistd.pipeline import commit
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.store import kept_entries
from blocklistd.times import rfc3339
from tests import reference
from tests.examples import examples
from tests.versions_of import ANYTHING, LIST, NOW, Versions

SOURCES = ("first", "second", "third")
NAMES = [f"{label}.example" for label in "abcde"]
OPTIONS = FormatOptions({"value": "/v", "category": "/c", "expires": "/e", "verified_at": "/a"}, {"type": "domain"})
DAYS = st.integers(-6, 8)
LISTED = st.lists(
    st.tuples(st.sampled_from(NAMES), st.none() | DAYS, st.none() | DAYS, st.sampled_from("AB")), max_size=6
)


@dataclass(frozen=True)
class Pull:
    """A source lists names: each with the day on which it ends, that on which it was verified, and a category."""

    source: str
    listed: list[tuple[str, int | None, int | None, str]]


@dataclass(frozen=True)
class Time:
    """Time passes, or the clock is set back; then an expiry is made if one is due."""

    hours: int
    expires: bool


@dataclass(frozen=True)
class Terms:
    """A reload: other terms, in days."""

    reverify: int | None
    max_life: int | None


@dataclass(frozen=True)
class Keep:
    """A person keeps an entry, if it is live."""

    name: str


STEPS = st.lists(
    st.builds(Pull, st.sampled_from(SOURCES), LISTED)
    | st.builds(Time, st.sampled_from([13, 24, 50, 120, -30]), st.booleans())
    | st.builds(Terms, st.none() | st.integers(1, 4), st.none() | st.integers(1, 4))
    | st.builds(Keep, st.sampled_from(NAMES)),
    min_size=3,
    max_size=12,
)


@dataclass
class Model:
    """The plain definition: since when each source asserts each entry, in a dictionary."""

    quorum: int
    terms: Terms
    asserted: dict[str, bytes] = field(default_factory=dict)
    since: dict[str, dict[bytes, tuple[datetime, bool]]] = field(default_factory=dict)
    """For each source and key the time, and whether the source has added the entry to an earlier list of its own."""
    kept: dict[bytes, datetime] = field(default_factory=dict)

    def pull(self, source: str, lines: bytes, now: datetime) -> None:
        known, is_first = self.since.get(source, {}), source not in self.since
        keys = [key_of(line) for line in lines.splitlines()]
        self.since[source] = {key: known.get(key, (now, not is_first)) for key in keys}
        self.asserted[source] = lines

    def has_outlived(self, key: bytes, now: bytes) -> bool:
        ends = []
        for source in SOURCES:
            line = next((one for one in self.asserted.get(source, b"").splitlines() if key_of(one) == key), None)
            if line is None:
                continue
            attributes = orjson.loads(line)
            if str(attributes.get("expires", "~")) <= now.decode():
                continue
            since, was_added = self.since[source][key]
            confirmed = since
            if "verified_at" in attributes:
                verified = datetime.fromisoformat(attributes["verified_at"]).replace(tzinfo=NOW.tzinfo)
                confirmed = max(verified, since) if was_added else verified
            kept = self.kept.get(key, datetime.min.replace(tzinfo=NOW.tzinfo))
            found = [datetime.max.replace(tzinfo=NOW.tzinfo)]
            if self.terms.reverify is not None:
                found.append(max(confirmed, kept) + timedelta(days=self.terms.reverify))
            if self.terms.max_life is not None:
                found.append(max(since, kept) + timedelta(days=self.terms.max_life))
            ends.append(min(found))
        return sum(rfc3339(end).encode() > now for end in ends) < self.quorum


def body(listed: list[tuple[str, int | None, int | None, str]]) -> bytes:
    def day(number: int | None, form: str) -> str | None:
        return None if number is None else (NOW + timedelta(days=number)).strftime(form)

    records = (
        {"v": name, "c": category, "e": day(ends, "%Y-%m-%dT%H:%M:%SZ"), "a": day(verified, "%Y-%m-%d")}
        for name, ends, verified, category in listed
    )
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from([0, 2000]), st.sampled_from([1, 1, 2]))
@example([Pull("first", [("a.example", None, None, "A")]), Time(50, True), Pull("first", [])], 2000, 1)
def test_the_live_list_is_what_its_sources_assert_within_the_terms(
    steps: list[Pull | Time | Terms | Keep], few: int, quorum: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        for module in ("composing", "aging"):
            monkeypatch.setattr(f"blocklistd.pipeline.{module}.FEW", few)
        monkeypatch.setattr("blocklistd.compose.compose_all.BLOCK", 100)
        versions = Versions(Path(folder), *SOURCES)
        model, now = Model(quorum, Terms(2, 3)), NOW
        try:
            versions.plan = _plan(versions, model)
            for step in steps:
                before, kind = _live(versions), ChangeKind.SOURCE
                match step:
                    case Pull():
                        said = body(step.listed)
                        lines = io.BytesIO()
                        reference.read_entries(said, "ndjson", OPTIONS, None, lines)
                        model.pull(step.source, lines.getvalue(), now)
                        versions.publish(versions.offer(said, "ndjson", OPTIONS, step.source), step.source, now)
                    case Time():
                        now += timedelta(hours=step.hours)
                        if not step.expires or not versions.state.expiry_is_due(now):
                            continue
                        kind = ChangeKind.EXPIRY
                        assert versions.expire(now).candidate is None
                    case Terms():
                        model.terms = step if step.reverify or step.max_life else model.terms
                        versions.plan = _plan(versions, model)
                        if versions.state.live is None:
                            continue
                        _reload(versions, now)
                    case Keep():
                        key = Entry("domain", step.name).line()[:-1]
                        if key not in before:
                            continue
                        model.kept[key] = now
                        with versions.database.write() as connection:
                            act = Act("entry keep", "alice", 1000)
                            kept_entries.keep(connection, LIST, [("domain", step.name)], "seen", act, now)
                        continue
                state = versions.state
                if state.live is None:
                    continue
                assert state.evaluated is not None
                rules = ListRules(
                    state.ids,
                    ("url", "host", "domain"),
                    False,
                    False,
                    rfc3339(state.evaluated).encode(),
                    quorum=quorum,
                    keeps_live=kind != ChangeKind.EXPIRY,
                )
                sources = [model.asserted[name] for name in SOURCES if name in model.asserted]
                (plain,) = reference.compose_all(sources, rules, before, model.has_outlived)
                assert versions.live == plain.data
                assert state.withheld == plain.withheld
                for key in _live(versions):
                    for moment in (state.next_expiry or datetime.max.replace(tzinfo=NOW.tzinfo),):
                        if kind == ChangeKind.EXPIRY:
                            just_before = rfc3339(moment - timedelta(seconds=1)).encode()
                            assert not model.has_outlived(key, just_before), "next_expiry is not later than an end"
        finally:
            versions.close()


def _plan(versions: Versions, model: Model) -> ListPlan:
    def seconds(days: int | None) -> int | None:
        return days * 86400 if days is not None else None

    return replace(
        versions.plan,
        **ANYTHING | {"min_change": 10**9},
        quorum=model.quorum,
        reverify=seconds(model.terms.reverify),
        max_life=seconds(model.terms.max_life),
        ends_by_age=True,
    )


def _reload(versions: Versions, now: datetime) -> None:
    sources = {name: digest for name, digest in versions.state.accepted.items() if name in map(SourceId, SOURCES)}
    change = Change(ChangeKind.POLICY, "", versions.plan.policy, sources)
    made = commit.commit(versions.store, commit.CommitRequest(versions.plan, change, CandidateId("c-1"), now, {}))
    assert made.candidate is None


def _live(versions: Versions) -> set[bytes]:
    return {key_of(line) for line in versions.live.splitlines()}

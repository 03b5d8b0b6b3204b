"""The laws of expiries: a list has exactly the entries that a source asserts and that have not ended."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocklistd.compose.compose import ENDED, ListRules
from blocklistd.compose.compose_all import compose_all
from blocklistd.errors import RefusedError
from blocklistd.lines.expiry import expiries, first_expiry
from blocklistd.lines.ids import BLAKE2B, Ids
from blocklistd.model import Entry
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.store import candidates
from blocklistd.store.asserted import open_assertion
from blocklistd.store.pulls import accept_body
from blocklistd.times import rfc3339
from tests import reference
from tests.examples import examples
from tests.unit.test_pipeline_expiry import Scene
from tests.versions_of import LIST, NOW, Versions, report

SOURCES = ("first", "second", "third")
NAMES = [f"{label}.example" for label in "abcde"]
HOURS = st.integers(-2, 6)
NDJSON = FormatOptions({"value": "/v", "category": "/c", "expires": "/e"}, {"type": "domain"})
LISTED = st.lists(st.tuples(st.sampled_from([*NAMES, "example"]), st.none() | HOURS, st.sampled_from("AB")), max_size=8)


@dataclass(frozen=True)
class Pull:
    """A source lists names: each with the hour at which it ends (None: it does not), and a category."""

    source: str
    listed: list[tuple[str, int | None, str]]


@dataclass(frozen=True)
class Clock:
    """Time passes, or the clock is set back; `expires`: the daemon makes the expiry that is then due."""

    minutes: int
    expires: bool


STEPS = st.lists(
    st.builds(Pull, st.sampled_from(SOURCES), LISTED)
    | st.builds(Clock, st.sampled_from([30, 60, 150, -90]), st.booleans()),
    min_size=2,
    max_size=10,
)


def hour(number: int) -> datetime:
    return NOW + timedelta(hours=number)


def body(listed: list[tuple[str, int | None, str]]) -> bytes:
    records = (
        {"v": name, "c": category, "e": None if ends is None else rfc3339(hour(ends))}
        for name, ends, category in listed
    )
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from([0, 2000]), st.sampled_from([0, 1000]))
def test_the_live_list_is_what_a_source_asserts_and_has_not_ended(
    steps: list[Pull | Clock], few: int, patch_limit: int
) -> None:
    """Whatever the order of pulls, expiries and steps of the clock, composed key by key or in full."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("blocklistd.sources.intake.entries.SMALL_DIFF", patch_limit)
        monkeypatch.setattr("blocklistd.pipeline.composing.FEW", few)
        versions = Versions(Path(folder), *SOURCES)
        now = NOW
        asserted: dict[str, bytes] = {}
        try:
            for step in steps:
                match step:
                    case Pull():
                        was_due = versions.state.expiry_is_due(now)
                        said = body(step.listed)
                        out = io.BytesIO()
                        reference.read_entries(said, "ndjson", NDJSON, None, out)
                        asserted[step.source] = out.getvalue()
                        versions.publish(versions.offer(said, "ndjson", NDJSON, step.source), step.source, now)
                        assert was_due or versions.state.evaluated == now
                    case Clock():
                        now += timedelta(minutes=step.minutes)
                        if step.expires and versions.state.expiry_is_due(now):
                            made = versions.expire(now)
                            assert made.candidate is None
                            assert not versions.state.expiry_is_due(now)
                            assert versions.state.evaluated == now
                state = versions.state
                if state.live is None:
                    continue
                assert state.evaluated is not None
                rules = ListRules(state.ids, ("url", "host", "domain"), False, False, rfc3339(state.evaluated).encode())
                (plain,) = reference.compose_all([asserted[name] for name in SOURCES if name in asserted], rules)
                assert versions.live == plain.data
                assert state.withheld == plain.withheld
                assert state.live.entries == plain.entries
                first = first_expiry(versions.live)
                if first is not None:
                    assert state.next_expiry is not None
                    assert state.next_expiry <= datetime.fromisoformat(first.decode()), "a lower bound"
                    assert state.next_expiry > state.evaluated
        finally:
            versions.close()


@dataclass(frozen=True)
class Approve:
    """A reviewer approves the oldest held candidate."""


@dataclass(frozen=True)
class Reload:
    """The daemon starts again, or reloads the same configuration."""


GUARDED = st.lists(
    st.builds(Pull, st.sampled_from(["first", "second"]), LISTED)
    | st.builds(Clock, st.sampled_from([30, 60, 150, -90]), st.booleans())
    | st.just(Approve())
    | st.just(Reload()),
    min_size=3,
    max_size=12,
)


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(GUARDED)
def test_what_is_held_and_approved_later_brings_in_nothing_that_has_ended(
    steps: list[Pull | Clock | Approve | Reload],
) -> None:
    """The live list is what the accepted entries of the sources assert at the time of the last evaluation, and an
    approval is evaluated at its own time."""
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        try:
            asyncio.run(_run(scene, steps))
        finally:
            scene.versions.close()


async def _run(scene: Scene, steps: list[Pull | Clock | Approve | Reload]) -> None:
    await scene.configure(max_added=0.5, max_removed=0.3, min_change=1, min_entries=0, daily=None)
    versions = scene.versions
    for step in steps:
        match step:
            case Pull():
                sealed = versions.offer(body(step.listed), "ndjson", NDJSON, step.source)
                source = scene.sources[step.source]
                with versions.database.write() as connection:
                    accept_body(connection, source.id, report(sealed), source.settings)
                await scene.releases.offer(LIST, source.id)
            case Clock():
                scene.now += timedelta(minutes=step.minutes)
                if step.expires:
                    await scene.reconciler.expire(LIST)
                    assert not versions.state.expiry_is_due(scene.now)
            case Approve():
                with versions.database.read() as connection:
                    held = candidates.held(connection, LIST)
                if held:
                    with contextlib.suppress(RefusedError):  # the delta may be that of a rejected candidate
                        await scene.approve(held[0].candidate.id)
                    assert not versions.state.expiry_is_due(scene.now)
            case Reload():
                await scene.reconciler.reconcile()
                assert not versions.state.expiry_is_due(scene.now)
        state = versions.state
        if state.live is None:
            continue
        assert state.evaluated is not None
        assert state.policy is not None
        now = rfc3339(state.evaluated).encode()
        rules = ListRules(state.ids, state.policy.types, False, False, now)
        accepted = []
        for name in state.policy.sources:
            if name in state.accepted:
                with open_assertion(versions.store.sealed, state.accepted[name]) as (_, lines):
                    accepted.append(b"".join(lines.chunks()))
        (plain,) = reference.compose_all(accepted, rules)
        assert versions.live == plain.data
        assert state.withheld == plain.withheld


LINES = st.dictionaries(st.sampled_from(NAMES), st.none() | HOURS, max_size=5).map(
    lambda listed: b"".join(
        Entry("domain", name, {} if ends is None else {"expires": rfc3339(hour(ends))}).line() + b"\n"
        for name, ends in sorted(listed.items())
    )
)


@given(st.lists(LINES, min_size=1, max_size=3), st.none() | HOURS)
def test_composing_in_full_is_the_plain_implementation(sources: list[bytes], at: int | None) -> None:
    now = None if at is None else rfc3339(hour(at)).encode()
    rules = ListRules(Ids(BLAKE2B, b"s" * 32), ("domain",), True, False, now)
    chunks = list(compose_all(sources, rules))
    (plain,) = reference.compose_all(sources, rules)
    assert b"".join(chunk.data for chunk in chunks) == plain.data
    assert sum(chunk.withheld.get(ENDED, 0) for chunk in chunks) == plain.withheld.get(ENDED, 0)
    assert min((chunk.next_expiry for chunk in chunks if chunk.next_expiry), default=None) == plain.next_expiry


@given(LINES, st.none() | HOURS)
def test_the_expiries_of_a_file_are_those_of_its_lines(file: bytes, at: int | None) -> None:
    now = None if at is None else rfc3339(hour(at)).encode()
    lines = {line: orjson.loads(line).get("expires", "~").encode() for line in file.splitlines()}
    ended = [line for line, expiry in lines.items() if now is not None and expiry <= now]
    later = min((expiry for line, expiry in lines.items() if line not in ended and expiry != b"~"), default=None)
    found = expiries(file, now, len(lines))
    assert found == (ended, later)
    if ended:
        assert expiries(file, now, len(ended) - 1) is None

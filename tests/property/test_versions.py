"""The laws of a list: exact differences between all versions, both ways, whatever left, came back or changed."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocklistd.lines.delta import ENTRIES, apply
from tests.examples import examples
from tests.versions_of import Versions

NAMES = [f"{label}.example" for label in "abcdefgh"]
Asserted = dict[str, str]  # name → category
said = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["A", "B", ""]), max_size=len(NAMES))
types = st.sampled_from([("domain",), ("domain",), ("url",)])


def body(asserted: Asserted) -> list[str]:
    return [json.dumps({"v": name, "c": category}) for name, category in asserted.items()]


def expected(*sources: Asserted) -> Asserted:
    """The plain model: the first source that asserts a name gives its attributes."""
    return {name: category for source in reversed(sources) for name, category in source.items()}


def read(snapshot: bytes) -> Asserted:
    entries = map(json.loads, snapshot.splitlines())
    return {entry["value"]: entry.get("category", "") for entry in entries}


@pytest.mark.slow  # 40 histories of up to eight publications, and a difference for each pair
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(["first", "second"]), said, types), min_size=1, max_size=8))
def test_every_pair_of_versions(history: list[tuple[str, Asserted, tuple[str, ...]]]) -> None:
    """Two sources say what they say, in turn, and the list takes other types than before; each live snapshot is what
    the model has, each diff leads exactly on."""
    with tempfile.TemporaryDirectory() as folder:
        versions = Versions(Path(folder), "first", "second")
        latest: dict[str, Asserted] = {"first": {}, "second": {}}
        snapshots: dict[int, bytes] = {}
        try:
            for source, asserted, taken in history:
                before = versions.state.live
                latest[source] = asserted
                versions.plan = replace(versions.plan, types=taken)
                number = versions.publish(versions.seal(body(asserted), "ndjson", value="/v", category="/c"), source)
                live = versions.live
                assert read(live) == (expected(latest["first"], latest["second"]) if "domain" in taken else {})
                assert live.splitlines() == sorted(live.splitlines())
                if number is None:
                    assert before is not None
                    assert snapshots[before.version] == live, "no new version, and yet another content"
                else:
                    assert number == len(snapshots) + 1, "numbers rise by one"
                    snapshots[number] = live
            for start, old in snapshots.items():
                for end, new in snapshots.items():
                    difference = versions.diff(start, end)
                    assert b"".join(apply(ENTRIES, old, difference)) == new
                    keys = [_order(line) for line in difference.splitlines()]
                    assert keys == sorted(keys)
                    assert len(set(keys)) == len(keys)
        finally:
            versions.close()


def _order(line: bytes) -> tuple[str, str, bool]:
    """(type, value), remove before add."""
    (op, entry), *_ = json.loads(line).items()
    return entry["type"], entry["value"], op == "add"


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(said, min_size=2, max_size=6))
def test_an_id_is_an_entrys_for_ever(history: list[Asserted]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        versions = Versions(Path(folder))
        ids: dict[str, str] = {}
        try:
            for asserted in history:
                versions.publish(versions.seal(body(asserted), "ndjson", value="/v", category="/c"))
                for entry in map(json.loads, versions.live.splitlines()):
                    assert ids.setdefault(entry["value"], entry["id"]) == entry["id"]
            assert len(set(ids.values())) == len(ids)
        finally:
            versions.close()

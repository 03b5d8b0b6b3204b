"""The laws of a list: exact diffs between all versions, in both directions, whatever was removed, added or changed."""

from __future__ import annotations

import io
import itertools
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocklistd.compose.compose import ListRules
from blocklistd.lines.delta import ENTRIES
from blocklistd.sources.formats.records import FormatOptions
from tests import reference
from tests.examples import examples
from tests.versions_of import Versions

NAMES = [f"{label}.example" for label in "abcdefgh"]
Asserted = dict[str, str]  # name → category
said = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["A", "B", ""]), max_size=len(NAMES))
types = st.sampled_from([("domain",), ("domain",), ("url",)])


def body(asserted: Asserted) -> list[str]:
    return [json.dumps({"v": name, "c": category}) for name, category in asserted.items()]


NDJSON = FormatOptions({"value": "/v", "category": "/c"}, {"type": "domain"})
# several lines of a body can be one entry, with different attributes
raw = st.lists(st.tuples(st.sampled_from([*NAMES, *map(str.upper, NAMES[:3])]), st.sampled_from("AB")), max_size=12)


@pytest.mark.slow  # 40 histories of up to eight publications, and a difference for each pair
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=st.lists(st.tuples(st.sampled_from(["first", "second"]), raw, types), min_size=1, max_size=6),
    patch_limit=st.sampled_from([0, 4, 1000]),
    few=st.sampled_from([0, 2000]),
)
def test_snapshots_and_diffs_of_all_versions_are_those_of_the_plain_implementation(
    history: list[tuple[str, list[tuple[str, str]], tuple[str, ...]]], patch_limit: int, few: int
) -> None:
    """Two sources change in turn, and the types of the list change. Each live snapshot, and the diff of each pair of
    versions, are those of the plain implementation, in each way of working: with complete files or patches, key by key
    or with the complete list."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("blocklistd.sources.intake.entries.SMALL_DIFF", patch_limit)
        monkeypatch.setattr("blocklistd.pipeline.composing.FEW", few)
        versions = Versions(Path(folder), "first", "second")
        latest: dict[str, bytes] = {}
        snapshots: dict[int, bytes] = {}
        try:
            for source, lines, taken in history:
                before = versions.state.live
                said = b"".join(orjson.dumps({"v": name, "c": category}) + b"\n" for name, category in lines)
                out = io.BytesIO()
                reference.read_entries(said, "ndjson", NDJSON, None, out)
                latest[source] = out.getvalue()
                versions.plan = replace(versions.plan, types=taken)
                number = versions.publish(versions.offer(said, "ndjson", NDJSON, source), source)
                rules = ListRules(versions.state.ids, taken, versions.plan.allow_public_suffix, versions.plan.allow_ip)
                sources = [latest[name] for name in ("first", "second") if name in latest]
                (complete,) = reference.compose_all(sources, rules)
                assert versions.live == complete.data
                assert versions.state.withheld == complete.withheld, "counted incrementally or completely"
                if number is None:
                    assert before is not None
                    assert snapshots[before.version] == versions.live, "no new version, and yet another content"
                else:
                    assert number == len(snapshots) + 1, "numbers rise by one"
                    snapshots[number] = versions.live
            for (start, old), (end, new) in itertools.product(snapshots.items(), repeat=2):
                difference = versions.diff(start, end)
                assert difference == b"".join(part.data for part in reference.between(ENTRIES, old, new))
                assert b"".join(reference.apply(ENTRIES, old, difference)) == new
        finally:
            versions.close()


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(said, min_size=2, max_size=6))
def test_an_entry_keeps_its_id_for_ever(history: list[Asserted]) -> None:
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

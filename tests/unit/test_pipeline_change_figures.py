"""The figures of a change by category and source are those of the plain way to count."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from blocklistd.model import Entry, Sha256, SourceId
from blocklistd.pipeline import change_figures as module
from blocklistd.pipeline.change_figures import SHOWN, Table, change_figures
from blocklistd.pipeline.composing import Composed, compose_change
from tests.versions_of import NOW, Versions

Entries = dict[str, str | None]
"""The category of each name."""


class Counted:
    """A list of two sources, whose changes are counted in both ways."""

    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder, "first", "second")
        self.offered: dict[str, Entries] = {"first": {}, "second": {}}

    def seal(self, entries: Entries) -> Sha256:
        lines = [json.dumps({"v": name} | ({"c": of} if of else {})) for name, of in entries.items()]
        return self.versions.seal(lines, "ndjson", value="/v", category="/c")

    def composed_list(self) -> Entries:
        return self.offered["second"] | self.offered["first"]

    def step(self, source: str, entries: Entries) -> tuple[Table, Table]:
        """Offers the entries; returns the counts of the change, after it is released."""
        before, of_sources = self.composed_list(), dict(self.offered)
        self.offered[source] = entries
        after = self.composed_list()
        made, state = self.versions, self.versions.state
        sealed = self.seal(entries)
        change = made.change(sealed, source)
        composed = compose_change(made.store.sealed, made.verified, state, change, NOW)
        if state.live is None:
            composed = composed.with_delta(made.store.sealed, made.verified)
        assert composed.delta is not None
        found = change_figures(made.store.sealed, state, change, composed)
        assert _nonzero(found.by_source) == _nonzero(self._by_source(before, after, of_sources))
        assert _nonzero(found.categories) == _nonzero(_by_category(before, after))
        made.publish(sealed, source)
        return found.categories, found.by_source

    def _by_source(self, before: Entries, after: Entries, of_sources: dict[str, Entries]) -> dict[str, Any]:
        found: dict[str, Counter[str]] = {"first": Counter(), "second": Counter()}
        for name in before.keys() | after.keys():
            change = _change(before, after, name)
            for source, counts in found.items():
                asserted = of_sources[source] if change == "removed" else self.offered[source]
                counts[change] += name in asserted
        return found


def _change(before: Entries, after: Entries, name: str) -> str:
    if name in before and name in after:
        return "same" if before[name] == after[name] else "changed"
    return "added" if name in after else "removed"


def _by_category(before: Entries, after: Entries) -> dict[str, Any]:
    found: dict[str, Counter[str]] = {}
    for name in before.keys() | after.keys():
        match _change(before, after, name):
            case "added" | "removed" as change:
                of = (after if change == "added" else before)[name]
                found.setdefault(of or "(none)", Counter())[change] += 1
            case "changed":
                found.setdefault(before[name] or "(none)", Counter())["removed"] += 1
                found.setdefault(after[name] or "(none)", Counter())["added"] += 1
    return found


def _nonzero(table: dict[str, Any]) -> dict[str, dict[str, int]]:
    shown = {
        name: {change: counts[change] for change in module.CHANGES if counts.get(change)}
        for name, counts in table.items()
    }
    return {name: counts for name, counts in shown.items() if counts}


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(tmp_path)


@pytest.mark.parametrize("block", [100, 1 << 20])
@pytest.mark.parametrize("look_up", [0, 10**9])
def test_every_change_is_counted_as_in_the_plain_way(
    counted: Counted, monkeypatch: pytest.MonkeyPatch, block: int, look_up: int
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    monkeypatch.setattr(module, "_LOOK_UP", look_up)
    chance = random.Random(7)
    names = [f"n{number}.example" for number in range(60)]
    for number in range(8):
        source = "first" if number % 2 else "second"
        chosen = chance.sample(names, chance.randint(20, 50))
        counted.step(source, {name: chance.choice([None, "abuse", 'a "quoted" one', "zwei"]) for name in chosen})
    counted.versions.close()


def test_rare_categories_are_added_up(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.test_pipeline_change_figures._by_category", lambda before, after: expected)
    expected: dict[str, Any] = {f"c{number:02}": {"added": 2} for number in range(SHOWN)} | {"(other)": {"added": 3}}
    entries: Entries = {f"n{number}-{half}.example": f"c{number:02}" for number in range(SHOWN) for half in (1, 2)}
    rare: Entries = {f"r{number}.example": f"rare {number}" for number in range(3)}
    categories, _ = counted.step("first", entries | rare)
    assert list(categories)[-1] == "(other)"
    counted.versions.close()


def test_the_only_source_of_a_list_has_every_change(tmp_path: Path) -> None:
    made = Versions(tmp_path, "hotline")
    made.publish(made.seal(["a.example", "b.example"]))
    change = made.change(made.seal(["b.example", "c.example", "d.example"]))
    composed = compose_change(made.store.sealed, made.verified, made.state, change, NOW)
    found = change_figures(made.store.sealed, made.state, change, composed)
    assert found.by_source == {"hotline": {"added": 2, "removed": 1, "changed": 0}}
    made.close()


def test_no_figure_of_a_source_whose_entries_are_lost(counted: Counted) -> None:
    counted.step("first", {"a.example": None})
    made = counted.versions
    made.store.sealed.path(made.state.accepted[SourceId("first")]).unlink()
    delta = made.seal([])
    found = change_figures(made.store.sealed, made.state, made.change(delta), Composed(delta, 0, 0, 0, {}))
    assert found.by_source == {}
    assert Entry("domain", "a.example").value not in str(found)
    made.close()

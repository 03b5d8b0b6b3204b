"""How a delta moves entries into and out of what a zone selects by category, beside a plain model of sets."""

from __future__ import annotations

import json

import orjson
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.compose.guard import Figures, judge_movement
from blocklistd.compose.selection import Selection, movements, selected
from blocklistd.lines.delta import ENTRIES, render
from blocklistd.lines.snapshot import lines
from blocklistd.rpz.rules import names
from tests.unit.test_compose_guard import Guards

CATEGORIES = ["A", "B", "a", 'quo"te', "ü", 'x","category":"A', ""]
SELECTIONS = [Selection("a.example", ("A",)), Selection("b.example", ("B", 'quo"te', "ü"))]
Entries = dict[tuple[str, str], str | None]
entries = st.dictionaries(
    st.tuples(
        st.sampled_from(["domain", "host", "url"]), st.sampled_from([f"n{number}.example" for number in range(6)])
    ),
    st.none() | st.sampled_from(CATEGORIES),
    max_size=12,
)


def line(key: tuple[str, str], category: str | None, ref: str = "") -> bytes:
    found: dict[str, str] = {"type": key[0], "value": key[1]}
    if category is not None:
        found["category"] = category
    found["id"] = "e-0"
    if ref:
        found["ref"] = ref
    return orjson.dumps(found)


def snapshot(found: Entries, ref: str = "") -> list[bytes]:
    return sorted(line(key, category, ref) for key, category in found.items())


def members(found: Entries, selection: Selection) -> set[tuple[str, str]]:
    return {key for key, category in found.items() if key[0] != "url" and category in selection.categories}


@given(entries, entries, st.sampled_from(["", '"category":"A"']))
def test_as_many_join_and_leave_as_between_the_two_sets(old: Entries, new: Entries, ref: str) -> None:
    before, after = snapshot(old), snapshot(new, ref)
    removes, adds = [one for one in before if one not in after], [one for one in after if one not in before]
    delta = render(ENTRIES, removes, adds).data
    for selection, moved in zip(SELECTIONS, movements(lines(delta), SELECTIONS), strict=True):
        was, now = members(old, selection), members(new, selection)
        assert (moved.joined, moved.left) == (len(now - was), len(was - now))
        assert selected(b"".join(one + b"\n" for one in after), selection) == len(now)
        assert len(now) == len(names(after, selection.categories))  # as the zone has it


def test_the_reason_names_the_zone_and_follows_the_limits_of_the_list() -> None:
    assert not judge_movement("a.example", Figures(100, 0, 10, 0, 0), Guards())
    (reason,) = judge_movement("a.example", Figures(100, 0, 11, 0, 0), Guards())
    assert reason.guard == "max_removed"
    assert "zone a.example" in reason.found
    assert "11.0%" in json.dumps(reason.found)
    daily = judge_movement("a.example", Figures(100, 0, 9, 0, 0, 0, 30), Guards())
    assert [one.guard for one in daily] == ["daily.max_removed"]

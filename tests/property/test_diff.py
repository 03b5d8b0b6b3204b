"""Laws of diffs: snapshot(A) + diff(A, B) = snapshot(B), in both directions, whatever was removed, added or changed."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from blocklistd.lines.delta import ENTRIES, apply
from blocklistd.lines.keys import key_of
from blocklistd.lines.snapshot import changed_lines, find, lines, splice
from blocklistd.model import Entry
from tests.sim.feed import difference

# few values, so that versions share some; with characters around the quote (0x22), which ends a value in a line
values = st.one_of(st.text('a!"\\é', max_size=4), st.sampled_from([f"{label}.example" for label in "abcdefgh"]))
keys = st.tuples(st.sampled_from(["domain", "host", "url"]), values)
attributes = st.dictionaries(st.sampled_from(["category", "ref"]), st.sampled_from(["A", "B"]), max_size=2)
contents = st.dictionaries(keys, attributes, max_size=30)
Content = dict[tuple[str, str], dict[str, str]]


def snapshot(content: Content) -> bytes:
    found = [Entry(kind, value, dict(attributes)).line() for (kind, value), attributes in content.items()]
    return b"".join(line + b"\n" for line in sorted(found))


@given(st.lists(contents, min_size=2, max_size=4))
def test_the_diff_of_any_two_versions_makes_the_one_of_the_other(history: list[Content]) -> None:
    versions = list(map(snapshot, history))
    for old in versions:
        for new in versions:
            assert b"".join(apply(ENTRIES, old, difference(old, new))) == new


@given(contents, contents)
def test_a_diff_is_sorted_by_type_and_value_with_removals_first(before: Content, after: Content) -> None:
    steps = []
    for line in difference(snapshot(before), snapshot(after)).splitlines():
        ((op, entry),) = json.loads(line).items()
        steps.append((entry["type"].encode(), entry["value"].encode(), op == "add"))
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps)


@given(contents, contents)
def test_changed_lines_are_the_difference_of_two_sets(before: Content, after: Content) -> None:
    old, new = snapshot(before), snapshot(after)
    was, now = set(old.splitlines()), set(new.splitlines())
    assert changed_lines(old, new) == (sorted(was - now), sorted(now - was))


@given(contents, contents)
def test_splice_makes_the_sorted_snapshot(before: Content, after: Content) -> None:
    old, new = snapshot(before), snapshot(after)
    assert b"".join(splice(old, *changed_lines(old, new))) == new


@given(contents, keys)
def test_find_returns_the_line_of_a_key_or_none(content: Content, other: tuple[str, str]) -> None:
    buffer = snapshot(content)
    for line in lines(buffer):
        assert find(buffer, key_of(line)) == line
    if other not in content:
        assert find(buffer, key_of(Entry(*other).line())) is None

"""Laws of deltas: in one part or in many, for entries and for rules, they lead exactly on and undo exactly."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocklistd.lines import delta
from blocklistd.lines.delta import ENTRIES, RULES, Form, apply, between, net, parse, render
from blocklistd.model import Entry
from tests.examples import examples

# `!` sorts before the quote that ends a value; an id makes an entry plain, a category does not
values = st.text("a!.", min_size=1, max_size=4)
entries = st.dictionaries(values, st.sampled_from([{}, {"id": "e-0"}, {"category": "A"}]), max_size=40)
rules = st.frozensets(st.text("ab\0*", min_size=1, max_size=4), max_size=40)


@pytest.fixture(params=[1, 1 << 20], ids=["many parts", "one part"], autouse=True)
def part_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta, "PART", request.param)
    if request.param == 1:
        monkeypatch.setattr(delta, "SMALL", 0)
        monkeypatch.setattr(delta, "STREAM_SHARE", 1 << 30)


def file_of(content: dict[str, dict[str, str]] | frozenset[str]) -> bytes:
    if isinstance(content, dict):
        items = [Entry("url", value, dict(attributes)).line() for value, attributes in content.items()]
    else:
        items = [rule.encode() for rule in content]
    return b"".join(item + b"\n" for item in sorted(items))


def laws(form: Form, versions: list[bytes]) -> None:
    deltas = []
    for old, new in pairwise(versions):
        made = b"".join(part.data for part in between(form, old, new))
        was, now = set(old.splitlines()), set(new.splitlines())
        assert made == render(form, sorted(was - now), sorted(now - was)).data
        assert b"".join(apply(form, old, made)) == new
        deltas.append(made)
    whole = b"".join(part.data for part in between(form, versions[0], versions[-1]))
    assert b"".join(part.data for part in net(form, deltas)) == whole
    back = b"".join(part.data for part in between(form, versions[-1], versions[0]))
    assert b"".join(part.data for part in net(form, deltas, reverse=True)) == back
    removes, adds = parse(form, whole)
    keys = [*map(form.keys, ([item] for item in removes))]
    assert keys == sorted(keys)
    assert not set(removes) & set(adds)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(entries, min_size=2, max_size=5))
def test_entries(history: list[dict[str, dict[str, str]]]) -> None:
    laws(ENTRIES, list(map(file_of, history)))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rules, min_size=2, max_size=5))
def test_rules(history: list[frozenset[str]]) -> None:
    laws(RULES, list(map(file_of, history)))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries, entries, entries)
def test_a_delta_that_does_not_fit_is_refused(
    one: dict[str, dict[str, str]], two: dict[str, dict[str, str]], other: dict[str, dict[str, str]]
) -> None:
    old, new, another = map(file_of, (one, two, other))
    made = b"".join(part.data for part in between(ENTRIES, old, new))
    removes, adds = (set(items) for items in parse(ENTRIES, made))
    there = set(another.splitlines())
    if removes <= there and not adds & there:
        assert set(b"".join(apply(ENTRIES, another, made)).splitlines()) == (there - removes) | adds
    else:
        with pytest.raises(ValueError, match="a line to"):
            b"".join(apply(ENTRIES, another, made))

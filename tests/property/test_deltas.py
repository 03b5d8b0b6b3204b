"""Laws of deltas: applied to one version they make the next one exactly, reversed the one before; in one part or many,
for entries and for rules."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocklistd.lines import delta
from blocklistd.lines.delta import ENTRIES, RULES, DeltaPart, Form, parse
from blocklistd.model import Entry
from tests import reference
from tests.examples import examples
from tests.reference import Deltas

FAST: Deltas = delta
PLAIN: Deltas = reference

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


def made(parts: Iterable[DeltaPart]) -> DeltaPart:
    """The parts joined to one."""
    found = list(parts)
    counts = (sum(getattr(part, name) for part in found) for name in ("removed", "added", "changed"))
    return DeltaPart(b"".join(part.data for part in found), *counts)


def check_laws(form: Form, versions: list[bytes]) -> None:
    deltas = []
    for old, new in pairwise(versions):
        change = made(FAST.between(form, old, new))
        assert change == made(PLAIN.between(form, old, new))
        assert b"".join(FAST.apply(form, old, change.data)) == b"".join(PLAIN.apply(form, old, change.data)) == new
        deltas.append(change.data)
    first, last = versions[0], versions[-1]
    for reverse, (old, new) in enumerate([(first, last), (last, first)]):
        net = made(PLAIN.net(form, deltas, reverse=bool(reverse)))
        assert net == made(FAST.between(form, old, new))
        assert made(FAST.net(form, deltas, reverse=bool(reverse))).data == net.data
    removes, adds = parse(form, net.data)
    keys = [*map(form.keys, ([item] for item in removes))]
    assert keys == sorted(keys)
    assert not set(removes) & set(adds)


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(entries, min_size=2, max_size=5))
def test_deltas_of_entries_lead_from_any_version_to_any_other(history: list[dict[str, dict[str, str]]]) -> None:
    check_laws(ENTRIES, list(map(file_of, history)))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rules, min_size=2, max_size=5))
def test_deltas_of_rules_lead_from_any_version_to_any_other(history: list[frozenset[str]]) -> None:
    check_laws(RULES, list(map(file_of, history)))


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(entries, entries, entries)
def test_a_delta_that_does_not_fit_is_refused(
    one: dict[str, dict[str, str]], two: dict[str, dict[str, str]], other: dict[str, dict[str, str]]
) -> None:
    old, new, another = map(file_of, (one, two, other))
    change = made(FAST.between(ENTRIES, old, new)).data
    try:
        expected = b"".join(PLAIN.apply(ENTRIES, another, change))
    except ValueError:
        with pytest.raises(ValueError, match="a line to"):
            b"".join(FAST.apply(ENTRIES, another, change))
    else:
        assert b"".join(FAST.apply(ENTRIES, another, change)) == expected

"""The law of composing: in full, many lines at a time, it is the plain implementation, under any quorum, corrections,
local exceptions, test entries, stop of additions and names that wait for a release, wherever the sources are split
into blocks."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.compose.compose import ListRules
from blocklistd.compose.compose_all import compose_all
from blocklistd.compose.names import NameRules, Names, names_file
from blocklistd.lines.ids import BLAKE2B, Ids
from blocklistd.model import Entry
from blocklistd.times import rfc3339
from tests import reference
from tests.property.test_expiries import HOURS, LINES, NAMES, hour

some = st.sets(st.sampled_from(NAMES), max_size=3)


@settings(deadline=None)  # the first example reads the Public Suffix List
@given(
    st.lists(LINES, min_size=1, max_size=3),
    st.none() | HOURS,
    st.integers(1, 3),
    some,
    some,
    some,
    some,
    st.none() | some,
    some,
)
def test_composing_in_full_is_the_plain_implementation(
    sources: list[bytes],
    at: int | None,
    quorum: int,
    protected: set[str],
    pending: set[str],
    delisted: set[str],
    excepted: set[str],
    live: set[str] | None,
    tests: set[str],
) -> None:
    ids = Ids(BLAKE2B, b"s" * 32)
    rules = ListRules(
        ids,
        ("domain",),
        allow_public_suffix=True,
        allow_ip=False,
        now=None if at is None else rfc3339(hour(at)).encode(),
        quorum=quorum,
        names=NameRules(Names(names_file(protected))),
        corrected={Entry("domain", name).line()[:-1]: "delisted" for name in delisted},
        additions=live is None or bool(pending),
        pending=NameRules(Names(names_file(pending)) if pending else None),
        excepted=frozenset(ids.of(b"domain", name.encode()) for name in excepted),
        tests={
            Entry(kind, name).line()[:-1]: Entry(kind, name, {"id": "e-0", "test": True}).line()
            for name in tests
            for kind in ("domain", "host")
        },
    )
    lines = [Entry("domain", name).line() for name in sorted(live or ())]
    (plain,) = reference.compose_all(sources, rules, [line[:-1] for line in lines])
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("blocklistd.compose.compose_all.BLOCK", 60)
        chunks = list(compose_all(sources, rules, live=b"".join(line + b"\n" for line in lines)))
    assert b"".join(chunk.data for chunk in chunks) == plain.data
    assert sum((Counter(chunk.withheld) for chunk in chunks), Counter()) == Counter(plain.withheld)

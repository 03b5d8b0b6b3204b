"""An entry hits a name if it is the name or below it, as a domain also if it is above; alone or among many."""

from __future__ import annotations

import ipaddress
import mmap
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.compose.names import NO_NAMES, NameRules, Names, names_file
from blocklistd.kinds.ip import protected

LABELS = st.sampled_from(["a", "ab", "b", "a-b", "www", "xn--bcher-kva", "example", "test"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
SOME = st.frozensets(NAMES, max_size=6)


def names(*given: str) -> Names:
    return Names(names_file(given))


def hits(kind: str, value: str, protected: frozenset[str]) -> bool:
    """The definition, in plain words."""
    return kind in ("host", "domain") and any(
        value == name or value.endswith(f".{name}") or (kind == "domain" and name.endswith(f".{value}"))
        for name in protected
    )


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("host", "search.example", "never_block"),
        ("host", "www.search.example", "never_block"),
        ("domain", "www.search.example", "never_block"),
        ("host", "research.example", None),
        ("host", "example", None),  # a host entry does not block what is below it
        ("domain", "example", "never_block"),
        ("url", "https://www.search.example/page", None),
        ("host", "stop.isp.test", "own_name"),
        ("domain", "drive.test", "shared_hosts"),
        ("domain", "files.drive.test", "shared_hosts"),
        ("url", "https://files.drive.test/a", None),
        ("sha256", "0" * 64, None),
    ],
)
def test_the_first_rule_that_an_entry_hits(kind: str, value: str, expected: str | None) -> None:
    rules = NameRules(names("search.example"), names("isp.test", "search.example"), names("files.drive.test"))
    assert rules.rule_of(kind, value) == expected
    assert rules.rules_of_all(kind, [value.encode()]) == ({0: expected} if expected else {})


@given(never_block=SOME, shared=SOME, kind=st.sampled_from(["host", "domain"]), values=st.lists(NAMES, max_size=9))
def test_many_entries_are_judged_like_one(
    never_block: frozenset[str], shared: frozenset[str], kind: str, values: list[str]
) -> None:
    rules = NameRules(names(*never_block), shared_hosts=names(*shared))
    expected = [
        "never_block" if hits(kind, value, never_block) else "shared_hosts" if hits(kind, value, shared) else None
        for value in values
    ]
    assert [rules.rule_of(kind, value) for value in values] == expected
    found = rules.rules_of_all(kind, [value.encode() for value in values])
    assert found == {index: rule for index, rule in enumerate(expected) if rule}


def test_a_list_without_names_withholds_nothing() -> None:
    assert not NO_NAMES
    assert NO_NAMES.rule_of("host", "search.example") is None
    assert NO_NAMES.rules_of_all("host", [b"search.example"]) == {}


def test_a_mapped_file_is_read_like_bytes() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(names_file(["search.example", "b.test"]))
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            rules = NameRules(Names(content))
            assert len(Names(content).all) == 2
            assert rules.rule_of("host", "www.b.test") == "never_block"
            assert rules.rules_of_all("domain", [b"test"]) == {0: "never_block"}


NETWORKS = st.builds(
    lambda number, length: str(ipaddress.ip_network((number << 12, length), strict=False)),
    st.integers(0xC0000, 0xC0003),
    st.integers(16, 32),
) | st.builds(
    lambda number, length: str(ipaddress.ip_network((0x20010DB8 << 96 | number << 60, length), strict=False)),
    st.integers(0, 15),
    st.integers(32, 128),
)
CANONICAL = NETWORKS.map(protected)


@given(listed=st.lists(CANONICAL, max_size=9), addresses=st.frozensets(CANONICAL, max_size=4), others=SOME)
def test_an_address_hits_what_overlaps_it(listed: list[str], addresses: frozenset[str], others: frozenset[str]) -> None:
    """One prefix and another overlap if one contains the other."""
    known = [ipaddress.ip_network(address) for address in addresses]
    expected = [any(ipaddress.ip_network(value).overlaps(one) for one in known) for value in listed]
    rules = NameRules(names(*addresses, *others))
    assert [rules.rule_of("ip", value) == "never_block" for value in listed] == expected
    found = rules.rules_of_all("ip", [value.encode() for value in listed])
    assert found == {index: "never_block" for index, hit in enumerate(expected) if hit}
    by_name = NameRules(names(*others))
    for name in others | {"www.other.test"}:
        assert rules.rule_of("host", name) == by_name.rule_of("host", name), "addresses change nothing for names"
        assert rules.rules_of_all("domain", [name.encode()]) == by_name.rules_of_all("domain", [name.encode()])

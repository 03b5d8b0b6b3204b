"""What a list takes of what is asserted: many lines at a time as one line at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from blocklistd.compose import compose_all as compose_module
from blocklistd.compose.compose import ListRules, compose, line_of_test, with_id, withheld
from blocklistd.compose.compose_all import compose_all
from blocklistd.lines.delta import ENTRIES, apply, render
from blocklistd.lines.ids import BLAKE2B, Ids
from blocklistd.model import Entry
from tests import reference
from tests.reference import Composing

FAST: Composing = compose_module
PLAIN: Composing = reference
OTHER_ID = "e-" + "ab" * 16
IDS = Ids(BLAKE2B, b"s" * 32)
HOSTS = ["192.0.2.1", "[2001:db8::1]", "0a.example", "9.example", "a.example", "zz.test", "-x.example"]
EVERY = sorted(
    [
        Entry("url", f"{scheme}://{host}{rest}").line()
        for scheme, host, rest in product(("http", "https"), HOSTS, ("/", "/1"))
    ]
    + [Entry("domain", name).line() for name in ("0.example", "test", "a.example", "example", "zz.test")]
    + [Entry("host", name).line() for name in ("test", "www.a.example")]
    + [Entry("ip", value).line() for value in ("192.0.2.1", "2001:db8::/32")]
    + [Entry("sha256", "0" * 64).line(), Entry("md5", "f" * 32, {"category": "A"}).line()]
)


@pytest.mark.parametrize("allow_public_suffix", [False, True])
@pytest.mark.parametrize("allow_ip", [False, True])
@pytest.mark.parametrize("types", [("url", "domain", "host", "sha256", "md5"), ("domain", "ip"), ("url",)])
def test_lines_composed_in_bulk_equal_lines_composed_one_by_one(
    types: tuple[str, ...], allow_ip: bool, allow_public_suffix: bool
) -> None:
    rules = ListRules(IDS, types, allow_public_suffix, allow_ip)
    source = b"".join(line + b"\n" for line in EVERY)
    pieces = list(FAST.compose_all([source], rules))
    (plain,) = PLAIN.compose_all([source], rules)
    assert b"".join(piece.data for piece in pieces) == plain.data
    taken = [line for line in EVERY if withheld(line, rules) is None]
    assert b"".join(piece.data for piece in pieces) == b"".join(with_id(line, rules.ids) + b"\n" for line in taken)
    assert sum(piece.entries for piece in pieces) == len(taken)
    counts: dict[str, int] = {}
    for line in EVERY:
        if (reason := withheld(line, rules)) is not None:
            counts[reason] = counts.get(reason, 0) + 1
    assert {reason: sum(piece.withheld.get(reason, 0) for piece in pieces) for reason in counts} == counts
    if types[0] == "url" and not allow_ip:
        assert counts["ip"] == 8
    if "ip" in types:
        assert counts.get("ip", 0) == (0 if allow_ip else 2)


def test_a_few_lines_with_attributes_among_many_plain_ones() -> None:
    lines = [
        Entry("domain", f"n{number:03}.example", {"category": "A"} if number in (0, 40, 41, 199) else {}).line()
        for number in range(200)
    ]
    pieces = compose_all([b"".join(line + b"\n" for line in lines)], ListRules(IDS, ("domain",), True, False))
    assert b"".join(piece.data for piece in pieces) == b"".join(with_id(line, IDS) + b"\n" for line in lines)


@pytest.mark.parametrize("every", [1, 2, 50])
def test_an_entry_keeps_the_id_that_another_list_gave_it(every: int) -> None:
    lines = [
        Entry("domain", f"n{number:03}.example", {"id": OTHER_ID} if number % every == 0 else {}).line()
        for number in range(200)
    ]
    pieces = compose_all([b"".join(line + b"\n" for line in lines)], ListRules(IDS, ("domain",), True, False))
    made = b"".join(piece.data for piece in pieces).splitlines()
    assert made == [with_id(line, IDS) for line in lines]
    assert [Entry.from_line(line).attributes["id"] for line in made] == [
        OTHER_ID if number % every == 0 else IDS.of(b"domain", f"n{number:03}.example".encode())
        for number in range(200)
    ]


def test_an_entry_has_the_id_of_the_first_source_that_asserts_it() -> None:
    rules = ListRules(IDS, ("domain",), allow_public_suffix=True, allow_ip=False)
    plain, named = Entry("domain", "a.example").line(), Entry("domain", "a.example", {"id": OTHER_ID}).line()
    for sources in ([plain, named], [named, plain]):
        (piece,) = compose_all([line + b"\n" for line in sources], rules)
        assert piece.data == with_id(sources[0], IDS) + b"\n"
        find = {plain[:-1]: sources[0]}.get
        found = compose(with_id(sources[1], IDS) + b"\n", [plain], [find], rules)
        assert (found.removes, found.adds) == ([with_id(sources[1], IDS)], [with_id(sources[0], IDS)])


def test_the_count_of_what_is_withheld_follows_the_difference() -> None:
    """Of the keys that are touched: asserted by one before, by another now, by both, anew, no more."""
    rules = ListRules(IDS, ("domain",), allow_public_suffix=False, allow_ip=False)
    example, invalid, localhost, test = (
        Entry("domain", name).line() for name in ("example", "invalid", "localhost", "test")
    )

    def asserting(*lines: bytes) -> Callable[[bytes], bytes | None]:
        return lambda key: next((line for line in lines if line.startswith(key)), None)

    touched = [example, invalid, localhost, test, Entry("host", "a.example").line()]
    before = [asserting(example, invalid, localhost), asserting(invalid)]
    after = [asserting(invalid), asserting(example, test, touched[-1])]
    found = compose(b"", touched, after, rules, before)
    assert (found.adds, found.removes) == ([], [])
    assert found.withheld == {"public_suffix": 0, "type host": 1}, "localhost goes, test comes"


def test_an_edit_for_each_key_that_changes() -> None:
    rules = ListRules(IDS, ("domain",), allow_public_suffix=True, allow_ip=False)
    before = [Entry("domain", name).line() for name in ("a.example", "b.example", "c.example")]
    live = b"".join(with_id(line, rules.ids) + b"\n" for line in before)
    changed = Entry("domain", "b.example", {"category": "B"}).line()
    now = [changed, before[2], Entry("domain", "d.example").line()]

    def find(key: bytes) -> bytes | None:
        return next((line for line in now if line.startswith(key)), None)

    found = compose(live, [*before, *now], [find], rules)
    delta = render(ENTRIES, found.removes, found.adds)
    assert (delta.added, delta.removed, delta.changed) == (1, 1, 1)
    after = b"".join(apply(ENTRIES, live, delta.data))
    assert after == b"".join(with_id(line, rules.ids) + b"\n" for line in now)


def test_a_correction_of_a_test_entry_that_no_source_asserts_is_counted_and_ends() -> None:
    line = line_of_test("blocktest.isp.example", IDS)
    key = Entry("host", "blocktest.isp.example").line()[:-1]
    rules = ListRules(IDS, ("domain",), allow_public_suffix=False, allow_ip=False, quorum=2, tests={key: line})
    corrected = replace(rules, corrected={key: "delisted"})
    placed = compose(line + b"\n", [line], [lambda key: None], corrected, before=rules)
    assert (placed.removes, placed.adds, placed.withheld) == ([line], [], {"delisted": 1})
    lifted = compose(b"", [line], [lambda key: None], rules, [lambda key: None], before=corrected)
    assert (lifted.removes, lifted.adds, lifted.withheld) == ([], [line], {"delisted": -1})

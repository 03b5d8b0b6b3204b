"""What a list takes of what is asserted: many lines at a time as one line at a time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from blocklistd.compose import compose as compose_module
from blocklistd.compose.compose import ListRules, compose, compose_all, with_id, withheld
from blocklistd.lines.delta import ENTRIES, apply, render
from blocklistd.lines.ids import BLAKE2B, Ids
from blocklistd.model import Entry
from tests import reference
from tests.reference import Composing

FAST: Composing = compose_module
PLAIN: Composing = reference
IDS = Ids(BLAKE2B, b"s" * 32)
HOSTS = ["192.0.2.1", "[2001:db8::1]", "0a.example", "9.example", "a.example", "zz.test", "-x.example"]
EVERY = sorted(
    [
        Entry("url", f"{scheme}://{host}{rest}").line()
        for scheme, host, rest in product(("http", "https"), HOSTS, ("/", "/1"))
    ]
    + [Entry("domain", name).line() for name in ("0.example", "test", "a.example", "example", "zz.test")]
    + [Entry("host", name).line() for name in ("test", "www.a.example")]
    + [Entry("sha256", "0" * 64).line(), Entry("md5", "f" * 32, {"category": "A"}).line()]
)


@pytest.mark.parametrize("allow_public_suffix", [False, True])
@pytest.mark.parametrize("allow_ip", [False, True])
@pytest.mark.parametrize("types", [("url", "domain", "host", "sha256", "md5"), ("domain", "md5"), ("url",)])
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


def test_a_few_lines_with_attributes_among_many_plain_ones() -> None:
    lines = [
        Entry("domain", f"n{number:03}.example", {"category": "A"} if number in (0, 40, 41, 199) else {}).line()
        for number in range(200)
    ]
    pieces = compose_all([b"".join(line + b"\n" for line in lines)], ListRules(IDS, ("domain",), True, False))
    assert b"".join(piece.data for piece in pieces) == b"".join(with_id(line, IDS) + b"\n" for line in lines)


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

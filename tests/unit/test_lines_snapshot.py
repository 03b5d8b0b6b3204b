"""Snapshots as buffers: lines are found, spliced and compared exactly, at a cost that grows with the change."""

from __future__ import annotations

import mmap
import random
from pathlib import Path

import pytest

from blocklistd.lines.keys import key_of
from blocklistd.lines.snapshot import changed_lines, find, lines, position, splice
from blocklistd.model import Entry


def line(value: str, **attributes: str) -> bytes:
    return Entry("url", value, dict(attributes)).line()


def joined(*found: bytes) -> bytes:
    return b"".join(each + b"\n" for each in sorted(found))


A, B, C = line("https://a.example/"), line("https://b.example/"), line("https://c.example/")


def test_lines_are_yielded_in_order_without_newlines() -> None:
    assert list(lines(b"")) == []
    assert list(lines(joined(B, A))) == [A, B]


@pytest.mark.parametrize(("wanted", "index"), [(A, 0), (B, 1), (b"", 0), (B + b"~", 2), (b"~", 3)])
def test_the_position_of_a_line_is_where_it_is_or_would_be_inserted(wanted: bytes, index: int) -> None:
    assert position(joined(A, B, C), wanted) == sum(len(each) + 1 for each in [A, B, C][:index])


def test_a_file_that_was_cut_short_is_an_error_and_no_endless_search() -> None:
    with pytest.raises(ValueError, match="cut short"):
        position(joined(A, B, C)[:-5], b"~")
    for one, other in ((joined(A, B)[:-5], joined(A, C)), (joined(A, C), joined(A, B)[:-5])):
        with pytest.raises(ValueError, match="cut short"):
            changed_lines(one, other)


def test_each_line_is_found_by_its_key_and_by_no_other() -> None:
    """`!` sorts below the quote that ends a value, so the line of a longer value may come before that of a shorter."""
    values = ["https://a.example/", "https://a.example/!", "https://a.example/!!", "https://a.example/x", 'a"b', "a\\"]
    found = [line(value, id="e-1") if n % 2 else line(value) for n, value in enumerate(values)]
    buffer = joined(*found)
    assert list(lines(buffer)) != [line(each) for each in sorted(values)], "the order of lines is not that of values"
    for each in found:
        assert find(buffer, key_of(each)) == each
    for value in ["https://a.example", "https://a.example/!x", "", "a", "~"]:
        assert find(buffer, key_of(line(value))) is None
    assert find(b"", key_of(A)) is None


def test_a_search_finds_the_first_line_that_is_not_below() -> None:
    chance = random.Random(1)
    every = [line(f"https://{number:04}.example/{'x' * chance.randrange(30)}") for number in range(60)]
    there = every[::2]
    buffer = joined(*there)
    begins = [0, *(at + 1 for at, octet in enumerate(buffer) if octet == 10)]
    for wanted in [*every, b"", b"~", every[7][:-1], every[8] + b"~"]:
        expected = begins[sum(found < wanted for found in there)]
        for near in (None, 0, 1, 70, 700, len(buffer)):
            assert [position(buffer, wanted, low, near=near) for low in begins] == [
                max(low, expected) for low in begins
            ]
        assert position(buffer, wanted[::-1], key=lambda found: found) == begins[sum(f < wanted[::-1] for f in there)]


def test_splicing_removes_and_adds_anywhere() -> None:
    first, last = line("https://0.example/"), line("https://z.example/")
    assert b"".join(splice(joined(A, B, C), [B], [first, last])) == joined(first, A, C, last)
    assert b"".join(splice(b"", [], [A, B])) == joined(A, B)
    assert b"".join(splice(joined(A, B), [A, B], [])) == b""
    assert b"".join(splice(joined(A, B), [], [])) == joined(A, B)


def test_splicing_replaces_an_entry_whose_attributes_change() -> None:
    changed = line("https://b.example/", category="B")
    assert b"".join(splice(joined(A, B, C), [B], [changed])) == joined(A, changed, C)


@pytest.mark.parametrize(
    ("removes", "adds", "reason"),
    [
        ([line("https://b.example/x")], [], "is missing"),
        ([B[:-1]], [], "is missing"),
        ([b""], [], "is missing"),
        ([], [B], "is already present"),
        ([C, A], [], "out of order"),
        ([A, A], [], "out of order"),
        ([], [line("https://z.example/"), line("https://d.example/")], "out of order"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_and_the_error_quotes_no_line(
    removes: list[bytes], adds: list[bytes], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        b"".join(splice(joined(A, B, C), removes, adds))
    assert ".example" not in str(refused.value)


def test_a_mapped_file_is_a_buffer(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(joined(A, C))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as old:
        assert find(old, key_of(C)) == C
        assert list(lines(old)) == [A, C]
        new = b"".join(splice(old, [A], [B]))
        assert changed_lines(old, new) == ([A], [B])


def test_few_changes_of_a_long_list_are_spliced_and_found_in_large_chunks() -> None:
    """Unchanged lines are neither in memory all at once nor visited one by one."""
    chance = random.Random(11)
    every = sorted(line(f"https://n{number}.example/{chance.getrandbits(64):x}") for number in range(60_000))
    old = b"".join(each + b"\n" for each in every)
    removes = sorted(chance.sample(every, 50))
    adds = sorted(line(f"https://n{number}.example/!{number}") for number in chance.sample(range(60_000), 50))
    new = b"".join(splice(old, removes, adds))
    at_the_end = list(splice(old, every[-1:], []))
    assert max(map(len, at_the_end)) <= 2 << 20 < len(old)
    assert b"".join(at_the_end) == old[: -len(every[-1]) - 1]
    assert new == joined(*(set(every) - set(removes) | set(adds)))
    assert changed_lines(old, new) == (removes, adds)
    assert changed_lines(new, old) == (adds, removes)
    assert changed_lines(old, old) == ([], [])


def test_changed_lines_of_snapshots_that_share_little_or_nothing() -> None:
    assert changed_lines(b"", joined(A, B)) == ([], [A, B])
    assert changed_lines(joined(A, B), b"") == ([A, B], [])
    assert changed_lines(joined(A, C), joined(B)) == ([A, C], [B])
    assert changed_lines(joined(A), joined(A, B)) == ([], [B]), "one is a prefix of the other"

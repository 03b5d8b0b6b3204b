"""The diff as a subscriber gets it, and what a client refuses. Its laws are in tests/property/test_diff.py."""

from __future__ import annotations

import contextlib

import pytest

from blocklistd.lines.delta import ENTRIES, apply, parse, render
from blocklistd.model import Entry

A, B = (Entry("host", f"{name}.example", {"id": "e-1"}).line() for name in "ab")


def test_the_bytes_of_the_contract() -> None:
    diff = render(ENTRIES, [A], [B])
    assert diff.data == b'{"remove":' + A + b'}\n{"add":' + B + b"}\n"
    assert (diff.removed, diff.added, diff.changed) == (1, 1, 0)
    assert render(ENTRIES, [], []).data == b""


def test_lines_are_parsed_into_removals_and_additions() -> None:
    assert parse(ENTRIES, render(ENTRIES, [A, B], []).data) == ([A, B], [])
    assert parse(ENTRIES, render(ENTRIES, [], [B, A]).data) == ([], [A, B])
    assert parse(ENTRIES, b"") == ([], [])


@pytest.mark.parametrize(
    ("diff", "reason"),
    [
        (b'{"add":' + A + b"}", "cut short"),
        (b'{"add":' + A[:-1] + b"\n", "neither"),
        (b'{"add":' + A + b'}\n{"keep":' + B + b"}\n", "neither"),
        (b"\n", "neither"),
    ],
    ids=["cut", "no-brace", "other-step", "empty-line"],
)
def test_anything_else_is_refused_without_a_line_of_it(diff: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        list(apply(ENTRIES, b"", diff))
    assert ".example" not in str(refused.value)


def test_a_diff_of_another_snapshot() -> None:
    with pytest.raises(ValueError, match="is missing"):
        b"".join(apply(ENTRIES, A + b"\n", render(ENTRIES, [B], []).data))


def test_a_large_diff_that_is_damaged_leads_anywhere_or_raises_what_the_client_expects() -> None:
    """The client compares the SHA-256 of the outcome with what is signed; where they differ it takes the snapshot."""
    names = [f"n{number}.example" for number in range(3000)]
    old, new = (sorted(Entry("host", name).line() for name in part) for part in (names[:2000], names[1000:]))
    diff = render(ENTRIES, sorted(set(old) - set(new)), sorted(set(new) - set(old))).data
    content = b"\n".join(old) + b"\n"
    assert len(diff) > 1 << 16, "applied part by part"
    assert b"".join(apply(ENTRIES, content, diff)) == b"\n".join(new) + b"\n"
    for at in range(0, len(diff), 997):
        for damaged in (diff[:at] + b"\n" + diff[at:], diff[:at] + b"x" + diff[at + 1 :], diff[:at]):
            with contextlib.suppress(ValueError, LookupError):
                b"".join(apply(ENTRIES, content, damaged))

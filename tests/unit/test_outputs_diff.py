"""The diff's bytes, and what is refused as none. Its laws are in tests/property/test_diff.py."""

from __future__ import annotations

import pytest

from blocklistd.model import Entry
from blocklistd.outputs.diff import apply, parse, render

A, B = (Entry("host", f"{name}.example", {"id": "e-1"}).line() for name in "ab")


def test_the_bytes_of_the_contract() -> None:
    diff = b"".join(render([(A, -1), (B, 1)]))
    assert diff == b'{"remove":' + A + b'}\n{"add":' + B + b"}\n"
    assert b"".join(render([])) == b""


def test_parsed_lines_are_sorted_as_snapshots_are() -> None:
    assert parse(b"".join(render([(B, -1), (A, -1)]))) == ([A, B], [])
    assert parse(b"".join(render([(B, 1), (A, 1)]))) == ([], [A, B])
    assert parse(b"") == ([], [])


@pytest.mark.parametrize(
    ("diff", "reason"),
    [
        (b'{"add":' + A + b"}", "cut short"),
        (b'{"add":' + A[:-1] + b"\n", "line 1 .*not whole"),
        (b'{"add":' + A + b'}\n{"keep":' + B + b"}\n", "line 2 .*neither"),
        (b"\n", "line 1"),
    ],
    ids=["cut", "no-brace", "other-step", "empty-line"],
)
def test_anything_else_is_refused_by_its_line_alone(diff: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        apply(b"", diff)
    assert ".example" not in str(refused.value)


def test_a_diff_of_another_snapshot() -> None:
    with pytest.raises(ValueError, match="is not there"):
        b"".join(apply(A + b"\n", b"".join(render([(B, -1)]))))

"""`plain`: what a simple consumer reads line by line."""

from __future__ import annotations

import io

from blocklistd.model import Entry
from blocklistd.outputs import OUTPUTS


def test_one_value_a_line_in_the_snapshots_order() -> None:
    entries = [Entry("host", "b.example"), Entry("url", 'https://a.example/"q"'), Entry("domain", "a.example")]
    snapshot = io.BytesIO(b"".join(entry.line() + b"\n" for entry in entries))
    out = io.BytesIO()
    assert OUTPUTS["plain"](snapshot, out) == 0, "nothing is left out"
    assert out.getvalue() == b'b.example\nhttps://a.example/"q"\na.example\n'


def test_an_empty_version_is_zero_bytes() -> None:
    out = io.BytesIO()
    assert OUTPUTS["plain"](io.BytesIO(), out) == 0
    assert out.getvalue() == b""

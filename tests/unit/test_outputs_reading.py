"""What the formats share: names that a domain covers, in a snapshot of many blocks."""

from __future__ import annotations

import io
import random

import pytest

from blocklistd.model import Entry
from blocklistd.outputs import reading
from blocklistd.outputs.reading import entries, uncovered


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_covered_names_are_left_out_in_any_block(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_BLOCK", block)
    chosen = random.Random(5)
    names = [".".join(chosen.choices("abcdefgh", k=chosen.randint(2, 6))) for _ in range(4000)]
    found = {Entry(chosen.choice(("domain", "host")), name).line() for name in names}
    found |= {Entry("url", f"http://{name}.example/").line() for name in names[:50]}
    lines = sorted(found)
    snapshot = io.BytesIO(b"".join(line + b"\n" for line in lines))
    all_entries = list(entries(snapshot))
    assert len(all_entries) == len(lines)
    domains = {value for kind, value in all_entries if kind == b"domain"}

    def is_covered(kind: bytes, name: bytes) -> bool:
        labels = name.split(b".")
        first = 1 if kind == b"domain" else 0
        return kind != b"url" and any(b".".join(labels[at:]) in domains for at in range(first, len(labels)))

    expected = [one for one in all_entries if not is_covered(*one)]
    assert 100 < len(expected) < len(all_entries) - 100
    assert list(uncovered(snapshot)) == expected


def test_attributes_and_escapes_do_not_matter() -> None:
    lines = [Entry("domain", "a.example", {"category": "A"}).line(), Entry("url", "http://a.example/\\x").line()]
    assert list(entries(io.BytesIO(b"".join(line + b"\n" for line in lines)))) == [
        (b"domain", b"a.example"),
        (b"url", b"http://a.example/\\x"),
    ]

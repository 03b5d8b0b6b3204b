"""What a reviewer is shown of a held candidate's changes: figures, and nothing that is an entry."""

from __future__ import annotations

from blocklistd.versions.commit import _suffixes


def test_changes_are_counted_by_last_label_and_never_by_a_whole_name() -> None:
    values = {
        "domain": ["a.example", "b.c.example", "test", "example"],
        "url": ["https://a.example:8443/x", "http://192.0.2.1/x", "http://[2001:db8::1]:8080/", "http://localhost/"],
        "host": ["www.a.test"],
        "md5": ["0" * 32],
    }
    lines = [f'{{"type":"{kind}","value":"{value}"}}'.encode() for kind, all in values.items() for value in all]
    assert _suffixes(lines[:3], lines[3:]) == {"example": 3, ".": 3, "address": 2, "test": 1, "md5": 1}

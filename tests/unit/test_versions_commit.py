"""What becomes of what sources assert; and what a reviewer is shown of a held candidate's changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocklistd.errors import StoreError
from blocklistd.model import Sha256, SourceId
from blocklistd.versions.commit import _suffixes
from blocklistd.versions.pulls import take_over
from tests.versions_of import Versions, report


def test_changes_are_counted_by_last_label_and_never_by_a_whole_name() -> None:
    values = {
        "domain": ["a.example", "b.c.example", "test", "example"],
        "url": ["https://a.example:8443/x", "http://192.0.2.1/x", "http://[2001:db8::1]:8080/", "http://localhost/"],
        "host": ["www.a.test"],
        "md5": ["0" * 32],
    }
    lines = [f'{{"type":"{kind}","value":"{value}"}}'.encode() for kind, all in values.items() for value in all]
    assert _suffixes(lines[:3], lines[3:]) == {"example": 3, ".": 3, "address": 2, "test": 1, "md5": 1}


def newest(versions: Versions, source: str, asserted: Sha256) -> None:
    """The source's newest word, as a pull leaves it."""
    with versions.database.write() as connection:
        take_over(connection, SourceId(source), report(asserted), "settings")


def test_what_two_sources_asserted_is_gone_and_each_says_it_again(tmp_path: Path) -> None:
    versions = Versions(tmp_path, "one", "two")
    said = {"one": versions.seal(["a.example", "b.example"]), "two": versions.seal(["c.example"])}
    for source, asserted in said.items():
        newest(versions, source, asserted)
        versions.publish(asserted, source)
    for asserted in said.values():
        versions.store.sealed.path(asserted).unlink()
    again = versions.seal(["a.example", "b.example", "d.example"])
    newest(versions, "one", again)
    with pytest.raises(StoreError, match="read anew at its next pull"):  # what `two` says is not known yet
        versions.settle(again, "one")
    last = versions.seal(["c.example", "e.example"])
    newest(versions, "two", last)
    assert versions.settle(last, "two").made
    assert versions.live.count(b"\n") == 5

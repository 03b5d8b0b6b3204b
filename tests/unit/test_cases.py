"""The bodies of real lists' faults, where they are at hand, against the table beside them."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest

from blocklistd.errors import ParseError
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.sources.intake.canonical import Canonical
from blocklistd.sources.intake.entries import read_entries
from tests import reference

CASES = Path(__file__).resolve().parents[3] / "shared" / "cases"
URL, DOMAIN, HOST = ({"type": kind} for kind in ("url", "domain", "host"))
OK, A = "https://ok.example/", "https://a.example/"

TABLE: dict[str, tuple[str, FormatOptions, list[str], dict[str, int]]] = {
    "names.txt": (
        "text",
        FormatOptions(defaults=DOMAIN),
        ["r3---x.example", "_dmarc.q.example", "ok.example"],
        {"character": 5},
    ),
    "names.hosts": ("hosts", FormatOptions(defaults=HOST), ["ok.example"], {"character": 2}),
    "url-hosts.txt": ("text", FormatOptions(defaults=URL), [OK], {"character": 2, "one-label": 1}),
    "url-blanks.txt": ("text", FormatOptions(defaults=URL), ["https://f.example/w", OK], {"character": 3}),
    "newline.ndjson": ("ndjson", FormatOptions({"value": "/url"}, URL), [OK], {"character": 1}),
    "newline.csv": ("csv", FormatOptions({"value": "url"}, URL), [OK], {"character": 1}),
    "long-row.csv": ("csv", FormatOptions({"value": "url"}, URL), [OK, "https://two.example/"], {"long-row": 1}),
    "withheld.txt": ("text", FormatOptions(defaults=DOMAIN), ["com", "co.uk", "gov.uk", "ok.example"], {}),
    "new-alabels.txt": ("text", FormatOptions(defaults=DOMAIN), ["xn--k09h.example", "ok.example"], {}),
    "comment.hosts": (
        "hosts",
        FormatOptions(defaults=DOMAIN),
        ["bad.example", "worse.example", "ok.example"],
        {"not-a-name": 1},
    ),
    "local.hosts": ("hosts", FormatOptions(defaults=HOST), ["ok.example"], {}),
    "numbers.ndjson": ("ndjson", FormatOptions({"value": "/url"}, URL), [A, OK], {"duplicate-key": 1}),
    "fragment.txt": ("text", FormatOptions(defaults=URL), [OK, "https://a.example/x"], {"fragment": 1}),
}
"""By file: format, options, what the source asserts (of which a list may withhold some), what is refused."""

pytestmark = pytest.mark.skipif(not CASES.exists(), reason=f"the bodies are not at hand: {CASES} is not there")


def asserted(name: str) -> tuple[list[str], Canonical]:
    format, options, _, _ = TABLE[name]
    body = (CASES / name).read_bytes()
    out, plain = io.BytesIO(), io.BytesIO()
    found = read_entries(body, format, options, None, out).canonical
    assert found == reference.read_entries(body, format, options, None, plain).canonical
    assert out.getvalue() == plain.getvalue()
    return [line.split('"')[7] for line in out.getvalue().decode().splitlines()], found


@pytest.mark.parametrize("name", TABLE)
def test_a_body_is_read_as_the_table_says(name: str) -> None:
    values, found = asserted(name)
    assert values == sorted(TABLE[name][2])
    assert found.rejected == Counter(TABLE[name][3])


def test_lines_that_end_in_carriage_returns_are_no_entry() -> None:
    with pytest.raises(ParseError, match="lines end in CR alone"):
        read_entries((CASES / "cr-only.txt").read_bytes(), "text", FormatOptions(defaults=URL), None, io.BytesIO())


def test_every_body_is_of_the_table() -> None:
    files = {file.name for file in CASES.iterdir()} - {"README.md", "cr-only.txt"}
    assert files - TABLE.keys() == set()

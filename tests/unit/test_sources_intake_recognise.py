"""Bodies that people mistake for lists are recognised if no record could be read."""

from __future__ import annotations

import pytest

from blocklistd.sources.formats.records import FormatOptions, list_start
from blocklistd.sources.intake.recognise import NEXT_STEPS, UNKNOWN, recognised

SHA256 = "0123456789abcdef" * 4
URLS, NAMES = FormatOptions(defaults={"type": "url"}), FormatOptions(defaults={"type": "domain"})
HASHES = FormatOptions(defaults={"type": "sha256"})
POINTER = FormatOptions({"value": "/url"}, {"type": "url"})


def recognise(body: str, format: str, options: FormatOptions) -> str:
    data = body.encode()
    next_step = recognised(data, list_start(data, format), format, options)
    assert next_step in NEXT_STEPS
    return next_step


@pytest.mark.parametrize(
    ("body", "format", "options", "expected"),
    [
        ("[Adblock Plus 2.0]\n! Title: a list\n||a.example^\n||b.example^$third-party\n", "text", NAMES, "AdBlock"),
        ("||a.example^\n@@||b.example^\nc.example##.ad\n", "text", URLS, "AdBlock"),
        ("# a list\n*.a.example\n*.b.example\n", "text", NAMES, "options.wildcards: domain"),
        ("0.0.0.0 *.a.example\n", "hosts", NAMES, "options.wildcards: domain"),
        (f"{SHA256}  a file.jpg\n{SHA256} *b.jpg\n", "text", HASHES, "the hash alone"),
        (f"{SHA256[:32].upper()}\tc.jpg\n", "text", HASHES, "the hash alone"),
        ('[{"url":"https://a.example/"},{"url":"https://b.example/"}]\n', "ndjson", POINTER, "format: json"),
        ('{\n  "url": "https://a.example/"\n}\n', "ndjson", POINTER, "format: json"),
        ('["a.example",\n"b.example"]\n', "text", NAMES, "format: json"),
        ('{"link":"https://a.example/"}\n{"link":"https://b.example/"}\n', "ndjson", POINTER, "fields.value"),
        ('{"link":"https://a.example/"}\n', "json", POINTER, "fields.value"),
        ('{"link":"https://a.example/"}\n', "xml", POINTER, "fields.value"),
        ("Error\n<!DOCTYPE html><HTML>\n", "text", NAMES, "HTML"),
        ("502 Bad Gateway <p>nginx</p>\n", "text", URLS, "HTML"),
        ("# a list\nhttps://a.example/\rhttps://b.example/\r\n", "text", URLS, "CR alone"),
        ("127.0.0.1 a.example\n::1 b.example\n", "text", NAMES, "format: hosts"),
        ("https://a.example/\nHTTP://b.example/x\n", "text", NAMES, "defaults.type: url"),
        ("a.example\nb_c.example.\n", "text", URLS, "defaults.type: host"),
        ("some words\nand others\n", "text", NAMES, UNKNOWN),
        ("\ufeff\nsome words\n", "csv", POINTER, UNKNOWN),
        ("# a list\n# and its date\n", "ndjson", POINTER, UNKNOWN),
    ],
)
def test_a_body_that_is_no_list_is_recognised(body: str, format: str, options: FormatOptions, expected: str) -> None:
    assert expected in recognise(body, format, options)

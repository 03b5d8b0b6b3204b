"""Entries that a person's text mentions are found in every spelling; ordinary words mention none."""

from __future__ import annotations

import pytest

from blocklistd.kinds.mentions import could_name_an_entry, has_url, mentions
from blocklistd.model import Entry


def names(text: str, kind: str, value: str) -> bool:
    line = Entry(kind, value).line()
    return any(line.startswith(beginning) for beginning in mentions(text))


@pytest.mark.parametrize(
    "text",
    [
        "see https://a.example/b",
        "HTTP://A.EXAMPLE",
        "hxxps://a[.]example/b",
        "ftp://a.example",
        "https:\\\\a.example",
        "at a.example/b it says",
        "a.example:8080/b",
        "a(dot)example/b",
    ],
)
def test_a_url_is_found_with_and_without_a_scheme_and_defanged(text: str) -> None:
    assert has_url(text)


@pytest.mark.parametrize("text", ["and/or", "1/2", "ticket 7: done", "a.example", "it ended. / Then", "24/7 e-0123abc"])
def test_ordinary_text_contains_no_url(text: str) -> None:
    assert not has_url(text)


@pytest.mark.parametrize("kind", ["host", "domain"])
@pytest.mark.parametrize(
    "text",
    [
        "a.example",
        "(A.Example)",
        "of a.example.",
        "x@a.example",
        "a[.]example, b",
        "a.example:443",
        "'a.example'",
        "host=a.example",
        "host:a.example",
        "http:a.example",
        "“a.example”",
        "„a.example“",
        "a.example…",
        "a.example–b",
        "a.example?page=2",
        "#a.example",
        "_a.example_",
        "$a.example",
        "a.example%20",
        "a%2Eexample",
        "a&#46;example",
        "a&period;example",
        "of a . example",
        "a. example",
        "a DOT example",
        "a dot  example.",
        "*.a.example",
        "a。example",
        "-a.example-",
    ],
)
def test_a_name_is_found_between_any_punctuation(text: str, kind: str) -> None:
    assert names(text, kind, "a.example")


def test_a_name_mentions_its_canonical_form_and_the_domains_above_it() -> None:
    assert names("bücher.example", "host", "xn--bcher-kva.example")
    assert names("www.a.example", "domain", "a.example"), "a domain covers the names below it"
    assert not names("www.a.example", "host", "a.example"), "a host covers only itself"
    assert not names("xa.example", "domain", "a.example")


def test_a_name_or_an_address_mentions_the_urls_of_this_host() -> None:
    assert names("a.example", "url", "https://a.example/x")
    assert names("a.example", "url", "http://a.example:8080/x")
    assert not names("a.example", "url", "https://a.example.test/x")
    assert names("192.0.2.1", "url", "http://192.0.2.1/x")
    assert names("2001:DB8::1", "url", "http://[2001:db8::1]/x")


@pytest.mark.parametrize(
    "text",
    [
        *("2001:DB8::1", "see 2001:db8::1.", "[2001:db8::1]:53", "ip=2001:db8::1", "(2001:db8::1)", "2001:db8::1/128"),
        *("2001:db8:0:0::1:", "http://[2001:db8::1]/", "2001[:]db8::1 or 2001:db8::1"),
    ],
)
def test_an_address_is_found_between_any_punctuation(text: str) -> None:
    assert names(text, "ip", "2001:db8::1")
    assert names(text, "ip", "2001:db8::/32"), "a prefix contains the address"
    assert not names(text, "ip", "2001:db8:1::/48")


def test_a_prefix_is_found_by_itself_and_by_the_addresses_in_it() -> None:
    for text in (
        "192.0.2.0/24",
        "of 192.0.2.7",
        "http://192.0.2.7:8080/x",
        "192[.]0[.]2[.]7",
        "2001:db8:: 192.0.2.0/25",
    ):
        assert names(text, "ip", "192.0.2.0/24")
    assert names("at 2001:db8::", "ip", "2001:db8::/48")
    assert not names("192.0.2.0/24", "ip", "192.0.2.7"), "a prefix is not one of its addresses"


@pytest.mark.parametrize(("kind", "digits"), [("md5", 32), ("sha1", 40), ("sha256", 64)])
def test_a_hash_is_found_between_any_punctuation(kind: str, digits: int) -> None:
    for text in ("file %s.", "sha256:%s", "“%s”", "(%s)", "_%s_"):
        assert names(text % ("AB" * (digits // 2)), kind, "ab" * (digits // 2))


@pytest.mark.parametrize(
    "text",
    [
        "https://a.example/b",
        "a.example",
        "seen at (A[.]Example)",
        "192.0.2.1",
        "2001:db8::1",
        "2001:db8::/32",
        "ab" * 16,
    ],
)
def test_a_text_that_could_name_an_entry(text: str) -> None:
    assert could_name_an_entry(text)


@pytest.mark.parametrize("text", ["phishing", "Betrug, Stufe 2.1", "fraud:shop/fake", "CSAM_new", "4096", ""])
def test_a_text_that_can_name_none(text: str) -> None:
    assert not could_name_an_entry(text)

from __future__ import annotations

import sys

import pytest

from blocklistd.kinds import InvalidEntry
from blocklistd.kinds.url import is_address_url, is_host_of, url
from blocklistd.limits import MAX_URL, MAX_URL_INPUT


def refusal(value: str) -> str:
    with pytest.raises(InvalidEntry) as caught:
        url(value)
    assert caught.value.__context__ is None, "a chained exception could hold the value"
    return caught.value.code


@pytest.mark.parametrize(
    "value",
    [
        "https://a.example/",
        "http://a.example/x?y=1",
        "https://a.example:8443/x",
        "https://a.example/?",
        "https://a.example/a.b/..c/...?../.",
        "https://a.example//x//",
        "https://a.example/@x:y",
        "https://a.example/%2F%C3%A9?%26=%20",
        "https://xn--fa-hia.example/",
        "https://r3---x._dmarc.example/",
        "http://192.0.2.1/",
        "http://[2001:db8::1]:8080/",
        "https://a.example/?a=\\b",
        "https://a.example/" + "x" * (MAX_URL - 18),
    ],
)
def test_canonical_urls_stay_as_they_are(value: str) -> None:
    assert url(value) == value


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("https://a.example", "https://a.example/"),
        ("https://a.example?x", "https://a.example/?x"),
        ("HTTPS://A.Example/X", "https://a.example/X"),
        ("https://faß.example/é", "https://xn--fa-hia.example/%C3%A9"),
        ("https://a.example./x", "https://a.example/x"),
        ("https://a.example.:8443/x", "https://a.example:8443/x"),
        ("https://%61.example/", "https://a.example/"),
        ("https://a.example:443/", "https://a.example/"),
        ("http://a.example:80/", "http://a.example/"),
        ("http://a.example:443/", "http://a.example:443/"),
        ("http:a.example\\x", "http://a.example/x"),
        ("https://user:secret@a.example/x@y", "https://a.example/x@y"),
        ("https://user@a.example:8443/", "https://a.example:8443/"),
        ("https://@a.example/", "https://a.example/"),
        ("https://u@v@a.example/", "https://a.example/"),
        ("https://a.example/x#part", "https://a.example/x"),
        ("https://a.example/x#", "https://a.example/x"),
        ("https://a.example/?x#a?b#c@d", "https://a.example/?x"),
        ("https://a.example/#", "https://a.example/"),
        ("https://a.example/x#/spa/page", "https://a.example/x"),
        ("https://a.example/?x#part", "https://a.example/?x"),
        ("https://a.example/b/../c/./d", "https://a.example/c/d"),
        ("https://a.example/b/%2e%2E/c/%2e/d", "https://a.example/c/d"),
        ("https://a.example/b/.%2e", "https://a.example/"),
        ("https://a.example/..", "https://a.example/"),
        ("https://a.example/.?x", "https://a.example/?x"),
        ("https://a.example/a b", "https://a.example/a%20b"),
        ("\x01 https://a.example/x\x1f", "https://a.example/x"),
        ("\u3000https://a.example/x\u00a0\u2003 ", "https://a.example/x"),
        ("\ufeffhttps://a.example/x\u200b\t\x85", "https://a.example/x"),
        ("https://a.example/a\u00a0b", "https://a.example/a%C2%A0b"),
        ("https://xn--k09h.example", "https://xn--k09h.example/"),  # U+1FA89, of Unicode 16
        ("https://u:xn--k09h@A.XN--K09H.example:8443/%41?b#c", "https://a.xn--k09h.example:8443/A?b"),
        ("https://xn--k09h.example/xn!!/?xn--k09h", "https://xn--k09h.example/xn!!/?xn--k09h"),
        ("http://127.1/", "http://127.0.0.1/"),
        ("http://0x7f.1./", "http://127.0.0.1/"),
        ("http://[2001:DB8:0::1]:80/", "http://[2001:db8::1]/"),
    ],
)
def test_other_spellings_of_a_url_become_its_one_form(value: str, canonical: str) -> None:
    assert url(value) == canonical


@pytest.mark.parametrize(
    ("rest", "canonical"),
    [
        ("%7euser/%41%2d%5f", "~user/A-_"),
        ("%c3%a9%2f", "%C3%A9%2F"),
        ("?%7e=%c3%a9%2b", "?~=%C3%A9%2B"),
        ("%252e", "%252e"),  # the text %2e: decoded once, never twice
        ("%%32e", "%%32e"),  # decoding would make the triplet %2e
        ("%2%45", "%2%45"),
        ("%%32%65", "%%32%65"),
        ("%zz%7e%c3", "%zz~%C3"),
        ("%", "%"),
        ("x?%%34%31", "x?%%34%31"),
    ],
)
def test_percent_encoding_is_normalised_without_changing_its_meaning(rest: str, canonical: str) -> None:
    assert url(f"https://a.example/{rest}") == f"https://a.example/{canonical}"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "not-a-url"),
        ("a.example/x", "not-a-url"),
        ("//a.example/", "not-a-url"),
        ("https://", "not-a-url"),
        ("https://a b.example/", "not-a-url"),
        ("https://192.0.2.256/", "not-a-url"),
        ("https://[2001:db8::g]/", "not-a-url"),
        ("https://a.example:65536/", "not-a-url"),
        ("https://xn--a.example/", "not-a-url"),
        ("https://a.example/\ud800", "not-a-url"),
        ("ftp://a.example/", "scheme"),
        ("file:///x", "scheme"),
        ("data:text/plain,https://a.example/", "scheme"),
        ("javascript:0", "scheme"),
        ("blob:https://a.example/x", "scheme"),
        ("a.example:80/x", "scheme"),
        ("https://a.exa\0mple/", "character"),
        ("https://a.exa\x7fmple/", "character"),
        *((f"https://a.example/x{control}y", "character") for control in "\t\n\r\0\x0b\x1f\x7f\x80\x85\x9f"),
        ("ht\ttps://a.example/", "character"),
        ("https://a.example/x\thttps://b.example/y", "character"),
        ("https://a.example/x # seen on a forum", "character"),
        ("https://a.example/x\u00a0#note", "character"),
        ("https://a.example/1 https://b.example/2", "character"),
        ("https://a.example/1\u2028HTTP://b.example/2", "character"),
        ('https://a.example/?q=x "http://b.example/', "character"),
        ("https://&#108;&#46;.example/x", "character"),
        ("https://a,b.example/", "character"),
        ("https://$(id).example/", "character"),
        ("https://%24%28id%29.example/", "character"),
        ("https://xn!!k09h.example/", "character"),
        ("https://xn!!k09h.xn--k09h.example/", "not-a-url"),
        ("https://xn%21%21k09h.xn--k09h.example/", "character"),
        ("http://http//f.example/x", "one-label"),
        ("https://localhost/", "one-label"),
        ("https://com./x", "one-label"),
        ("https://*.a.example/", "wildcard"),
        ("https://%2a.a.example/", "wildcard"),
        ("https://a.rpz-ip/", "rpz-label"),
        ("https://./", "empty"),
        ("https://a..example/", "empty-label"),
        ("https://a.example../", "empty-label"),
        (f"https://{'l' * 64}.example/", "label-too-long"),
        (f"https://{'l.' * 124}example/", "name-too-long"),
        ("https://a.example/#/spa/page", "fragment"),
        ("https://a.example#x", "fragment"),
        ("https://a.example/?#x", "fragment"),
        ("https://a.example/b/..#x", "fragment"),
        ("http://192.0.2.1:8080/#!/x", "fragment"),
        ("https://a.example/" + "x" * (MAX_URL - 17), "url-too-long"),
        ("https://a.example/" + "é" * (MAX_URL // 6), "url-too-long"),
        ("https://a.example/#" + "x" * MAX_URL_INPUT, "url-too-long"),
        ("https://" + "\ufdfa" * 1013 + "/", "name-too-long"),
        ("https://a@" + "\ufdfa" * 1013, "name-too-long"),
        ("http:/" + "\ufdfa" * 1013 + "?a@b", "name-too-long"),
        ("https://" + "\ufdfa" * 255 + ":443/", "name-too-long"),
        ("https://" + "%61" * 255 + "/", "name-too-long"),
    ],
)
def test_a_text_that_is_no_listable_url_is_refused(value: str, code: str) -> None:
    assert refusal(value) == code


@pytest.mark.parametrize(
    ("value", "is_address"),
    [
        ("http://192.0.2.1/", True),
        ("https://192.0.2.1:8443/x", True),
        ("https://[2001:db8::1]/", True),
        ("https://a.example/192.0.2.1/", False),
        ("https://192.0.2.1.example/", False),
        ("https://1.example/", False),
    ],
)
def test_urls_of_addresses_are_distinguished_from_urls_of_names(value: str, is_address: bool) -> None:
    assert url(value) == value
    assert is_address_url(value) is is_address


@pytest.mark.parametrize(
    "text",
    [
        "https://" + "\ufdfa" * 21_000,
        "https://" + "a\u0301\u0327" * 13_000 + "/",
        "https://" + "a." * 32_000,
        "https://a.example/" + "é" * 32_000,
        "https://a.example/" + "%41" * 21_000,
        "https://a.example/?" + "'" * 65_000,
        "http:" + "/" * 60_000 + "\ufdfa" * 1_000,
        "https://" + "\ufdfa" * 255 + "/",
        "https://" + "l." * 124 + "example/",
    ],
)
def test_a_url_as_long_as_a_line_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Parsing expands, normalises and decodes its parts, which takes up to 5 µs a byte."""

    def parsed(value: str) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(sys.modules["blocklistd.kinds.url"], "_href", parsed)
    assert refusal(text) in ("url-too-long", "name-too-long")


def test_a_long_url_whose_canonical_form_is_short_is_read() -> None:
    assert url("https://a.example/" + "%41" * 2000) == "https://a.example/" + "A" * 2000
    assert url("https://a.example/" + "b/../" * 4000) == "https://a.example/"
    assert url("https://" + "u" * 2000 + "@a.example/x") == "https://a.example/x"


@pytest.mark.parametrize(
    ("host", "value", "fits"),
    [
        ("a.example", "https://a.example/x:1/", True),
        ("A.Example.", "https://a.example/", True),
        ("a.example", "https://www.a.example:8443/", True),  # the URL is below the name
        ("www.a.example", "https://a.example/", False),
        ("a.example", "https://ba.example/", False),
        ("b.example", "https://a.example/?b.example", False),
        ("192.0.2.1", "http://192.0.2.1:81/", True),
        ("[2001:db8::1]", "http://[2001:db8::1]/", True),
        ("a.example", "www.a.example", True),
        ("b.example", "a.example", False),
        ("no name", "https://a.example/", False),
        ("a.example/x", "https://a.example/x", False),
        ("a.example:8443", "https://a.example:8443/", False),
    ],
)
def test_a_record_that_gives_another_host_than_its_url_contradicts_itself(host: str, value: str, fits: bool) -> None:
    assert is_host_of(host, value) is fits

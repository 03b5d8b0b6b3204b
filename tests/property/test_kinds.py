"""The laws of canonical forms, tested with texts that are nearly valid or nearly invalid."""

from __future__ import annotations

import re

import can_ada
from hypothesis import example, given
from hypothesis import strategies as st

from blocklistd.kinds import KINDS, InvalidEntry, plain_pattern
from blocklistd.kinds.name import name, parsed_name
from blocklistd.kinds.url import parsed_url, url

NEWER = "xn--k09h"
"""An A-label that the library does not know."""
LABELS = st.one_of(
    st.sampled_from(
        [
            NEWER,
            "",
            "*",
            "1",
            "0x7f",
            "0x",
            "08",
            "127",
            "256",
            "rpz-ip",
            "xn--",
            "xn--fa-hia",
            "xn--a",
            "xn--53h",
            "XN--A-",
        ]
    ),
    st.text("abxyz019-_", min_size=1, max_size=8),
    st.integers(60, 66).map("l".__mul__),
    st.text(max_size=5),
)
NAMES = st.lists(LABELS, min_size=1, max_size=6).flatmap(
    lambda labels: st.sampled_from([".", "。"]).map(lambda dot: dot.join(labels))
)
HOSTS = NAMES | st.sampled_from(["a.example", "a.example.", "192.0.2.1", "0x7f.1.", "[2001:DB8::1]", "%61.example"])
PIECES = st.one_of(
    st.sampled_from(["/", ".", "..", "?", "#", "@", ":", "\\", "%", "%%", "%2", "%2e", "%2E", "%25", "%32", "%65"]),
    st.sampled_from(["%45", "%7e", "%41", "%c3%A9", "%2f", "%00", "%zz", " ", "'", '"', "|", "^", "[", "é", "\u00ad"]),
    st.integers(0, 255).map("%{:02x}".format),
    st.text(max_size=3),
)
URLS = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["http://", "https://", "HTTPS://", "http:", "ftp://", ""]),
    st.sampled_from(["", "u@", "u:p@", "@", ":@"]),
    HOSTS,
    st.sampled_from(["", ":", ":80", ":443", ":8080"]),
    st.lists(PIECES, max_size=12).map("".join).map("/".__add__) | st.just(""),
)


def canonical(kind: str, value: str) -> str | None:
    try:
        return KINDS[kind](value)
    except InvalidEntry:
        return None


@given(value=NAMES)
def test_a_canonical_name_is_its_own_canonical_form(value: str) -> None:
    once = canonical("host", value)
    if once is not None:
        assert name(once) == once


@given(value=NAMES)
def test_a_canonical_name_fits_the_dns_and_is_no_address(value: str) -> None:
    once = canonical("host", value)
    if once is not None:
        labels = once.split(".")
        assert once.isascii()
        assert once == once.lower()
        assert len(once) <= 253
        assert all(re.fullmatch("[a-z0-9_-]{1,63}", label) for label in labels)
        assert not labels[-1].startswith("rpz-")
        assert not labels[-1].isdigit()


@given(value=NAMES | st.from_regex(r"[a-z0-9_.-]{1,80}", fullmatch=True))
@example(value="l" * 63 + ".example")
@example(value="l" * 64 + ".example")
@example(value="l." * 123 + "example")
@example(value="l." * 124 + "example")
def test_the_pattern_for_plain_names_agrees_with_the_parser(value: str) -> None:
    by_parser: str | None
    try:
        by_parser = parsed_name(value)
    except InvalidEntry:
        by_parser = None
    assert canonical("host", value) == by_parser


@given(value=NAMES)
def test_a_canonical_name_is_a_canonical_host_of_a_url(value: str) -> None:
    once = canonical("domain", value)
    if once is not None and "." in once:
        assert url(f"http://{once}/") == f"http://{once}/"


@given(value=URLS)
@example(value="http://a.example/%%32e")
@example(value="http://a.example/%2%65/%2e%2e/x")
@example(value="http://a.example/%%%32%65")
def test_a_canonical_url_is_its_own_canonical_form_and_parses_to_itself(value: str) -> None:
    once = canonical("url", value)
    if once is not None:
        assert url(once) == once
        assert NEWER in once or can_ada.parse(once).href == once


@given(value=URLS)
def test_a_canonical_url_has_no_user_info_no_fragment_and_the_canonical_host(value: str) -> None:
    once = canonical("url", value)
    if once is not None and NEWER not in once:
        parsed = can_ada.parse(once)
        assert once.isascii()
        assert once.isprintable()
        assert "#" not in once
        assert not parsed.has_credentials()
        assert parsed.hostname in (can_ada.parse(value).hostname, can_ada.parse(value).hostname.removesuffix("."))
        assert canonical("host", parsed.hostname) in (parsed.hostname, None)  # None: an address


@given(
    value=URLS | st.from_regex(r"https?://[a-z.]{1,9}(/[a-zA-Z0-9.~']{0,4}){1,4}(\?[a-z'/?.]{0,6})?", fullmatch=True)
)
def test_the_pattern_for_plain_urls_agrees_with_the_parser(value: str) -> None:
    by_parser: str | None
    try:
        by_parser = parsed_url(value)
    except InvalidEntry:
        by_parser = None
    assert canonical("url", value) == by_parser
    if plain_pattern("url", value).fullmatch(value) and "xn--" not in value:
        assert by_parser == value


@given(value=st.text() | NAMES | URLS | st.text("0123456789abcdefABCDEF", min_size=30, max_size=66))
def test_any_text_is_canonicalised_or_refused_and_raises_no_other_error(value: str) -> None:
    for kind in KINDS:
        once = canonical(kind, value)
        assert once is None or KINDS[kind](once) == once

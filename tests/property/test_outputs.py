"""No value breaks out of a format: whatever a URL contains, each line is about that URL, and matches no other."""

from __future__ import annotations

import ctypes
import io
import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blocklistd.kinds import KINDS, InvalidEntry
from blocklistd.lines.keys import type_and_value
from blocklistd.model import Entry
from blocklistd.outputs import OUTPUTS

PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
PARTS = st.text(st.sampled_from(PRINTABLE), max_size=20)
HEADS = {"unbound": 1, "rpz": 3, "mikrotik": 3, "adblock": 1}
"""The lines with which a format begins."""
LINES = {"plain": 1, "squid-urls": 1, "adblock": 2}
"""The lines of a URL, in the formats that can express it."""


def urls() -> st.SearchStrategy[str]:
    """Canonical URLs whose path and query contain any printable character."""

    def canonical(path: str, query: str) -> str | None:
        try:
            return KINDS["url"](f"http://u.example/{path}?{query}")
        except InvalidEntry:
            return None

    return st.builds(canonical, PARTS, PARTS).filter(bool).map(str)


def rendered(name: str, *lines: bytes) -> tuple[bytes, int]:
    out = io.BytesIO()
    omitted = OUTPUTS[name](io.BytesIO(b"".join(line + b"\n" for line in sorted(lines))), out)
    return out.getvalue(), omitted


class _Libc:
    """The regular expressions of the C library, which Squid uses."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)

    def compile(self, pattern: bytes) -> Callable[[bytes], bool]:
        compiled = ctypes.create_string_buffer(256)  # more than the size of regex_t
        extended_without_groups = 1 | 8
        assert self._libc.regcomp(compiled, pattern, extended_without_groups) == 0, pattern
        return lambda text: self._libc.regexec(compiled, text, 0, None, 0) == 0


LIBC = _Libc()


def decoded(url: str) -> bytes:
    """As Squid compares it: the triplets decoded."""
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), url.encode())


@given(urls(), urls())
@example("http://u.example/?${process_name}", "http://u.example/?$domain=a,b|c*d^")
@example("http://u.example/a%2Fb", "http://u.example/a/b")
@example("http://u.example/.*", "http://u.example/xx")
def test_a_url_is_said_exactly_or_left_out(url: str, other: str) -> None:
    for name in OUTPUTS:
        text, omitted = rendered(name, Entry("url", url).line())
        lines = text.splitlines(keepends=True)[HEADS.get(name, 0) :]
        assert len(text.split(b"\n")) - 1 - HEADS.get(name, 0) == len(lines) == (0 if omitted else LINES[name])
        assert omitted in ((0, 1) if name == "squid-urls" else (name not in LINES,))
        if name == "squid-urls" and not omitted:
            matches = LIBC.compile(lines[0].rstrip(b"\n"))
            assert matches(decoded(url))
            assert other == url or not matches(decoded(other)) or decoded(url) == decoded(other)
            assert not matches(decoded(url) + b"x")
            assert not matches(b"x" + decoded(url))
        if name == "adblock":
            pattern = ADBLOCK.fullmatch(lines[0])
            assert pattern is not None
            assert lines[1] == lines[0].rstrip(b"\n") + b",document\n"
            assert re.fullmatch(pattern[1], url.encode())
            assert other == url or not re.fullmatch(pattern[1], other.encode())


ADBLOCK = re.compile(rb"/\^((?:[A-Za-z0-9_:=&%@;-]|\\x[0-9a-f]{2}|\[[A-F][a-f]\])+)\$/\$match-case\n")
"""A filter of a URL: a regular expression without any character that ends it or begins an option."""
LABEL = rb"[a-z0-9_-]+"
NAME = rb"%b(?:\.%b)*" % (LABEL, LABEL)
GRAMMAR = {
    "adblock": rb"\|\|NAME\^(?:\$document)?|\|https?://NAME\^(?:\$document)?",
    "mikrotik": rb"/ip dns static add comment=\"blocklistd\" type=NXDOMAIN name=\"NAME\"(?: match-subdomain=yes)?"
    rb"|/ip firewall address-list add comment=\"blocklistd\" list=\"blocklistd\" address=[0-9./]+"
    rb"|/ipv6 firewall address-list add comment=\"blocklistd\" list=\"blocklistd\" address=[0-9a-f:/]+",
    "unbound": rb"local-zone: \"NAME\.\" (?:always_nxdomain|transparent)"
    rb"|local-data: \"NAME\. 60 IN HINFO blocked blocked\"",
    "dnsmasq": rb"address=/NAME/|host-record=NAME,0\.0\.0\.0,::",
    "squid": rb"\.?NAME",
    "hosts": rb"(?:0\.0\.0\.0|::) NAME",
    "rpz": rb"(?:\*\.)?NAME CNAME \.",
}
NAMES = st.lists(st.sampled_from(["a", "b", "c-", "_d"]), min_size=1, max_size=4).map(
    lambda found: ".".join([*found, "e"])
)


@given(
    st.lists(
        st.builds(Entry, st.sampled_from(["host", "domain"]), NAMES)
        | st.builds(Entry, st.just("ip"), st.sampled_from(["192.0.2.1", "192.0.2.0/24", "2001:db8::/32"])),
        max_size=12,
        unique_by=lambda entry: (entry.type, entry.value),
    )
)
def test_names_have_a_strict_grammar_and_none_is_covered_twice(entries: list[Entry]) -> None:
    domains = {entry.value for entry in entries if entry.type == "domain"}

    def above(entry: Entry) -> set[str]:
        labels = entry.value.split(".")
        return {".".join(labels[at:]) for at in range(entry.type == "domain", len(labels))}

    uncovered = [entry for entry in entries if entry.type != "ip" and not above(entry) & domains]
    for name, grammar in GRAMMAR.items():
        text, _ = rendered(name, *(entry.line() for entry in entries))
        lines = text.splitlines()[HEADS.get(name, 0) :]
        line = re.compile(re.sub(rb"\bNAME\b", lambda _: NAME, grammar))
        assert [found for found in lines if not line.fullmatch(found)] == []
    text, omitted = rendered("squid", *(entry.line() for entry in entries))
    expected = {("." if entry.type == "domain" else "") + entry.value for entry in uncovered}
    assert sorted(text.decode().splitlines()) == sorted(expected)
    assert omitted == sum(entry.type == "ip" for entry in entries)


@given(st.sampled_from(["url", "host", "domain", "sha256"]), st.text(min_size=1, max_size=12))
@example("host", "a.example\nb.example")
@example("url", "http://u.example/ http://v.example/")
@example("domain", 'a.example." always_nxdomain')
@example("url", "http://u.example/\x7f")
@example("host", "é.example")
def test_a_value_that_is_not_canonical_is_refused(kind: str, value: str) -> None:
    line = Entry(kind, value).line()
    of_name = re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", value) or kind not in ("host", "domain")
    printable = re.fullmatch(r"[!-~]+", value)
    for name in OUTPUTS:
        if printable and of_name:
            rendered(name, line)
            continue
        with pytest.raises(ValueError, match="canonical"):
            rendered(name, line)
    assert type_and_value(line) == (kind.encode(), value.encode())

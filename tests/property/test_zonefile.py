"""A zone is read as dnspython reads it, and differences between zones make the lines of the newer zone."""

from __future__ import annotations

import contextlib
import io
from itertools import pairwise

import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.zone
import dns.zonefile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.sources.formats.records import FormatOptions, Record
from blocklistd.sources.formats.rpz import records, to_lines
from tests.examples import examples

ZONE = "rpz.blocklist.example."
HEAD = f"$TTL 60\n@ {{}} SOA localhost. hostmaster.{ZONE} 1 60 30 600 60\n  NS localhost.\n"
LABELS = st.sampled_from(["a", "b", "WWW", "xn--4ca", "_dmarc", "9"])
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
OWNERS = st.one_of(NAMES, NAMES.map("*.{}".format), NAMES.map(f"{{}}.{ZONE}".format), NAMES.map(r"\097.{}".format))
BLANKS = st.sampled_from([" ", "\t", " \t ", " ( ", " (\n ; x )\n  "])
DATA = st.sampled_from(
    [
        *("CNAME .", "CNAME *.", "CNAME rpz-drop.", "cname rpz-passthru.", "CNAME stop", "CNAME\tstop.isp.example."),
        *("A 127.0.0.1", "AAAA ::1", 'TXT "a ; (b"', r"TXT a\;b \"", 'TXT ("x"\n "y")', r"TYPE65280 \# 1 00"),
    ]
)
TYPES = ("SOA", "NS", "CNAME", "cname", "A", "AAAA", "TXT", "TYPE65280")
CLASSES = st.sampled_from(["", "IN ", "60 ", "60 IN ", "IN 1h30m ", "in 60 "])


@st.composite
def files(draw: st.DrawFn) -> str:
    lines = []
    for _ in range(draw(st.integers(0, 12))):
        owner, blank = draw(OWNERS), draw(BLANKS)
        closed = " )" if blank.count("(") > blank.count(")") else ""
        line = f"{owner}{blank}{draw(CLASSES)}{draw(DATA)}{closed}"
        lines += [line + draw(st.sampled_from(["", " ; x", "\r", "\n\n", "\n; x"]))]
        lines += draw(st.sampled_from([[], [], ["  TXT z"], [f"$ORIGIN c.{ZONE}"], [f"$ORIGIN {ZONE}"], ["$TTL 1h"]]))
    return "\n".join(lines) + draw(st.sampled_from(["", "\n"]))


def lines_of(body: bytes, earlier: bytes | None = None) -> bytes:
    out = io.BytesIO()
    to_lines(body, earlier, FormatOptions(), out)
    return out.getvalue()


def listed(lines: bytes) -> set[tuple[str, str]]:
    found = records(io.BytesIO(lines), FormatOptions())
    return {(one.type, one.value) for one in found if isinstance(one, Record)}


def expected(text: str) -> set[tuple[str, str]]:
    """The entries of a zone file as dnspython reads it, which keeps the last CNAME of a name that has several."""
    origin = dns.name.from_text(ZONE)
    zone = dns.zone.from_text(text, origin, check_origin=False, allow_directives={"$TTL", "$ORIGIN"})
    count = sum(len(rdataset) for node in zone.nodes.values() for rdataset in node)
    assume(count == sum(any(f" {word} " in f" {line} " for word in TYPES) for line in text.expandtabs(1).split("\n")))
    listed: set[str] = set()
    excepted: set[str] = set()
    for name, node in zone.nodes.items():
        owner = name.to_text().lower()
        if owner == "@":
            continue
        rules = [rdata for rdataset in node for rdata in rdataset]
        passthru = dns.name.from_text("rpz-passthru.")
        is_exception = any(rdata.rdtype == dns.rdatatype.CNAME and rdata.target == passthru for rdata in rules)
        (excepted if is_exception else listed).add(owner)
    entries = set()
    for base in {owner for owner in listed if not owner.startswith("*.")}:
        if f"*.{base}" not in listed:
            entries.add(("host", base))
        elif not any(owner.removeprefix("*.").endswith(f".{base}") for owner in excepted):
            entries.add(("domain", base))
    return entries


@settings(max_examples=examples(300), deadline=None)
@given(text=files(), has_origin=st.booleans())
def test_a_file_is_read_as_dnspython_reads_it(text: str, has_origin: bool) -> None:
    text = HEAD.format("IN") + text
    written = f"$ORIGIN {ZONE}\n{text}" if has_origin else text.replace("@ IN SOA", f"{ZONE} IN SOA", 1)
    with contextlib.suppress(dns.exception.DNSException, ValueError):  # a CNAME beside other data
        assert listed(lines_of(written.encode())) == expected(f"$ORIGIN {ZONE}\n{text}")


TOKENS = st.sampled_from(
    [
        *(b"\n", b"\r\n", b"\n ", b" ", b"\t", b";", b"(", b")", b'"', b"\\", b"\\065", b"\\999", b"@", b".", b"*."),
        *(b"$ORIGIN ", b"$TTL 1\n", b"a.example CNAME .\n", b"*.a.example CNAME .\n", b"IN", b"60", b"CNAME", b"TXT"),
        *(
            b"@ SOA a. b. 1 1 1 1 1\n",
            b"x. SOA a. b. 1 1 1 1 1\n",
            b"rpz-ip",
            b"rpz-passthru.",
            b"TYPE1",
            b"\xff",
            b"\0",
        ),
    ]
)
BODIES = st.lists(TOKENS | st.binary(max_size=6), max_size=30).map(b"".join)


@settings(max_examples=examples(300), deadline=None)
@given(body=BODIES)
def test_any_bytes_are_a_zone_or_a_parse_error(body: bytes) -> None:
    with contextlib.suppress(ParseError):
        made = lines_of(body)
        assert made.splitlines()[1:] == sorted(made.splitlines()[1:])
        assert all(line.count(b"\t") == 3 for line in made.splitlines())
        with contextlib.suppress(ParseError):
            lines_of(body, made)


RULES = st.sets(st.tuples(NAMES.map(str.lower), st.sampled_from(["", "*."]), DATA.filter(lambda one: "\n" not in one)))


@settings(max_examples=examples(300), deadline=None)
@given(zones=st.lists(RULES, min_size=2, max_size=4))
def test_differences_make_the_lines_of_the_newer_zone(zones: list[set[tuple[str, str, str]]]) -> None:
    def complete(serial: int, rules: set[tuple[str, str, str]]) -> bytes:
        written = "".join(f"{start}{name} 60 IN {data}\n" for name, start, data in rules)
        return lines_of(f"$ORIGIN {ZONE}\n@ 60 IN SOA a. b. {serial} 1 1 1 1\n{written}".encode())

    body = [f"$ORIGIN {ZONE}"]
    for serial, (old, new) in enumerate(pairwise(zones)):
        for sign, at, rules in (("-", serial, old - new), ("+", serial + 1, new - old)):
            body.append(f"{sign}@ 60 IN SOA a. b. {at} 1 1 1 1")
            body += [f"{sign}{start}{name} 60 IN {data}" for name, start, data in rules]
    assert lines_of("\n".join(body).encode(), complete(0, zones[0])) == complete(len(zones) - 1, zones[-1])

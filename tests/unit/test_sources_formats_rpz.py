from __future__ import annotations

import io

import pytest

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE
from blocklistd.sources.formats.records import FormatOptions, Record, Reject
from blocklistd.sources.formats.rpz import records, to_lines
from blocklistd.sources.intake.canonical import read as canonical

HEAD = b"$TTL 60\n@ SOA localhost. hostmaster.blocklist.example. 7 60 30 600 60\n  NS localhost.\n"
OPTIONS = FormatOptions()


def lines(body: bytes, earlier: bytes | None = None) -> bytes:
    out = io.BytesIO()
    to_lines(body, earlier, OPTIONS, out)
    return out.getvalue()


def listed(made: bytes, options: FormatOptions = OPTIONS) -> set[tuple[str, str]]:
    found = records(io.BytesIO(made), options)
    return {(one.type, one.value) for one in found if isinstance(one, Record)}


def rejected(made: bytes) -> list[str]:
    return sorted(one.code for one in records(io.BytesIO(made), OPTIONS) if isinstance(one, Reject))


def test_a_name_is_a_host_and_with_its_subdomains_a_domain() -> None:
    made = lines(HEAD + b"a.example CNAME .\nb.example CNAME .\n*.b.example CNAME .\nwww.b.example CNAME .\n")
    assert listed(made) == {("host", "a.example"), ("domain", "b.example"), ("host", "www.b.example")}
    assert rejected(made) == []


@pytest.mark.parametrize(
    "data",
    [
        *("CNAME .", "CNAME *.", "CNAME rpz-drop.", "CNAME rpz-tcp-only.", "CNAME stop.isp.example.", "CNAME stop"),
        *(
            "A 127.0.0.1",
            "AAAA ::1",
            'TXT "a ; b" c',
            r"TXT a\"b\;c",
            "60 IN CNAME .",
            "IN 1h30m CNAME .",
            "in cname .",
        ),
        *(r"TYPE65280 \# 1 00", "MX ( 10\n  mail ) ; a comment", "HTTPS 0 stop.isp.example.", "CNAME . ; a comment"),
    ],
)
def test_every_action_lists_the_name(data: str) -> None:
    made = lines(HEAD + f"a.example {data}\n*.a.example\t{data}\nb.example CNAME .".encode())
    assert listed(made) == {("domain", "a.example"), ("host", "b.example")}
    assert rejected(made) == []


def test_several_records_of_a_name_are_one_entry() -> None:
    made = lines(HEAD + b"a.example A 127.0.0.1\n  A 127.0.0.2\n\tTXT x\n\nA.EXAMPLE AAAA ::1\n")
    assert listed(made) == {("host", "a.example")}
    assert made == lines(HEAD + b"a.example TXT x\n A 127.0.0.2\n A 127.0.0.1\na.example AAAA ::1\n AAAA ::1\n")


@pytest.mark.parametrize(
    "head",
    [
        b"$ORIGIN rpz.blocklist.example.\n@ SOA a. b. 1 1 1 1 1\n",
        b"rpz.blocklist.example. SOA a. b. 1 1 1 1 1\n",
        b"$ORIGIN blocklist.example.\nRPZ SOA a. b. 1 1 1 1 1\n$ORIGIN rpz\n",
        b"$ORIGIN .\n$TTL 1h\nrpz.blocklist.example IN SOA a. b. 1 1 1 1 1\n$ORIGIN rpz.blocklist.example.\n",
        b"$ORIGIN rpz.blocklist.example.\n",
    ],
)
def test_names_are_below_the_soa_or_the_origin(head: bytes) -> None:
    names = (
        b"a.example CNAME .\n*.a.example.rpz.blocklist.example. CNAME .\nb.example.RPZ.blocklist.example. CNAME .\n"
        b"$ORIGIN c.example.rpz.blocklist.example.\nwww CNAME .\n@ CNAME .\n* 60 CNAME .\nx A 127.0.0.1\n"
        b"d.example.rpz.blocklist.example.\tCNAME\t.\r\n"
    )
    expected = {("domain", "a.example"), ("domain", "c.example")}
    expected |= {("host", name) for name in ("b.example", "www.c.example", "x.c.example", "d.example")}
    assert listed(lines(head + names)) == expected


def test_without_any_origin_names_are_relative() -> None:
    assert listed(lines(b"a.example CNAME .\n*.a.example CNAME .\n")) == {("domain", "a.example")}
    assert listed(lines(HEAD + b"@ A 127.0.0.1\na.example CNAME .\n")) == {("host", "a.example")}
    with pytest.raises(ParseError, match="absolute names"):
        lines(b"a.example. CNAME .\n")
    with pytest.raises(ParseError, match="absolute names"):
        lines(HEAD + b"a.example CNAME .\nb.example. CNAME .\n")


def test_a_dump_of_a_transfer_has_its_soa_twice() -> None:
    soa = b"rpz.example.\t60\tIN\tSOA\ta. b. 1 1 1 1 1\n"
    made = lines(b"; a transfer\n" + soa + b"a.example.rpz.example.\t60\tIN\tCNAME\t.\n" + soa)
    assert listed(made) == {("host", "a.example")}
    with pytest.raises(ParseError, match="two zones"):
        lines(soa + b"rpz2.example. 60 IN SOA a. b. 1 1 1 1 1\n")
    with pytest.raises(ParseError, match="an SOA after other records"):
        lines(b"a.example CNAME .\n" + soa)


@pytest.mark.parametrize("exception", ["CNAME rpz-passthru.", "CNAME RPZ-PASSTHRU.", "CNAME {}.", "CNAME {}"])
def test_an_exception_is_no_entry(exception: str) -> None:
    rule = exception.format("ok.example")
    made = lines(HEAD + f"a.example CNAME .\nok.example {rule}\n*.x.example CNAME rpz-passthru.\n".encode())
    assert listed(made) == {("host", "a.example")}
    assert rejected(made) == []


def test_a_domain_with_an_exception_below_it_is_rejected() -> None:
    made = lines(
        HEAD
        + b"a.example CNAME .\n*.a.example CNAME .\nok.www.a.example CNAME rpz-passthru.\nwww.a.example CNAME .\n"
        + b"b.example CNAME .\n*.b.example CNAME .\n*.c.b.example CNAME *.c.b.example.\n"
        + b"d.example CNAME .\n*.d.example CNAME rpz-passthru.\nd.example2 CNAME .\n"
    )
    assert listed(made) == {("host", "www.a.example"), ("host", "d.example"), ("host", "d.example2")}
    assert rejected(made) == ["exception", "exception"]


def test_rules_that_no_type_expresses_are_rejects() -> None:
    made = lines(
        HEAD
        + b"*.a.example CNAME .\nc.rpz-nsdname CNAME .\n32.1.2.0.192.rpz-client-ip CNAME .\n*.rpz-nsdname CNAME .\n"
        + b"32.1.2.0.192.rpz-nsip CNAME .\n24.0.2.0.192.rpz-ip CNAME .\n* CNAME .\nok.example CNAME .\n"
    )
    assert listed(made) == {("host", "ok.example"), ("ip", "192.0.2.0/24")}
    assert rejected(made) == ["subdomains-only"] * 2 + ["trigger"] * 4


def test_rules_about_addresses_are_entries_in_any_spelling() -> None:
    made = lines(
        HEAD
        + b"32.1.2.0.192.rpz-ip CNAME .\n128.1.ZZ.DB8.2001.rpz-ip A 192.0.2.9\n"
        + b"48.zz.5.db8.2001.rpz-ip CNAME rpz-drop.\n"
        + b"64.0.0.0.0.0.7.db8.2001.rpz-ip CNAME .\n120.200.c000.ffff.zz.rpz-ip CNAME .\n"
        + b"8.0.0.0.10.rpz-ip CNAME .\n24.1.2.0.192.rpz-ip CNAME .\n32.1.0.0.127.rpz-ip CNAME .\n"
        + b"33.1.2.0.192.rpz-ip CNAME .\nx.rpz-ip CNAME .\n*.24.0.2.0.192.rpz-ip CNAME .\n64.zz.zz.rpz-ip CNAME .\n"
        + b"rpz-ip CNAME .\n"
    )
    values = {"192.0.2.1", "192.0.2.0/24", "2001:db8::1", "2001:db8:5::/48", "2001:db8:7::/64"}
    assert listed(made) == {("ip", value) for value in values}
    assert sorted(rejected(made)) == [
        *("host-bits", "local-address", "malformed"),
        *(["not-an-address"] * 4 + ["too-wide"]),
    ]


def test_a_prefix_with_an_exception_in_it_is_rejected() -> None:
    made = lines(
        HEAD
        + b"24.0.2.0.192.rpz-ip CNAME .\n32.7.2.0.192.rpz-ip CNAME rpz-passthru.\n25.128.2.0.192.rpz-ip CNAME .\n"
        + b"48.0.0.0.0.0.5.db8.2001.rpz-ip CNAME .\n128.1.zz.5.db8.2001.rpz-ip CNAME 128.1.zz.5.db8.2001.rpz-ip.\n"
    )
    assert listed(made) == {("ip", "192.0.2.128/25")}
    assert rejected(made) == ["exception", "exception"]


def test_records_of_a_signed_zone_are_no_rules() -> None:
    made = lines(
        HEAD
        + b"@ ZONEMD 7 1 1 00\n@ DNSKEY 257 3 13 AA==\na.example CNAME .\n NSEC b.example CNAME RRSIG NSEC\n"
        + b" RRSIG CNAME 13 2 60 20300101000000 20200101000000 1 @ AA==\nb.example NSEC @ NSEC\n"
    )
    assert listed(made) == {("host", "a.example")}
    assert rejected(made) == []


@pytest.mark.parametrize(
    "line",
    [
        *("b.example", "b.example CNAME", "b.example CNAME a b", "b.example NOTYPE x", "b.example CH A 127.0.0.1"),
        *('b.example TXT "x', "b.example ) CNAME .", "b..example TXT x", r"b\999.example CNAME .", "b.example NS x."),
        *(r"b\12 CNAME .", '"" CNAME .', "b.example 60 60 CNAME .", "b.example DNAME x."),
    ],
)
def test_a_record_that_cannot_be_read_is_a_reject(line: str) -> None:
    made = lines(HEAD + f"a.example CNAME .\n{line}\nc.example CNAME .\n".encode())
    assert listed(made) == {("host", "a.example"), ("host", "c.example")}
    assert rejected(made) == ["malformed"]


def test_the_owner_of_a_malformed_record_is_not_guessed() -> None:
    made = lines(HEAD + b"a.example CNAME .\nb..example TXT x\n  A 127.0.0.1\n")
    assert listed(made) == {("host", "a.example")}
    assert rejected(made) == ["malformed", "malformed"]


def test_names_outside_the_zone_are_rejects() -> None:
    made = lines(b"$ORIGIN rpz.example.\na CNAME .\nb.example. CNAME .\nc.xrpz.example. CNAME .\n")
    assert listed(made) == {("host", "a")}
    assert rejected(made) == ["outside-zone", "outside-zone"]


def test_an_escaped_octet_is_that_octet() -> None:
    made = lines(HEAD + rb"\097.ex\ample CNAME ." + b"\n" + rb"b\.c.example CNAME ." + b"\n\xc3\xa4.example CNAME .\n")
    reading = canonical(records(io.BytesIO(made), OPTIONS))
    assert [code for _, code in reading.rejects] == ["character", "character"]
    assert reading.lines == ['{"type":"host","value":"a.example"}']


@pytest.mark.parametrize("line", ["$INCLUDE more", "$GENERATE 1-9 a$ CNAME .", "$ORIGIN", "$ORIGIN a..b.", "$TTL x"])
def test_a_directive_that_cannot_be_followed_fails(line: str) -> None:
    with pytest.raises(ParseError, match="a directive at line 4"):
        lines(HEAD + line.encode() + b"\na.example CNAME .\n")


def test_a_parenthesis_that_does_not_close_fails() -> None:
    with pytest.raises(ParseError, match="at line 4: expected quotes and parentheses that close"):
        lines(HEAD + b"a.example TXT (\n" + b"b.example TXT x\n" * MAX_LINE)


def test_an_error_page_is_recognised() -> None:
    with pytest.raises(ParseError, match="HTML"):
        lines(b"<html></html>")


def test_too_many_records_of_a_name_are_rejects() -> None:
    made = lines(HEAD + b"".join(b"a.example TXT %d\n" % number for number in range(2000)))
    assert listed(made) == {("host", "a.example")}
    assert set(rejected(made)) == {"too-long"}
    assert max(map(len, made.splitlines())) < MAX_LINE


def test_attributes_come_from_the_defaults() -> None:
    options = FormatOptions(defaults={"category": "A"})
    (found,) = records(io.BytesIO(lines(b"a.example CNAME .\n")), options)
    assert found == Record(2, "host", "a.example", {"category": "A"})


# -- differences -------------------------------------------------------------------------------------------------------

ZONE = b"$ORIGIN rpz.example.\n@ SOA a. b. %d 1 1 1 1\n@ NS localhost.\n%b"


def zone(serial: int, *records: bytes) -> bytes:
    return lines(ZONE % (serial, b"".join(record + b"\n" for record in records)))


def differences(*changes: bytes) -> bytes:
    """`N` is the SOA with that serial, anything else a line."""
    made = [b"%b@ 60 IN SOA a. b. %b 1 1 1 1" % (one[:1], one[1:]) if one[1:].isdigit() else one for one in changes]
    return b"\n".join([b"$ORIGIN rpz.example.", *made, b""])


def test_differences_make_the_lines_of_the_new_zone() -> None:
    before = zone(
        1, b"a CNAME .", b"*.a CNAME .", b"b CNAME .", b"c A 127.0.0.1", b"c TXT x", b"*.x CNAME .", b"d.. A ::"
    )
    change = differences(
        *(b"-1", b"-*.a 60 IN CNAME .", b"-c 60 IN A 127.0.0.1", b"-b 60 IN CNAME .", b"+2", b"+b 60 IN CNAME *."),
        *(b"-2", b"-@ 60 IN NS localhost.", b"+3", b"+@ 60 IN NS ns.example.", b"+ok.a 60 IN CNAME rpz-passthru."),
        b"+*.b 60 IN CNAME .",
    )
    after = lines(change, before)
    records = b"a CNAME .", b"b CNAME *.", b"*.b CNAME .", b"c TXT x", b"*.x CNAME .", b"ok.a CNAME rpz-passthru."
    assert after == zone(3, *records, b"d.. A ::")
    assert listed(after) == {("host", "a"), ("domain", "b"), ("host", "c")}


@pytest.mark.parametrize(
    "changes",
    [
        (b"-2", b"+3", b"+x 60 IN CNAME ."),  # another serial
        (b"-1", b"-x 60 IN CNAME .", b"+2"),  # removes what is not in the zone
        (b"-1", b"-a 60 IN CNAME *.", b"+2"),  # the same name, another rule
        (b"-1", b"+2", b"+a 60 IN CNAME ."),  # adds what is in the zone
        (b"-1", b"+2", b"-3", b"+4"),  # a gap
        (b"-1", b"-a 60 IN CNAME ."),
        (b"+2", b"+x 60 IN CNAME ."),
        (b"+x 60 IN CNAME .", b"-1", b"+2"),
        (b"-1", b"+x 60 IN CNAME .", b"+2"),
        (b"-1", b"+2", b"-a 60 IN CNAME ."),
        (b"-1", b"+2", b"+x.example. 60 IN CNAME ."),
        (b"-1", b"+2", b"x 60 IN CNAME ."),
        (b"-1", b"+2", b"+"),
        (b"-1", b"+2", b"+x 60 IN"),
        (b"-1", b"+2", b"+x 60 IN NS ns.example."),  # a reject in a complete zone
        (b"-1", b"+2", b"+x 60 IN DNAME y.example."),
        (),
    ],
)
def test_differences_that_do_not_fit_fail(changes: tuple[bytes, ...]) -> None:
    with pytest.raises(ParseError, match="do not fit"):
        lines(differences(*changes), zone(1, b"a CNAME ."))


def test_differences_of_another_zone_fail() -> None:
    change = differences(b"-1", b"+2")
    with pytest.raises(ParseError, match="do not fit"):
        lines(change.replace(b"ORIGIN rpz", b"ORIGIN other"), zone(1))
    with pytest.raises(ParseError, match="do not fit"):
        lines(change, b"no lines of a zone\n")

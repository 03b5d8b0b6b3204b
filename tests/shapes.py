"""The shapes of lists that hotlines and registers publish, with reserved names: a source as the guides configure it, a
body, and what is right. Shapes that are fetched in their own way (pages, transfers) have tests of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape of a list. `source`: its settings without `url` and `verify`. `file`: the name of the body's file.
    `entries`: (type, value) of what is right. `rejected`: rejects by reason."""

    source: Mapping[str, Any]
    body: bytes
    entries: frozenset[tuple[str, str]]
    rejected: Mapping[str, int] = field(default_factory=dict)
    file: str = "list"


def _of(type: str, *values: str) -> frozenset[tuple[str, str]]:
    return frozenset((type, value) for value in values)


_REGISTER_FIELDS: Final = {"ref": "/RegisterPositionId", "value": "/DomainAddress", "verified_at": "/InsertDate"}

SHAPES: Final[Mapping[str, Shape]] = {
    # a row with a DeleteDate is no entry; a block that ended comes again as a new row; subdomains are meant
    "register as JSON": Shape(
        {
            "format": "json",
            "fields": _REGISTER_FIELDS,
            "options": {"where": {"/DeleteDate": None}, "timezone": "Europe/Warsaw"},
            "defaults": {"type": "domain"},
        },
        b"""[
  {"RegisterPositionId": 1, "DomainAddress": "a.example", "InsertDate": "2026-01-05T10:00:00", "DeleteDate": null},
  {"RegisterPositionId": 2, "DomainAddress": "b.example", "InsertDate": "2026-01-06T10:00:00",
   "DeleteDate": "2026-07-06T10:00:00"},
  {"RegisterPositionId": 3, "DomainAddress": "b.example", "InsertDate": "2026-09-01T10:00:00", "DeleteDate": ""},
  {"RegisterPositionId": 4, "DomainAddress": "c.example", "InsertDate": "2026-02-01T10:00:00",
   "DeleteDate": "2026-08-01T10:00:00"}
]
""",
        _of("domain", "a.example", "b.example"),
    ),
    "register as XML": Shape(
        {
            "format": "xml",
            "fields": {"ref": "RegisterPositionId", "value": "DomainAddress", "verified_at": "InsertDate"},
            "options": {"records": "Positions/Position", "where": {"DeleteDate": None}},
            "defaults": {"type": "domain"},
        },
        b"""<?xml version="1.0" encoding="utf-8"?>
<Positions xmlns="https://register.example/ns">
  <Position>
    <RegisterPositionId>1</RegisterPositionId><DomainAddress>a.example</DomainAddress>
    <InsertDate>2026-01-05T10:00:00</InsertDate><DeleteDate/>
  </Position>
  <Position>
    <RegisterPositionId>2</RegisterPositionId><DomainAddress>b.example</DomainAddress>
    <InsertDate>2026-01-06T10:00:00</InsertDate><DeleteDate>2026-07-06T10:00:00</DeleteDate>
  </Position>
  <Position>
    <RegisterPositionId>3</RegisterPositionId><DomainAddress>c.example</DomainAddress>
    <InsertDate>2026-01-07T10:00:00</InsertDate>
  </Position>
</Positions>
""",
        _of("domain", "a.example", "c.example"),
    ),
    "register as TSV": Shape(
        {
            "format": "csv",
            "fields": {"ref": "RegisterPositionId", "value": "DomainAddress"},
            "options": {"delimiter": "tab", "where": {"DeleteDate": None}},
            "defaults": {"type": "domain"},
        },
        b"RegisterPositionId\tDomainAddress\tInsertDate\tDeleteDate\n1\ta.example\t2026-01-05\t\n"
        b"2\tb.example\t2026-01-06\t2026-07-06\n",
        _of("domain", "a.example"),
    ),
    # a namespace, an attribute, local time without zone, names in Unicode; a removal is an absence
    "gambling register": Shape(
        {
            "format": "xml",
            "fields": {"ref": "@Lp", "value": "AdresDomeny", "verified_at": "DataWpisu"},
            "options": {"records": "Rejestr/PozycjaRejestru", "timezone": "Europe/Warsaw"},
            "defaults": {"type": "domain"},
        },
        """<?xml version="1.0" encoding="UTF-8"?>
<ns2:Rejestr xmlns:ns2="https://register.example/gambling/v1">
  <ns2:PozycjaRejestru Lp="1"><ns2:AdresDomeny>zażółć.example</ns2:AdresDomeny>
    <ns2:DataWpisu>2026-03-29 02:30:00</ns2:DataWpisu></ns2:PozycjaRejestru>
  <ns2:PozycjaRejestru Lp="2"><ns2:AdresDomeny>B.example</ns2:AdresDomeny>
    <ns2:DataWpisu>2026-04-01T09:00:00</ns2:DataWpisu></ns2:PozycjaRejestru>
</ns2:Rejestr>
""".encode(),
        _of("domain", "xn--za-6ja4f8n1l.example", "b.example"),
    ),
    # rows whose URL and domain disagree are rejects; a URL row never becomes its domain
    "police list by mail": Shape(
        {
            "format": "csv",
            "fields": {"value": "url", "host": "domain"},
            "options": {
                "delimiter": ";",
                "head": ["serial", "timestamp"],
                "columns": ["url", "domain", "url-address", "address"],
                "unless": {"url": None},
            },
            "defaults": {"type": "url"},
        },
        b"117;2026-11-28 09:00:00\r\nhttps://a.example/x;a.example;http://192.0.2.1/x;192.0.2.1\r\n"
        b"https://b.example/;c.example;;\r\n;d.example;;192.0.2.4\r\n",
        _of("url", "https://a.example/x"),
        {"other-host": 1},
    ),
    "the same list, its domains": Shape(
        {
            "format": "csv",
            "fields": {"value": "domain"},
            "options": {
                "delimiter": ";",
                "head": ["serial", "timestamp"],
                "columns": ["url", "domain", "url-address", "address"],
                "where": {"url": None},
            },
            "defaults": {"type": "domain"},
        },
        b"117;2026-11-28 09:00:00\r\nhttps://a.example/x;a.example;http://192.0.2.1/x;192.0.2.1\r\n;d.example;;192.0.2.4\r\n",
        _of("domain", "d.example"),
    ),
    # tickets with arrays of names and of addresses
    "tickets": Shape(
        {
            "format": "json",
            "fields": {"ref": "/ticket_id", "value": "/fqdn"},
            "options": {"records": "/data"},
            "defaults": {"type": "host"},
        },
        b'{"status":"success","data":[{"ticket_id":"t-1","fqdn":["a.example","b.example"],"ipv4":["192.0.2.1"],"ipv6":[]},'
        b'{"ticket_id":"t-2","fqdn":["c.example"],"ipv4":[],"ipv6":["2001:db8::1"]}]}',
        _of("host", "a.example", "b.example", "c.example"),
    ),
    "full list as text": Shape(
        {"format": "text", "defaults": {"type": "host"}},
        b"a.example\nb.example\n",
        _of("host", "a.example", "b.example"),
    ),
    # a head with version and serial
    "dated release": Shape(
        {"format": "text", "defaults": {"type": "domain"}, "options": {"comment": "#"}},
        b"# Version: 1\n# Serial: 20261128\n#\na.example\nb.example\n",
        _of("domain", "a.example", "b.example"),
        file="release_20261128.txt",
    ),
    # a byte order mark, CRLF, several names a line, two kinds of comments, IPv6, variants of localhost
    "hosts": Shape(
        {"format": "hosts", "defaults": {"type": "host"}},
        b"\xef\xbb\xbf# a list\r\n127.0.0.1 localhost localhost.localdomain\r\n::1 ip6-localhost\r\n"
        b"0.0.0.0 a.example b.example # two\r\n:: c.example ; a comment\r\n",
        _of("host", "a.example", "b.example", "c.example"),
    ),
    # the origin of the zone is the publisher's own: names count below it
    "policy zone": Shape(
        {"format": "rpz"},
        b"$TTL 300\n$ORIGIN rpz.register.example.\n@ SOA localhost. hostmaster.register.example. 7 60 30 600 60\n"
        b"@ NS localhost.\na.example CNAME .\n*.a.example CNAME .\nb.example CNAME stop.isp.example.\n"
        b"allowed.example CNAME rpz-passthru.\n",
        _of("domain", "a.example") | _of("host", "b.example"),
    ),
    # appended rows that add and remove
    "log of actions": Shape(
        {
            "format": "action-log",
            "fields": {"ref": "/RegisterPositionId", "value": "/DomainAddress", "action": "/ActionType"},
            "options": {"add": "block", "remove": "unblock"},
            "defaults": {"type": "domain"},
        },
        b'{"RegisterPositionId":1,"DomainAddress":"a.example","ActionType":"block"}\n'
        b'{"RegisterPositionId":2,"DomainAddress":"b.example","ActionType":"block"}\n'
        b'{"RegisterPositionId":3,"DomainAddress":"b.example","ActionType":"block"}\n'
        b'{"RegisterPositionId":1,"DomainAddress":"a.example","ActionType":"unblock"}\n'
        b'{"RegisterPositionId":2,"DomainAddress":"b.example","ActionType":"unblock"}\n',
        _of("domain", "b.example"),
    ),
}

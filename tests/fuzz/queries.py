"""DNS requests to the name server: real ones, mutations of them, and the target that answers any bytes."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import dns.edns
import dns.message
import dns.name
import dns.opcode
import dns.rrset
import dns.update

from blocklistd.model import ListId
from blocklistd.rpz.wire import Action, Apex, compile_rules, wire_name
from blocklistd.serve.dns import message as dm
from blocklistd.serve.dns.catalog import catalog_apex, compile_catalog
from blocklistd.serve.dns.notify import Notifier, NotifyTarget
from blocklistd.serve.dns.query import Reply, Transfer, respond
from blocklistd.serve.dns.transfer import Stream, axfr
from blocklistd.serve.dns.tsig import Key, Signer
from blocklistd.serve.dns.zones import Peer, TlsClient, Zones, ZoneView
from blocklistd.store.zones import ZonePlan

ZONE: Final = "rpz.blocklist.example"
CATALOG: Final = "catalog.blocklist.example"
NOW: Final = 1_000_000
KEYS: Final = (Key(wire_name("isp-1"), "hmac-sha256", b"k" * 32), Key(wire_name("isp-2"), "hmac-sha512", b"k" * 64))
STRANGER: Final = Key(wire_name("nobody.example"), "hmac-sha256", b"n" * 32)
CERTIFICATE: Final = "ab" * 32
OPT: Final = 11  # octets of an OPT record without options
TSIG: Final = 26  # octets of a TSIG record without its names and its MAC
LONGEST_TSIG: Final = max(len(Signer(key).record(bytes(dm.HEADER), NOW, other=bytes(6))) for key in KEYS)
"""Octets of the longest TSIG record of a known key."""
SECONDARY: Final = "192.0.2.1", 53
RCODES: Final = {dm.NOERROR, dm.FORMERR, dm.SERVFAIL, dm.NOTIMP, dm.REFUSED, dm.NOTAUTH}

APEX: Final = Apex(ZONE, "ns.blocklist.example", "h.invalid", 60, 30, 600, 60, ("ns.blocklist.example",))
PLAN: Final = ZonePlan(ZONE, ListId("national"), (), ".", 60, APEX, 1)


def _zones() -> Zones:
    """The zone at serial 9 and catalogs at serial 3, for subscribers by key, by certificate and by address."""
    zone = frozenset({wire_name(ZONE)})
    rules = compile_rules([b"example\0a", b"example\0a\0*"], wire_name(ZONE), Action(b"\0", 60))
    made = Zones()
    made.configure([PLAN])
    made.publish(ZoneView(PLAN, 9, 9, 2, 0, 0, 5, memoryview(b"".join(rules))))
    plan = replace(PLAN, name=CATALOG, apex=catalog_apex(CATALOG))
    catalog = ZoneView(plan, 3, 0, 2, 0, 0, 3, memoryview(compile_catalog(CATALOG, [ZONE])))
    made.replace_catalogs(wire_name(CATALOG), {f"isp-{number}": catalog for number in range(1, 5)})
    made.replace_peers(
        [
            Peer("isp-1", zone, KEYS[:1], (), (SECONDARY,)),
            Peer("isp-2", zone, KEYS[1:], (), ()),
            Peer("isp-3", zone, (), (), (), certificates=(CERTIFICATE,)),
            Peer("isp-4", zone, (), (ipaddress.ip_network("192.0.2.0/29"),), (), without_alpn=True),
        ]
    )
    return made


ZONES: Final = _zones()
WAYS: Final[tuple[Callable[[bytes], tuple[object, object]], ...]] = (
    lambda wire: respond(wire, ZONES, "192.0.2.1", NOW, tcp=False),
    lambda wire: respond(wire, ZONES, "198.51.100.1", NOW, tcp=True),
    lambda wire: respond(wire, ZONES, "2001:db8::1", NOW, NOW + 9, tcp=True, tls=TlsClient(CERTIFICATE, alpn=True)),
)
"""UDP from an entitled address, TCP from another one, TLS with a client certificate."""


def _requests() -> Iterator[bytes]:
    """Yield requests as secondaries send them, unsigned, and what else reaches the port."""
    for name in (ZONE, CATALOG, "nowhere.example", f"a.example.{ZONE}"):
        for kind in ("SOA", "AXFR", "IXFR", "A", "ANY"):
            for edns in (None, 0, 1):
                query = dns.message.make_query(name, kind, use_edns=edns, payload=1232)
                query.id = 7
                if kind == "IXFR":
                    soa = f"ns.{name}. h.{name}. 6 60 30 600 60"  # its names point to the question, as BIND's do
                    query.authority.append(dns.rrset.from_text(f"{name}.", 0, "IN", "SOA", soa))
                yield query.to_wire() or b""
    options: list[dns.edns.Option] = [
        dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"cookie-8"),
        dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(100)),
    ]
    for flags in (0, dm.RD):
        query = dns.message.make_query(ZONE, "SOA", flags=flags, use_edns=0, options=options)
        query.id = 7
        yield query.to_wire() or b""
    notify = dns.message.make_query(ZONE, "SOA")
    notify.id = 7
    notify.set_opcode(dns.opcode.NOTIFY)
    yield notify.to_wire() or b""
    for rcode in (0, 5, 9):
        answer = dns.message.make_response(notify)
        answer.set_rcode(rcode)  # type: ignore[arg-type]
        yield answer.to_wire() or b""
    update = dns.update.UpdateMessage(ZONE, id=7)
    update.add("a.example", 60, "A", "192.0.2.1")
    yield update.to_wire() or b""


def _compressed_names() -> Iterator[bytes]:
    """Yield signed requests with the longest question, to which the names of the signature point."""
    question = b"\x3f" + b"q" * 63
    head = struct.pack("!6H", 7, 0, 1, 0, 0, 1) + question * 3 + b"\x3d" + b"q" * 61 + b"\0" + struct.pack("!HH", 6, 1)
    for algorithm in (b"\xc0\x0c", KEYS[0].algorithm_name):
        data = algorithm + struct.pack("!HIHH", 0, NOW, 300, 0) + struct.pack("!HHH", 7, 0, 0)
        yield head + b"\xc0\x0c" + struct.pack("!HHIH", 250, 255, 0, len(data)) + data


UNSIGNED: Final = tuple(_requests())
SIGNED: Final = tuple(Signer(key).sign(wire, NOW) for wire in UNSIGNED for key in (*KEYS, STRANGER))
REQUESTS: Final = (*UNSIGNED, *SIGNED, *_compressed_names())
_EXTREME: Final = (
    b"\xff\xff",
    b"\0\0",
    b"\xc0\x0c",
    b"\xc0\xff",
    b"\x3f",
    b"\x40",
    b"\x00\xfa",
    b"\x00\x29",
    b"\x01" * 130,
)

_KINDS: Final = (0, 0, 0, 0, 0, 1, 1, 1, *range(2, 8))
"""Kinds of mutations. The first two keep the length, and so leave most messages well-formed."""


def mutations(seed: int, count: int) -> Iterator[bytes]:
    """Yield `count` mutations of REQUESTS, the same for the same seed. A third is signed after the mutation, so that it
    passes the check of the signature."""
    chance = random.Random(seed)
    for _ in range(count):
        is_signed = not chance.randrange(3)
        wire = bytearray(chance.choice(UNSIGNED if is_signed else REQUESTS))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            _mutate(wire, chance)
        if is_signed and len(wire) >= dm.HEADER and wire[10:12] != b"\xff\xff":  # room to count the signature
            yield Signer(chance.choice(KEYS)).sign(bytes(wire), NOW)
        else:
            yield bytes(wire)


def _mutate(wire: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(wire) + 1)
    match chance.choice(_KINDS):
        case 0 if at < len(wire):
            wire[at] ^= 1 << chance.randrange(8)
        case 1:
            size = chance.randrange(5)
            wire[at : at + size] = chance.randbytes(size)[: len(wire) - at]
        case 2:
            wire[at : at + chance.randrange(5)] = chance.randbytes(chance.randrange(5))
        case 3:
            piece = chance.choice(_EXTREME)
            wire[at : at + len(piece) * chance.randrange(2)] = piece
        case 4:
            del wire[at:]
        case 5 if len(wire) >= dm.HEADER:  # a count in the header
            struct.pack_into("!H", wire, chance.randrange(4, dm.HEADER, 2), chance.choice((0, 1, 2, 3, 255, 65535)))
        case 6:  # the end of another request
            other = chance.choice(REQUESTS)
            wire[at:] = other[chance.randrange(len(other)) :]
        case _:
            end = chance.randrange(at, len(wire) + 1)
            wire[at:at] = wire[at:end]


def answer_request(wire: bytes) -> None:
    """Answers a request on each transport, and takes it for an answer to NOTIFY. Raises AssertionError for an answer
    that is wrong for any request."""
    for number, way in enumerate(WAYS):
        answer, _ = way(wire)
        if isinstance(answer, Reply):
            _check(wire, answer.wire, udp=number == 0)
        elif answer is not None:
            assert number, "a transfer over UDP"
            _transfer(answer)  # type: ignore[arg-type]
    notifier = Notifier(5.0, 600.0, next_id=6)
    notifier.change(NotifyTarget(SECONDARY, wire_name(ZONE)), 9, APEX.soa(9), 0.0)
    if notifier.receive(wire, SECONDARY):
        assert (wire[:2], notifier.next_time()) == (b"\0\7", None), "another request was acknowledged"


def largest_answer(wire: bytes) -> int:
    """The most octets of an answer over UDP: the question, SOA, OPT and TSIG."""
    try:
        query = dm.parse(wire)
    except dm.Malformed:
        return dm.HEADER
    tsig = query.tsig
    refused = len(tsig.name) + len(tsig.algorithm) + TSIG if tsig is not None else 0
    return min(dm.HEADER + len(query.question) + len(APEX.soa(9)) + OPT + max(LONGEST_TSIG, refused), query.payload)


def _check(wire: bytes, answer: bytes, *, udp: bool) -> None:
    ident, flags, questions, answers, authority, additional = struct.unpack_from("!6H", answer)
    assert ident == wire[0] << 8 | wire[1], "the id of another request"
    assert flags & dm.QR, "no answer"
    assert flags >> 11 & 15 == wire[2] >> 3 & 15, "another opcode"
    assert flags & 15 in RCODES
    assert questions <= 1
    assert answers <= 1
    assert not authority
    assert additional <= 2
    if udp:
        assert len(answer) <= largest_answer(wire), "an answer that is larger than the protocol needs"


def _transfer(transfer: Transfer) -> None:
    view, query = transfer.view, transfer.query
    signer = Signer(transfer.key, query.tsig.mac) if transfer.key is not None and query.tsig is not None else None
    assert view.compiled is not None
    records = axfr(view.soa(), view.plan.apex.except_soa(view.serial), view.compiled)
    stream = Stream(query, records, signer)
    chunk = bytes(stream.take(NOW))
    assert chunk[2:4] == query.wire[:2], "the id of another request"
    assert not stream.take(NOW)

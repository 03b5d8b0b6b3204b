"""Which datagrams acknowledge a NOTIFY, and which do not."""

from __future__ import annotations

import struct

import pytest

from blocklistd.model import ListId
from blocklistd.rpz.wire import Apex, wire_name
from blocklistd.serve.dns.key_use import KeyUse
from blocklistd.serve.dns.notify import Notifier, NotifyTarget
from blocklistd.serve.dns.notify_sender import NotifySender
from blocklistd.serve.dns.zones import Peer, Zones
from blocklistd.store.zones import ZonePlan

TARGET = NotifyTarget(("192.0.2.1", 53), wire_name("rpz.example"))
QUESTION = struct.pack("!HH", 6, 1)


def answer(ident: int, zone: bytes | None = TARGET.zone, rcode: int = 0, opcode: int = 4) -> bytes:
    head = struct.pack("!6H", ident, 0x8000 | opcode << 11 | rcode, int(zone is not None), 0, 0, 0)
    return head + (zone + QUESTION if zone is not None else b"")


@pytest.fixture
def notifier() -> Notifier:
    made = Notifier(5.0, 600.0)
    made.change(TARGET, 7, b"", 0.0)
    return made


def sent_id(notifier: Notifier) -> int:
    ((_, wire),) = notifier.due(0.0, 1000)
    (ident,) = struct.unpack_from("!H", wire)
    return int(ident)


def test_only_an_answer_with_id_and_zone_from_the_target_acknowledges(notifier: Notifier) -> None:
    ident = sent_id(notifier)
    for wire, source in (
        (answer(ident + 1), TARGET.address),
        (answer(ident), ("192.0.2.2", 53)),
        (answer(ident), ("192.0.2.1", 54)),
        (answer(ident, wire_name("other.example")), TARGET.address),
        (answer(ident, opcode=0), TARGET.address),
        (answer(ident)[:11], TARGET.address),
        (struct.pack("!6H", ident, 4 << 11, 1, 0, 0, 0) + TARGET.zone + QUESTION, TARGET.address),
    ):
        assert not notifier.receive(wire, source)
    assert notifier.due(5.0, 1000)
    assert notifier.receive(answer(ident, wire_name("rpz.example").upper()), TARGET.address)
    assert notifier.next_time() is None


@pytest.mark.parametrize(("zone", "rcode"), [(TARGET.zone, 5), (TARGET.zone, 9), (None, 1)])
def test_an_answer_with_an_error_acknowledges_too(notifier: Notifier, zone: bytes | None, rcode: int) -> None:
    assert notifier.receive(answer(sent_id(notifier), zone, rcode), TARGET.address)


def test_requests_without_an_answer_are_counted_until_one_is_acknowledged(notifier: Notifier) -> None:
    for now in (0.0, 5.0, 15.0):
        assert notifier.due(now, 1000)
    notifier.change(TARGET, 8, b"", 16.0)
    ((_, wire),) = notifier.due(16.0, 1000)
    assert notifier.unanswered == {TARGET: 4}, "a new serial does not make the target reachable"
    assert notifier.receive(answer(struct.unpack_from("!H", wire)[0]), TARGET.address)
    assert notifier.unanswered == {}
    notifier.change(TARGET, 9, b"", 20.0)
    assert notifier.due(20.0, 1000)
    notifier.forget(set())
    assert notifier.unanswered == {}, "the target is not notified any more"


async def test_requests_of_a_zone_that_is_gone_end_at_once() -> None:
    """Of a zone that is no longer configured, of a shard when there are fewer, and of a catalog without its name."""
    zones, catalog, sent = Zones(), wire_name("catalog.example"), list[bytes]()
    zone = frozenset({wire_name("rpz.example")})
    zones.replace_peers([Peer("isp", zone, (), (), (("127.0.0.1", 9),), without_alpn=True)])
    zones.configure([shard(0), shard(1)])
    zones.replace_catalogs(catalog, {})
    sender = NotifySender(zones, KeyUse(), 5.0, 600.0, lambda: 1000)
    for name in zones.names():
        for target in sender._targets(name):
            sender._notifier.change(target, 7, b"", 0.0)
            sent.append(target.zone)
    assert sent == [wire_name("00.rpz.example"), wire_name("01.rpz.example"), catalog]
    zones.configure([shard(0)])
    zones.replace_catalogs(None, {})
    sender.drop_unentitled()
    assert [target.zone for target in sender._notifier._pending] == [wire_name("00.rpz.example")]
    zones.configure([])
    sender.drop_unentitled()
    assert sender._notifier.next_time() is None
    assert not sender.counts["given up"]


def shard(number: int) -> ZonePlan:
    name = f"{number:02}.rpz.example"
    apex = Apex(name, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",))
    return ZonePlan(name, ListId("l"), (), ".", 60, apex, 1, shards=2, shard=number)

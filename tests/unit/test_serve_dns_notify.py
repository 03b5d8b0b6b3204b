"""Which datagrams acknowledge a NOTIFY, and which do not."""

from __future__ import annotations

import struct

import pytest

from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.notify import Notifier, NotifyTarget

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

"""DNS connections that end at once, stay idle, or are half-closed, and transfers while the daemon stops."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import dns.xfr
import pytest

from blocklistd.config import ConnectionBounds
from blocklistd.limits import FULL_TRANSFERS_AT_ONCE
from tests.system.test_zones import ORIGIN, ZONE, Scene, Secondary
from tests.system.test_zones_hard import LARGE, begin, long_names, read_exactly


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: ZONE in made.daemon.ask("status").json["zones"])
        yield made


def fill(scene: Scene, count: int) -> None:
    """Publishes a zone that is larger than the buffers of the sockets between daemon and client."""
    scene.publish(*long_names(count))


def ask(stream: socket.socket) -> int:
    """Sends an unsigned query; returns the response code."""
    wire = dns.message.make_query(ORIGIN, "SOA").to_wire() or b""
    stream.sendall(struct.pack("!H", len(wire)) + wire)
    (size,) = struct.unpack("!H", read_exactly(stream, 2))
    return read_exactly(stream, size)[3] & 15


def test_a_client_that_leaves_at_once_logs_no_error(scene: Scene) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", scene.port)) as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert scene.secondary("isp").refresh("AXFR") == 1
    assert '"level":"error"' not in scene.daemon.log


def test_idle_connections_make_room_for_new_ones(scene: Scene) -> None:
    with socket.create_connection(("127.0.0.1", scene.port), timeout=20) as old:
        assert ask(old) == 5
        with contextlib.ExitStack() as stack:
            for _ in range(ConnectionBounds().per_address + 50):
                last = stack.enter_context(socket.create_connection(("127.0.0.1", scene.port), timeout=20))
            assert scene.secondary("isp").refresh("AXFR") == 1
            assert ask(last) == 5
            with pytest.raises(ConnectionError):
                ask(old)  # the longest idle connection was closed to make room


def test_a_transfer_is_complete_for_a_client_that_has_half_closed(scene: Scene) -> None:
    for number in range(6):  # whether the end fits the kernel's buffers is a matter of its size
        fill(scene, LARGE - 80 * number)
        stream, _, _ = begin(scene.daemon, scene, f"half{number}")
        with stream:
            stream.shutdown(socket.SHUT_WR)
            assert soas_of(stream) == 2


def test_the_daemon_ends_a_transfer_under_way_before_it_stops(scene: Scene) -> None:
    fill(scene, LARGE)
    stream, _, _ = begin(scene.daemon, scene)
    with stream:
        first = read_exactly(stream, 2)
        assert scene.daemon.process is not None
        scene.daemon.process.send_signal(signal.SIGTERM)
        scene.daemon.wait_for(lambda: "stopping" in scene.daemon.log)
        read_exactly(stream, struct.unpack("!H", first)[0])
        assert soas_of(stream) == 1
    assert scene.daemon.process.wait(30) == 0


def soas_of(stream: socket.socket) -> int:
    """Reads slowly to the end; returns the number of SOA records."""
    data, chunks = bytearray(), 0
    while chunk := stream.recv(65536):
        data += chunk
        chunks += 1
        if not chunks % 100:
            threading.Event().wait(0.01)
    at = found = 0
    while at < len(data):
        (size,) = struct.unpack_from("!H", data, at)
        message = bytes(data[at + 2 : at + 2 + size])
        assert len(message) == size, "incomplete"
        found += message.count((ORIGIN.to_wire() or b"") + struct.pack("!HH", 6, 1) + struct.pack("!I", 60))
        at += 2 + size
    return found


def test_a_secondary_that_takes_the_zone_in_a_loop_is_bounded_and_still_gets_differences(scene: Scene) -> None:
    looping, other = scene.secondary("isp"), scene.secondary("other")
    follower = Secondary(scene.port, looping.key)
    follower.refresh("AXFR")
    for _ in range(FULL_TRANSFERS_AT_ONCE - 1):
        looping.refresh("AXFR")

    def takes_the_zone() -> None:
        for _ in range(20):  # more than one if a period passes meanwhile
            looping.refresh("AXFR")

    with pytest.raises(dns.xfr.TransferError, match="REFUSED"):
        takes_the_zone()
    ixfr = dns.message.make_query(ORIGIN, "IXFR")
    ixfr.authority.append(dns.rrset.from_text(ORIGIN, 0, "IN", "SOA", f"localhost. h.invalid. {2**32 - 9} 1 1 1 1"))
    ixfr.use_tsig(looping.key)
    answers = {scene.ask(ixfr, tcp=True).rcode() for _ in range(3)}
    assert dns.rcode.REFUSED in answers, "of an unknown serial it is the complete zone, too"
    scene.publish("a.example", "b.example")
    assert follower.refresh() == 2, "by a difference, of the same subscriber"
    assert other.refresh("AXFR") == 2
    assert "took the complete zone too often" in scene.daemon.log
    refused = r'blocklistd_dns_responses_total\{rcode="5",transport="tcp",type="AXFR"\} 1'
    assert re.search(refused, scene.daemon.ops("/metrics").body.decode())

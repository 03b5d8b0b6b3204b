"""Connections of the DNS side: those that go at once, only wait, or end their half; and the end of the daemon."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.message
import pytest

from blocklistd.config import ConnectionBounds
from tests.system.test_zones import ORIGIN, ZONE, Scene
from tests.system.test_zones_hard import LARGE, begin, long_names, read_exactly


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: ZONE in made.daemon.ask("status").json["zones"])
        yield made


def fill(scene: Scene, count: int) -> None:
    """A zone of more bytes than the sockets between two processes hold."""
    scene.publish(*long_names(count))


def ask(stream: socket.socket) -> int:
    """The response code of an unsigned query."""
    wire = dns.message.make_query(ORIGIN, "SOA").to_wire() or b""
    stream.sendall(struct.pack("!H", len(wire)) + wire)
    (size,) = struct.unpack("!H", read_exactly(stream, 2))
    return read_exactly(stream, size)[3] & 15


def test_who_is_gone_at_once_is_no_error(scene: Scene) -> None:
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", scene.port)) as stream:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert scene.secondary("isp").refresh("AXFR") == 1
    assert '"level":"error"' not in scene.daemon.log


def test_connections_that_only_wait_keep_nobody_out(scene: Scene) -> None:
    with socket.create_connection(("127.0.0.1", scene.port), timeout=20) as old:
        assert ask(old) == 5
        with contextlib.ExitStack() as stack:
            for _ in range(ConnectionBounds().per_address + 50):
                last = stack.enter_context(socket.create_connection(("127.0.0.1", scene.port), timeout=20))
            assert scene.secondary("isp").refresh("AXFR") == 1
            assert ask(last) == 5
            with pytest.raises(ConnectionError):
                ask(old)  # the one that has waited longest made room


def test_a_transfer_ends_for_who_has_ended_its_own_half(scene: Scene) -> None:
    for number in range(6):  # whether the end fits the kernel's buffers is a matter of its size
        fill(scene, LARGE - 80 * number)
        stream, _, _ = begin(scene.daemon, scene, f"half{number}")
        with stream:
            stream.shutdown(socket.SHUT_WR)
            assert soas_of(stream) == 2


def test_a_transfer_under_way_ends_before_the_daemon_does(scene: Scene) -> None:
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
    """Reads to the end, not fast; how many SOA records were there."""
    data, pieces = bytearray(), 0
    while piece := stream.recv(65536):
        data += piece
        pieces += 1
        if not pieces % 100:
            threading.Event().wait(0.01)
    at = found = 0
    while at < len(data):
        (size,) = struct.unpack_from("!H", data, at)
        message = bytes(data[at + 2 : at + 2 + size])
        assert len(message) == size, "cut"
        found += message.count((ORIGIN.to_wire() or b"") + struct.pack("!HH", 6, 1) + struct.pack("!I", 60))
        at += 2 + size
    return found

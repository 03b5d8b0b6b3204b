"""Zones when it is hard: kill -9 in publications and transfers, slow secondaries, publications in a transfer."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.xfr
import pytest

from tests.system.daemon import Daemon
from tests.system.test_kill import _pull_and_ignore
from tests.system.test_zones import ORIGIN, ZONE, Scene, Secondary

KILLS = 20
LARGE = 25_000  # long names: the kernel holds 4 MiB of what is sent, and the zone has 5.7 MB


def read_exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = stream.recv(min(65536, size - len(data)))
        if not piece:
            raise ConnectionError("cut")
        data += piece
    return data


@pytest.mark.slow  # 20 kills, each followed by a start and four transfers
def test_killed_in_publications_and_transfers(tmp_path: Path) -> None:
    """No serial stands for two contents, and who has a serial goes on from it by a difference."""
    chance = random.Random(4)
    scene = Scene(tmp_path)
    contents: dict[int, set[str]] = {}
    names = {f"n{number}.example" for number in range(800)}
    scene.write(*names)
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        secondary = scene.secondary("isp")
        secondary.refresh("AXFR")
        contents[secondary.serial] = secondary.rules
        for round_ in range(KILLS):
            names = set(chance.sample(sorted(names), 780)) | {f"r{round_}-{number}.example" for number in range(20)}
            scene.write(*names)
            work = [
                threading.Thread(target=_pull_and_ignore, args=(scene.daemon,)),
                threading.Thread(target=_transfer_and_ignore, args=(scene.port, secondary.key)),
            ]
            for thread in work:
                thread.start()
            threading.Event().wait(chance.uniform(0, 0.35))  # a random moment is the point
            scene.daemon.kill()
            for thread in work:
                thread.join()
            scene.daemon.start()
            before = secondary.serial
            serial = secondary.refresh()
            assert serial >= before
            assert contents.setdefault(serial, secondary.rules) == secondary.rules, "one serial, two contents"
            fresh = Secondary(scene.port, secondary.key)
            if fresh.refresh("AXFR") != serial:  # what the kill left was published after the first transfer
                assert secondary.refresh() == fresh.serial > serial
                assert contents.setdefault(secondary.serial, secondary.rules) == secondary.rules
            assert fresh.zone == secondary.zone
            assert scene.daemon.pull("hotline")["outcome"] in ("published", "unchanged")
            assert is_incremental(scene.port, secondary), "a full transfer where a difference could be had"
            secondary.refresh()
            assert contents.setdefault(secondary.serial, secondary.rules) == secondary.rules
            assert secondary.rules == {rule for name in names for rule in (name, f"*.{name}")}


def _transfer_and_ignore(port: int, key: Any) -> None:
    try:
        Secondary(port, key).refresh("AXFR")
    except (OSError, EOFError, dns.exception.DNSException):
        return


def is_incremental(port: int, secondary: Secondary) -> bool:
    """Whether an IXFR from what a secondary has is answered with a difference, or nothing to do."""
    query, _ = dns.xfr.make_query(secondary.zone, keyring=secondary.key)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as stream:
        wire = query.to_wire() or b""
        stream.sendall(struct.pack("!H", len(wire)) + wire)
        (size,) = struct.unpack("!H", read_exactly(stream, 2))
        message = dns.message.from_wire(
            read_exactly(stream, size), keyring=secondary.key, request_mac=query.mac, xfr=True, one_rr_per_rrset=True
        )
        first = list(message.answer)
    if len(first) == 1:
        return int(first[0][0].serial) == secondary.serial
    return first[1].rdtype == dns.rdatatype.SOA and int(first[1][0].serial) == secondary.serial


def long_names(count: int) -> list[str]:
    """Names of which a zone has some 230 bytes each."""
    return [f"{number:06}{'x' * 57}.{number:06}{'y' * 57}.{'z' * 60}.example" for number in range(count)]


@pytest.fixture
def large(tmp_path: Path) -> Scene:
    """A zone of more bytes than the sockets between two processes can hold."""
    scene = Scene(tmp_path)
    scene.write(*long_names(LARGE))
    return scene


def begin(daemon: Daemon, scene: Scene, name: str = "slow") -> tuple[socket.socket, dns.message.Message, Any]:
    """A transfer of which nothing is read yet."""
    key = scene.key(scene.subscriber(name))
    query = dns.message.make_query(ORIGIN, "AXFR")
    query.use_tsig(key)
    stream = socket.socket()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stream.settimeout(60)
    stream.connect(("127.0.0.1", scene.port))
    wire = query.to_wire() or b""
    stream.sendall(struct.pack("!H", len(wire)) + wire)
    return stream, query, key


@pytest.mark.slow  # a zone that no socket holds is read and verified by dnspython, twice
def test_a_transfer_ends_on_the_version_on_which_it_began(large: Scene) -> None:
    with large.daemon as daemon:
        daemon.first_pull("hotline")
        daemon.wait_for(lambda: ZONE in daemon.ask("status").json["zones"])
        stream, query, key = begin(daemon, large)
        first = read_exactly(stream, 2)
        for number in range(3):
            large.publish(f"new{number}.example", "again.example")
        other = large.secondary("fast")
        assert other.refresh("AXFR") == 4, "others get the new one meanwhile"
        soas: list[int] = []
        rules, context, size = 0, None, struct.unpack("!H", first)[0]
        with stream:
            while len(soas) < 2:
                message = dns.message.from_wire(
                    read_exactly(stream, size),
                    keyring=key,
                    request_mac=query.mac,
                    xfr=True,
                    multi=True,
                    tsig_ctx=context,
                    one_rr_per_rrset=True,
                )
                context = message.tsig_ctx
                assert message.had_tsig
                for rrset in message.answer:
                    if rrset.rdtype == dns.rdatatype.SOA:
                        soas.append(rrset[0].serial)
                    elif rrset.rdtype == dns.rdatatype.CNAME:
                        rules += 1
                if len(soas) < 2:
                    (size,) = struct.unpack("!H", read_exactly(stream, 2))
        assert soas == [1, 1]
        assert rules == 2 * LARGE


def test_a_slow_secondary_delays_no_other(large: Scene) -> None:
    with large.daemon as daemon:
        daemon.first_pull("hotline")
        daemon.wait_for(lambda: ZONE in daemon.ask("status").json["zones"])
        streams = [begin(daemon, large)[0]]
        key = large.key(large.subscriber("fast"))
        waits = []
        for _ in range(100):
            query = dns.message.make_query(ORIGIN, "SOA")
            query.use_tsig(key)
            began = time.monotonic()
            assert dns.query.udp(query, "127.0.0.1", port=large.port, timeout=10).rcode() == 0
            waits.append(time.monotonic() - began)
        assert daemon.ops("/healthz").status == 200
        assert sorted(waits)[50] < 1.0
        for stream in streams:
            stream.close()

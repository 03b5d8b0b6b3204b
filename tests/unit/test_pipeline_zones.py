"""What is served of a zone while its next serial is not made yet, what of a damaged one, and who has which serial."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import ipaddress
import json
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from blocklistd.errors import JobError
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import JobLimits
from blocklistd.limits import MAX_SECONDARIES
from blocklistd.model import ListId
from blocklistd.pipeline import zone_job
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zone_completion import compile_all
from blocklistd.pipeline.zone_job import advance
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.rpz.wire import Apex, wire_name
from blocklistd.serve.dns.query import SecondaryRequest
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.dns.zones import Peer, Zones, ZoneView
from blocklistd.store.ixfr import ixfr_path
from blocklistd.store.verified import Verified
from blocklistd.store.zones import ZonePlan, ZoneSerial, newest_serial
from blocklistd.telemetry import Telemetry
from tests.damage import flip_a_bit
from tests.versions_of import LIST, NOW, Versions

ZONE = "rpz.blocklist.example"
NAME = wire_name(ZONE)
APEX = Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost", "ns.invalid"))
PLAN = ZonePlan(ZONE, LIST, ("A", "B"), ".", 60, APEX, 1)
EVERYTHING = dataclasses.replace(PLAN, categories=())


def publisher_of(versions: Versions, jobs: Jobs, zones: Zones) -> ZonePublisher:
    verified = Verified(versions.store.sealed)
    resources = Resources(versions.store, versions.database, jobs, verified, lambda: NOW, Telemetry())
    return ZonePublisher(resources, zones, lambda view: None)


@pytest.mark.parametrize(
    "changed",
    [
        {"apex": dataclasses.replace(APEX, refresh=61)},
        {"ttl": 61},
        {"target": "*."},
        {"categories": ("B",)},
        {"list": ListId("other")},
    ],
)
def test_a_serial_is_served_as_it_was_made(tmp_path: Path, changed: dict[str, Any]) -> None:
    """No serial stands for two contents, however long the next one takes."""
    versions = Versions(tmp_path)
    versions.publish(versions.seal(["a.example"]))
    assert advance(versions.store, PLAN, NOW, False, {})["serial"] == 1
    with versions.database.read() as connection:
        found = newest_serial(connection, ZONE)
    assert found is not None
    assert found.plan.renders_as(PLAN)
    zones, jobs = Zones(), Jobs()
    publisher = publisher_of(versions, jobs, zones)
    asyncio.run(publisher.configure([dataclasses.replace(PLAN, **changed)]))
    served = zones.get(wire_name(ZONE))
    assert served is not None
    assert served.serial == 1
    assert served.plan.renders_as(PLAN)
    assert served.soa() == APEX.soa(1)
    jobs.close()
    versions.close()


class NoJobs(Jobs):
    def __init__(self) -> None:
        pass


def test_old_addresses_of_a_secondary_are_forgotten(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    zones = publisher_of(versions, NoJobs(), Zones())
    peer = Peer("isp", frozenset({b"\0"}), (), (), ())
    for number in range(MAX_SECONDARIES + 10):
        zones.secondaries.saw(SecondaryRequest(peer, b"\0", "192.0.2.1", 1, 1))  # asks again and again
        zones.secondaries.saw(SecondaryRequest(peer, b"\0", f"2001:db8::{number:x}", 1, 1))
    seen = zones.secondaries.sightings["isp", b"\0"]
    assert len(seen) == MAX_SECONDARIES
    assert "192.0.2.1" in seen
    assert "2001:db8::0" not in seen
    versions.close()


def test_an_entry_without_any_rule_is_omitted_once_for_each_and_named_once(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    long = ".".join(["x" * 62] * 3 + ["y" * 50, "example"])
    versions.publish(versions.seal(["a.example", long]))
    (one,) = [entry["id"] for entry in map(json.loads, versions.live.splitlines()) if entry["value"] == long]
    advance(versions.store, EVERYTHING, NOW, False, {})
    zones = publisher_of(versions, NoJobs(), Zones())
    asyncio.run(zones.configure([EVERYTHING]))
    with versions.database.read() as connection:
        shown = zones.status(connection)[ZONE]
    assert (shown["omitted"], shown["omitted_ids"]) == (2, [one])
    versions.close()


# -- damaged files -----------------------------------------------------------------------------------------------------


class InThreads(Jobs):
    """Jobs without processes; `may_run` holds them back, `may_compile` those that compile messages, which fail with
    `fails`. `most` counts those that ran at once."""

    def __init__(self) -> None:
        self.may_run, self.may_compile = asyncio.Event(), asyncio.Event()
        self.may_run.set()
        self.may_compile.set()
        self.fails: Exception | None = None
        self.at_once = self.most = self.count = 0

    async def run(self, work: Callable[..., Any], *arguments: Any, limits: JobLimits) -> Any:
        self.at_once += 1
        self.count += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.may_run.wait()
            if work is compile_all:
                await self.may_compile.wait()
                if self.fails is not None:
                    raise self.fails
            return await asyncio.to_thread(work, *arguments)
        finally:
            self.at_once -= 1


class Scene:
    """A list of a hundred names or more, its zone, and a DNS server on loopback."""

    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder)
        self.jobs = InThreads()
        self.zones = Zones()
        self.publisher = publisher_of(self.versions, self.jobs, self.zones)
        peer = Peer("isp", frozenset({NAME}), (), (ipaddress.ip_network("127.0.0.0/8"),), ())
        self.zones.replace_peers([peer])
        self.sent: list[int] = []
        """The serials that were sent to their end."""
        self.server = DnsServer(
            self.zones,
            self.publisher.difference,
            lambda seen: None,
            lambda seen, serial: self.sent.append(serial),
            usable=self.publisher.usable,
            retry=1,
            give_up=1,
        )
        self.port = 0

    async def start(self) -> None:
        bound = socket.create_server(("127.0.0.1", 0))
        self.port = bound.getsockname()[1]
        await self.server.start([bound], [])
        await self.publisher.configure([EVERYTHING])

    async def stop(self) -> None:
        await self.server.stop()
        self.versions.close()

    async def publish(self, *names: str) -> ZoneSerial:
        self.versions.publish(self.versions.seal(names))
        await self.publisher.advance(LIST)
        return self.serial

    @property
    def serial(self) -> ZoneSerial:
        with self.versions.database.read() as connection:
            found = newest_serial(connection, ZONE)
        assert found is not None
        return found

    @property
    def view(self) -> ZoneView:
        view = self.zones.get(NAME)
        assert view is not None
        return view

    @property
    def compiled(self) -> bytes:
        file = self.view.file
        assert file is not None
        into = memoryview(bytearray(len(file)))
        file.read(0, into)
        return bytes(into)

    async def connect(self, kind: str = "AXFR", since: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=client, limit=4096)
        query = dns.message.make_query(ZONE, kind)
        if kind == "IXFR":
            soa = f"localhost. h.invalid. {since} 60 30 600 60"
            query.authority.append(dns.rrset.from_text(f"{ZONE}.", 60, "IN", "SOA", soa))
        wire = query.to_wire() or b""
        writer.write(struct.pack("!H", len(wire)) + wire)
        return reader, writer

    async def transfer(self, kind: str = "AXFR", since: int = 0) -> tuple[int, int]:
        """The response code and how many records came."""
        reader, writer = await self.connect(kind, since)
        records = soas = 0
        wanted = 2 if kind == "AXFR" else 4
        while soas < wanted:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            message = dns.message.from_wire(await reader.readexactly(size), xfr=True, one_rr_per_rrset=True)
            if message.rcode():
                writer.close()
                return int(message.rcode()), 0
            soas += sum(rrset.rdtype == dns.rdatatype.SOA for rrset in message.answer)
            records += len(message.answer)
        writer.close()
        return 0, records

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.005)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path)
    await made.start()
    yield made
    await made.stop()


def errors(caplog: pytest.LogCaptureFixture) -> int:
    return sum(
        record.name == "blocklistd.pipeline.zones" and record.levelno >= logging.ERROR for record in caplog.records
    )


NAMES = [f"n{number}.example" for number in range(100)]


async def test_a_flipped_bit_in_the_wire_file_is_refused_and_made_good(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    before = await scene.publish(*NAMES)
    assert await scene.transfer() == (0, 204)
    scene.jobs.may_run.clear()
    path = scene.versions.store.sealed.path(before.wire)
    flip_a_bit(path)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert await scene.transfer() == (2, 0), "SERVFAIL, and not a byte of the file"
    assert errors(caplog) == 1, "said once"
    assert list(scene.publisher.damaged) == [ZONE]
    assert scene.server.answered["tcp", "AXFR", 2] == 3
    assert scene.server.transfers.complete["AXFR"] == 1
    scene.jobs.may_run.set()
    await scene.until(lambda: not scene.publisher.damaged)
    assert await scene.transfer() == (0, 204)
    assert scene.serial == before
    assert not scene.publisher.behind
    assert scene.versions.store.sealed.is_intact(before.wire)


async def test_a_file_that_was_touched_and_is_right_is_served(scene: Scene) -> None:
    before = await scene.publish(*NAMES)
    path = scene.versions.store.sealed.path(before.wire)
    path.touch()
    assert not scene.view.file or not scene.view.file.is_unchanged()
    assert await scene.transfer() == (0, 204)
    assert scene.view.file
    assert scene.view.file.is_unchanged(), "read once"
    assert not scene.publisher.damaged


async def test_a_lost_file_is_served_from_its_open_copy_and_made_again(scene: Scene) -> None:
    before = await scene.publish(*NAMES)
    path = scene.versions.store.sealed.path(before.wire)
    path.unlink()
    assert await scene.transfer() == (0, 204)
    await scene.until(path.exists)
    await scene.until(lambda: not scene.publisher.behind)
    assert await scene.transfer() == (0, 204)
    assert scene.serial == before


async def test_a_file_that_was_cut_short_is_not_read(scene: Scene) -> None:
    before = await scene.publish(*NAMES)
    os.truncate(scene.versions.store.sealed.path(before.wire), 100)
    assert (await scene.transfer())[0] == 2
    await scene.until(lambda: not scene.publisher.damaged)
    assert await scene.transfer() == (0, 204)


async def test_no_wrong_byte_is_sent_when_a_bit_flips_during_a_transfer(scene: Scene) -> None:
    long = ".".join(["y" * 60] * 2)
    before = await scene.publish(*(f"n{number}.{'x' * 50}{number}.{long}.example" for number in range(30_000)))
    right = scene.compiled
    assert len(right) > 6_000_000, "more than the sockets hold"
    reader, writer = await scene.connect()
    (size,) = struct.unpack("!H", await reader.readexactly(2))
    await reader.readexactly(size)  # SOA and NS
    flip_a_bit(scene.versions.store.sealed.path(before.wire), before_end=10)
    received = bytearray()

    async def receive() -> None:
        while True:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            message = bytearray(await reader.readexactly(size))
            message[:2] = b"\0\0"  # the id of the request
            received.extend(struct.pack("!H", size) + message)

    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await receive()
    writer.close()
    assert scene.sent == []
    assert received
    assert right.startswith(received)
    await scene.until(lambda: not scene.publisher.behind)
    assert scene.serial == before
    assert scene.compiled == right


async def test_a_transfer_that_the_client_breaks_off_does_not_count_as_sent(scene: Scene) -> None:
    long = ".".join(["y" * 60] * 2)
    await scene.publish(*(f"n{number}.{'x' * 50}{number}.{long}.example" for number in range(30_000)))
    reader, writer = await scene.connect()
    (size,) = struct.unpack("!H", await reader.readexactly(2))
    await reader.readexactly(size)
    assert scene.server.transfers.under_way["AXFR"] == 1
    writer.transport.abort()
    await scene.until(lambda: not scene.server.transfers.under_way["AXFR"])
    assert scene.sent == []
    await scene.transfer()
    assert scene.sent == [1]


@pytest.mark.parametrize("sent", [True, False])
async def test_a_damaged_file_at_the_start_is_made_again_before_it_is_served(scene: Scene, sent: bool) -> None:
    """What is only built upon keeps nothing from being served that is sent from another file."""
    before = await scene.publish(*NAMES)
    flip_a_bit(scene.versions.store.sealed.path(before.wire if sent else before.rules))
    zones = Zones()
    publisher = publisher_of(scene.versions, scene.jobs, zones)
    await publisher.configure([EVERYTHING])
    assert (zones.get(NAME) is None) == sent
    assert list(publisher.damaged) == [ZONE]
    assert list(publisher.unloaded) == ([ZONE] if sent else [])
    await publisher.advance()
    assert not publisher.damaged
    assert not publisher.unloaded
    assert zones.get(NAME) is not None
    assert scene.serial == before


async def test_a_rendering_of_a_difference_that_was_changed_is_made_again(scene: Scene) -> None:
    await scene.publish(*NAMES)
    await scene.publish(*NAMES[1:], "new.example")
    right = await scene.publisher.difference(scene.view, 1)
    assert right is not None
    path = ixfr_path(scene.versions.store, ZONE, 1, 2)
    content = path.read_bytes()
    flip_a_bit(path)
    assert await scene.publisher.difference(scene.view, 1) == right
    assert path.read_bytes() == content
    path.unlink()
    assert await scene.publisher.difference(scene.view, 1) == right
    assert await scene.transfer("IXFR", 1) == (0, 8)


async def test_a_damaged_delta_of_rules_is_dropped_and_the_whole_zone_sent(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.publish(*NAMES)
    second = await scene.publish(*NAMES[1:])
    await scene.publish(*NAMES[2:])
    assert second.delta
    flip_a_bit(scene.versions.store.sealed.path(second.delta))
    with caplog.at_level(logging.ERROR):
        found = await asyncio.gather(*(scene.publisher.difference(scene.view, 1) for _ in range(3)))
    assert found == [None] * 3
    assert errors(caplog) == 1
    assert scene.view.oldest == 2
    assert await scene.publisher.difference(scene.view, 2) is not None


async def test_a_difference_larger_than_the_zone_is_not_made(scene: Scene) -> None:
    await scene.publish(*NAMES)
    await scene.publish("a.example")
    assert await scene.publisher.difference(scene.view, 1) is None
    runs = scene.jobs.count
    assert await scene.publisher.difference(scene.view, 1) is None
    assert scene.jobs.count == runs, "remembered"


async def test_secondaries_share_a_difference_while_it_is_sent(scene: Scene) -> None:
    """Those that read slowly have no copies of it in memory."""
    await scene.publish(*NAMES)
    await scene.publish(*NAMES[1:])
    sender = scene.server.transfers
    slow = await sender._difference_records(scene.view, 1)
    assert slow is not None
    assert await sender._difference_records(scene.view, 1) is slow
    del slow
    gc.collect()
    assert not sender._differences, "kept no longer than it is sent"


async def test_a_reason_for_no_difference_is_logged_once(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    await scene.publish(*NAMES)
    await scene.publish(*NAMES[1:])
    scene.publisher._differences.forget(ZONE, 0)
    folder = ixfr_path(scene.versions.store, ZONE, 1, 2).parent
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("")  # where the folder of the differences should be
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            reader, writer = await scene.connect("IXFR", 1)
            assert (await reader.readexactly(6))[5] & 15 == 0
            writer.close()
    assert sum("AXFR is sent instead" in message for message in caplog.messages) == 1


async def test_a_zone_is_not_made_twice_at_once(scene: Scene) -> None:
    await scene.publish(*NAMES)
    scene.versions.publish(scene.versions.seal(NAMES[1:]))
    scene.jobs.most = 0
    await asyncio.gather(*(scene.publisher.advance(LIST) for _ in range(4)))
    assert scene.jobs.most == 1
    assert scene.serial.serial == 2


# -- a serial whose messages are compiled later ------------------------------------------------------------------------


@pytest.fixture
async def deferred(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """The scene with a serial that is served before its messages are compiled: `may_compile` lets them be."""
    monkeypatch.setattr(zone_job, "DEFERRED", 0)
    await scene.publish(*NAMES)
    scene.jobs.may_compile.clear()
    return scene


async def test_differences_are_sent_before_the_messages_are_compiled(deferred: Scene) -> None:
    changing = asyncio.ensure_future(deferred.publish(*NAMES[1:], "new.example"))
    await deferred.until(lambda: deferred.view.serial == 2)
    assert deferred.view.compiled is None
    assert await deferred.transfer("IXFR", 1) == (0, 2 + 2 + 2 + 2)
    complete = asyncio.ensure_future(deferred.transfer())
    await deferred.until(lambda: deferred.server.transfers.under_way["AXFR"] == 1)
    assert not changing.done()
    assert not complete.done()
    deferred.jobs.may_compile.set()
    assert await complete == (0, 2 * len(NAMES) + 4)
    assert (await changing).is_compiled
    assert deferred.sent == [2, 2]


async def test_messages_that_cannot_be_compiled_are_at_the_next_try(deferred: Scene) -> None:
    deferred.jobs.fails = JobError("the job died")
    deferred.jobs.may_compile.set()
    serial = await deferred.publish(*NAMES[1:])
    assert deferred.publisher.behind == {ZONE}
    assert (await deferred.transfer())[0] == dns.rcode.SERVFAIL
    assert (await deferred.transfer("IXFR", 1))[0] == 0
    deferred.jobs.fails = None
    await deferred.publisher.advance(LIST, deferred.versions.state.version)
    assert deferred.publisher.behind == set()
    assert deferred.serial.serial == serial.serial
    assert deferred.serial.delta == serial.delta
    assert await deferred.transfer() == (0, 2 * len(NAMES) - 2 + 4)


async def test_a_daemon_that_ended_before_the_messages_were_compiled_compiles_them(deferred: Scene) -> None:
    deferred.jobs.fails = JobError("the daemon ends")
    deferred.jobs.may_compile.set()
    await deferred.publish(*NAMES[1:])
    deferred.jobs.fails = None
    zones = Zones()
    other = publisher_of(deferred.versions, deferred.jobs, zones)
    await other.configure([EVERYTHING])
    before = zones.get(NAME)
    assert before is not None
    assert (before.serial, before.compiled) == (2, None)
    assert await other.usable(before, True) is None
    await other.advance()
    after = zones.get(NAME)
    assert after is not None
    assert (after.serial, after.compiled is None) == (2, False)
    assert deferred.serial.is_compiled

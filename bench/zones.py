"""Transfers of a zone of 500,000 domains, 1,000,000 records, to one fast client, beside knotd and nsd.

Each server runs on one core and the client on the other. The peers read the zone from a file with the same records.
"""

from __future__ import annotations

import base64
import functools
import os
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.query
import dns.rdatatype
import dns.tsig

from bench import bodies
from bench.compare import Row, Sample, in_turns
from tests.system.daemon import Daemon, free_port

ZONE = "rpz.blocklist.example"
SECRET = base64.b64encode(b"k" * 32).decode()
SERVER, CLIENT = 0, 1  # cores
WAIT = 120.0  # seconds


class Client:
    """The measuring client, compiled for this run."""

    def __init__(self, folder: Path) -> None:
        self._program = folder / "axfr_sink"
        self._folder = folder
        source = Path(__file__).with_name("axfr_sink.c")
        subprocess.run(["cc", "-O2", "-o", self._program, source], check=True)

    def transfer(self, port: int, records: int, key: dns.tsig.Key | None) -> float:
        """Seconds of an AXFR of a zone with `records` rules; also checks their number and the signatures."""
        query = dns.message.make_query(ZONE, "AXFR")
        if key is not None:
            query.use_tsig(key)
        wire = query.to_wire() or b""
        with tempfile.NamedTemporaryFile(dir=self._folder) as file:
            file.write(struct.pack("!H", len(wire)) + wire)
            file.flush()
            command = ["taskset", "-c", str(CLIENT), str(self._program), str(port), file.name, str(records + 3)]
            took, _, messages, signed = subprocess.run(command, check=True, capture_output=True).stdout.split()
        assert key is None or signed == messages, "messages without a signature"
        return float(took)


class Peer:
    """Another DNS server, which reads the zone from a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.port = free_port()
        self.key = dns.tsig.Key("peer", base64.b64decode(SECRET), "hmac-sha256")
        self.zone = self.folder / "zone"
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, names: list[bytes], serial: int) -> None:
        """Writes the zone file with the rules of these domains."""
        lines = [f"$ORIGIN {ZONE}.", "$TTL 60", f"@ SOA localhost. h.invalid. {serial} 60 30 600 60", "@ NS localhost."]
        for name in sorted(names):
            lines += [f"{name.decode()} CNAME .", f"*.{name.decode()} CNAME ."]
        temporary = self.folder / "new"
        temporary.write_text("\n".join(lines) + "\n")
        temporary.rename(self.zone)

    def launch(self, *command: str) -> None:
        log = open(self.folder / "log", "wb")  # noqa: SIM115 - the process has it as long as it lives
        self.process = subprocess.Popen(["taskset", "-c", str(SERVER), *command], stdout=log, stderr=log)
        process = self.process
        wait_until(lambda: process.poll() is not None or _serial(self.port, self.key) is not None)
        assert process.poll() is None, (self.folder / "log").read_text()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


class Knot(Peer):
    """knotd with one worker for UDP and one for TCP."""

    def start(self) -> None:
        config = f"""
server:
  rundir: {self.folder}
  listen: 127.0.0.1@{self.port}
  tcp-workers: 1
  udp-workers: 1
database:
  storage: {self.folder}
log:
  - target: stderr
    any: error
control:
  listen: {self.folder}/control
key:
  - id: peer
    algorithm: hmac-sha256
    secret: {SECRET}
acl:
  - id: keyed
    key: peer
    action: transfer
  - id: local
    address: 127.0.0.0/8
    action: transfer
zone:
  - domain: {ZONE}
    file: {self.zone}
    zonefile-sync: -1
    zonefile-load: difference
    journal-content: changes
    semantic-checks: off
    acl: [keyed, local]
"""
        (self.folder / "knot.conf").write_text(config)
        self.launch("knotd", "-c", str(self.folder / "knot.conf"))

    def reload(self) -> None:
        subprocess.run(
            ["knotc", "-s", self.folder / "control", "zone-reload", ZONE], check=True, stdout=subprocess.DEVNULL
        )


class Nsd(Peer):
    """nsd with one server process."""

    def start(self) -> None:
        config = f"""
server:
  ip-address: 127.0.0.1@{self.port}
  username: ""
  chroot: ""
  zonesdir: "{self.folder}"
  pidfile: "{self.folder}/pid"
  zonelistfile: "{self.folder}/zonelist"
  xfrdfile: "{self.folder}/xfrd"
  xfrdir: "{self.folder}"
  server-count: 1
  tcp-timeout: 300
remote-control:
  control-enable: no
key:
  name: peer
  algorithm: hmac-sha256
  secret: "{SECRET}"
zone:
  name: {ZONE}
  zonefile: {self.zone}
  provide-xfr: 127.0.0.0/8 NOKEY
  provide-xfr: 127.0.0.0/8 peer
"""
        (self.folder / "nsd.conf").write_text(config)
        self.launch("nsd", "-d", "-c", str(self.folder / "nsd.conf"))


class Ours:
    """The daemon with one list and its zone; one subscriber has a TSIG key, the other is known by its address."""

    def __init__(self, folder: Path, **config: object) -> None:
        self.folder = folder / "blocklistd"
        self.folder.mkdir()
        self.port = free_port()
        self.body = self.folder / "list"
        source = {
            "url": f"file:{self.body}",
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 30d",
            "max_bytes": "4GiB",
            "verify": {"method": "none"},
        }
        guards = {"min_entries": 0, "min_change": 999_999_999}
        self.daemon = Daemon(
            self.folder,
            {
                "sources": {"hotline": source},
                "lists": {"national": {"sources": ["hotline"], "guards": guards}},
                "zones": {ZONE: {"list": "national"}},
                "dns": {"listen": [f"127.0.0.1:{self.port}"]},
                **config,
            },
        )

    def start(self, names: list[bytes]) -> None:
        self.write(names)
        self.daemon.start()
        self.daemon.wait_for(lambda: self.records > 0, within=WAIT)
        made = self.daemon.ask("subscriber add", id="isp", zones=[ZONE]).json["tsig"]
        self.daemon.ask("subscriber add", id="resolver", zones=[ZONE], address=["127.0.0.0/24"])
        self.key = dns.tsig.Key(made["name"], base64.b64decode(made["secret"]), made["algorithm"])

    def write(self, names: list[bytes]) -> None:
        self.body.write_bytes(b"\n".join(names) + b"\n")

    @property
    def records(self) -> int:
        zones = self.daemon.ask("status").json["zones"]
        return int(zones[ZONE]["records"]) if ZONE in zones else 0

    @property
    def pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def pin(self) -> None:
        """Binds the serving process to its core, but not its jobs, which are processes of the forkserver."""
        _pin(self.pid, {SERVER})


def _serial(port: int, key: dns.tsig.Key | None) -> int | None:
    query = dns.message.make_query(ZONE, "SOA")
    if key is not None:
        query.use_tsig(key)
    try:
        answer = dns.query.tcp(query, "127.0.0.1", port=port, timeout=2)
    except (OSError, EOFError, dns.exception.DNSException):
        return None
    return int(answer.answer[0][0].serial) if answer.answer else None


def _pin(pid: int, cores: set[int]) -> None:
    """Binds all threads of a process to these cores."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), cores)


def _has_moved(port: int, key: dns.tsig.Key, serial: int | None) -> bool:
    return _serial(port, key) not in (None, serial)


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits up to WAIT seconds. Raises TimeoutError."""
    deadline = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WAIT} s")
        time.sleep(0.01)


def _proportional(pid: int) -> float:
    """The proportional set size (PSS) of a process in MiB: a shared page counts in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no PSS in smaps_rollup")


class ZoneMeasured(NamedTuple):
    """Our sample of a case beside that of the better peer."""

    case: str
    ours: Sample
    peer: Sample
    peer_name: str


def measure(count: int, rounds: int) -> Iterator[ZoneMeasured]:
    """The comparisons of the table, each with the better peer."""
    with tempfile.TemporaryDirectory(prefix="bench-zones-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        client, ours, knot, nsd = Client(folder), Ours(folder), Knot(folder, "knotd"), Nsd(folder, "nsd")
        names = bodies.domains(count)
        try:
            for peer in (knot, nsd):
                peer.write(names, 1)
                peer.start()
            ours.start(names)
            ours.pin()
            records = ours.records
            for what, keys in (("plain", (None, None, None)), ("TSIG", (ours.key, knot.key, nsd.key))):
                servers = zip((ours.port, knot.port, nsd.port), keys, strict=True)
                ways = [functools.partial(client.transfer, port, records, key) for port, key in servers]
                mine, *theirs = in_turns(rounds, *ways)
                best = min(zip(theirs, ("knotd", "nsd"), strict=True), key=lambda pair: pair[0].best)
                yield ZoneMeasured(what, mine, *best)
            assert knot.process is not None
            ours_memory, knot_memory = (Sample((_proportional(pid),)) for pid in (ours.pid, knot.process.pid))
            yield ZoneMeasured("memory", ours_memory, knot_memory, "knotd")
            yield ZoneMeasured("serial", *_serials(ours, knot, names, rounds), "knotd")
        finally:
            knot.stop()
            nsd.stop()
            if ours.daemon.process is not None:
                ours.daemon.process.send_signal(signal.SIGTERM)
                ours.daemon.process.wait(30)


def serial_visible(ours: Ours, names: list[bytes], rounds: int) -> Sample:
    """Seconds from a new body with 0.1 % churn until the new serial is in an answer."""
    took = []
    for number in range(1, rounds + 1):
        names = _churned(names, number)
        ours.write(names)
        took.append(_seconds_of_ours(ours))
    return Sample(tuple(took))


def _serials(ours: Ours, knot: Knot, names: list[bytes], rounds: int) -> tuple[Sample, Sample]:
    """The same, and from the new zone file to its serial at knotd; both may use all cores for it.

    knotd finds out the difference to the zone that it has (zonefile-load), as it must to answer IXFR.
    """
    assert knot.process is not None
    for pid in (ours.pid, knot.process.pid):
        _pin(pid, set(range(os.cpu_count() or 1)))
    took: list[tuple[float, float]] = []
    for number in range(1, rounds + 1):
        names = _churned(names, number)
        ours.write(names)
        knot.write(names, 1 + number)
        mine = _seconds_of_ours(ours)
        began = time.perf_counter()
        knot.reload()
        wait_until(functools.partial(_has_moved, knot.port, knot.key, number))
        took.append((mine, time.perf_counter() - began))
    return Sample(tuple(pair[0] for pair in took)), Sample(tuple(pair[1] for pair in took))


def _churned(names: list[bytes], number: int) -> list[bytes]:
    fresh = bodies.domains(max(1, len(names) // 1000), seed=100 + number)
    return list(dict.fromkeys(bodies.churned(names, fresh, seed=number)))


def _seconds_of_ours(ours: Ours) -> float:
    before = _serial(ours.port, ours.key)
    began = time.perf_counter()
    assert ours.daemon.pull("hotline")["outcome"] == "published"
    wait_until(functools.partial(_has_moved, ours.port, ours.key, before))
    return time.perf_counter() - began


def rows() -> Iterator[Row]:
    """The rows of the table."""
    titles = {
        "plain": ("AXFR of 1,000,000 records, plain", "s", 1 / 8),
        "TSIG": ("AXFR of 1,000,000 records, TSIG on each message", "s", 1 / 4),
        "memory": ("memory of the server of that zone (PSS)", "MiB", 1 / 2),
        "serial": ("0.1 % churn of its list, until the new serial is served", "s", 1.0),
    }
    for what, mine, theirs, peer in measure(500_000, 7):
        title, unit, floor = titles[what]
        yield Row(title, mine, theirs, peer, unit, floor)

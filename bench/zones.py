"""A daemon with one list and its zone, and a client that takes the zone as fast as it comes."""

from __future__ import annotations

import base64
import functools
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dns.message
import dns.query
import dns.rdatatype
import dns.tsig

from bench import bodies
from bench.compare import Sample
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
        subprocess.run(["cc", "-O2", "-o", self._program, source, "-lssl", "-lcrypto"], check=True)

    def transfer(self, port: int, records: int, key: dns.tsig.Key | None, *, tls: bool = False) -> float:
        """Seconds of an AXFR of a zone with `records` rules; also checks their number and the signatures."""
        query = dns.message.make_query(ZONE, "AXFR")
        if key is not None:
            query.use_tsig(key)
        wire = query.to_wire() or b""
        with tempfile.NamedTemporaryFile(dir=self._folder) as file:
            file.write(struct.pack("!H", len(wire)) + wire)
            file.flush()
            command = ["taskset", "-c", str(CLIENT), str(self._program), str(port), file.name, str(records + 3)]
            command += ["tls"] if tls else []
            took, _, messages, signed = subprocess.run(command, check=True, capture_output=True).stdout.split()
        assert key is None or signed == messages, "messages without a signature"
        return float(took)


class Ours:
    """The daemon with one list and its zone; one subscriber has a TSIG key, the other is known by its address.

    `notify`: the port on loopback of a secondary of the other, if it has one.
    """

    def __init__(
        self, folder: Path, notify: int | None = None, *, tls: dict[str, object] | None = None, **config: object
    ) -> None:
        self._notify = [] if notify is None else [f"127.0.0.1:{notify}"]
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
                "dns": {"listen": [f"127.0.0.1:{self.port}"], **({"tls": tls} if tls else {})},
                **config,
            },
        )

    def start(self, names: list[bytes]) -> None:
        self.write(names)
        self.daemon.start()
        self.daemon.wait_for(lambda: self.records > 0, within=WAIT)
        self.key = self.new_key("isp")
        self.daemon.ask("subscriber add", id="resolver", zones=[ZONE], address=["127.0.0.0/24"], notify=self._notify)

    def new_key(self, subscriber: str) -> dns.tsig.Key:
        """The TSIG key of a new subscriber; each may take the complete zone 64 times at once."""
        made = self.daemon.ask("subscriber add", id=subscriber, zones=[ZONE]).json["tsig"]
        return dns.tsig.Key(made["name"], base64.b64decode(made["secret"]), made["algorithm"])

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
        pin(self.pid, {SERVER})


def serial_of(port: int, key: dns.tsig.Key | None) -> int | None:
    query = dns.message.make_query(ZONE, "SOA")
    if key is not None:
        query.use_tsig(key)
    try:
        answer = dns.query.tcp(query, "127.0.0.1", port=port, timeout=2)
    except (OSError, EOFError, dns.exception.DNSException):
        return None
    return int(answer.answer[0][0].serial) if answer.answer else None


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits up to WAIT seconds. Raises TimeoutError."""
    deadline = time.monotonic() + WAIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WAIT} s")
        time.sleep(0.01)


def pin(pid: int, cores: set[int]) -> None:
    """Binds all threads of a process to these cores."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), cores)


def has_moved(port: int, key: dns.tsig.Key, serial: int | None) -> bool:
    return serial_of(port, key) not in (None, serial)


def serial_visible(ours: Ours, names: list[bytes], rounds: int) -> Sample:
    """Seconds from a new body with 0.1 % churn until the new serial is in an answer."""
    took = []
    for number in range(1, rounds + 1):
        names = churned(names, number)
        ours.write(names)
        took.append(_seconds_to_serial(ours))
    return Sample(tuple(took))


def churned(names: list[bytes], number: int) -> list[bytes]:
    fresh = bodies.domains(max(1, len(names) // 1000), seed=100 + number)
    return list(dict.fromkeys(bodies.churned(names, fresh, seed=number)))


def _seconds_to_serial(ours: Ours) -> float:
    before = serial_of(ours.port, ours.key)
    began = time.perf_counter()
    assert ours.daemon.pull("hotline")["outcome"] == "published"
    wait_until(functools.partial(has_moved, ours.port, ours.key, before))
    return time.perf_counter() - began

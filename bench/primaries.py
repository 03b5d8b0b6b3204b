"""The servers of bench/zones.py: ours, knotd and nsd, each with the same policy zone on a core of its own."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import dns.tsig

from tests.system.daemon import Daemon, free_port

ZONE: Final = "rpz.blocklist.example"
DOMAINS: Final = 500_000
CHURN: Final = DOMAINS // 1000  # domains that a change replaces
SERVER, CLIENT = {0}, {1}  # cores
SECRET: Final = base64.b64encode(b"k" * 32).decode()


class Names:
    """The domains: three labels under reserved names, none below another. Seeded: each server follows the same."""

    def __init__(self) -> None:
        self._chance = random.Random(500)
        self._suffixes = [f"{self._label(2, 4)}.{top}" for top in ("example", "invalid", "test") for _ in range(80)]
        self._given: set[str] = set()
        self.live = [self._name() for _ in range(DOMAINS)]

    def _label(self, shortest: int, longest: int) -> str:
        size = self._chance.randint(shortest, longest)
        return "".join(self._chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=size))

    def _name(self) -> str:
        while (name := f"{self._label(5, 15)}.{self._chance.choice(self._suffixes)}") in self._given:
            pass
        self._given.add(name)
        return name

    def change(self) -> None:
        for index in self._chance.sample(range(DOMAINS), CHURN):
            self.live[index] = self._name()


class Server(Protocol):
    """What is measured. `write` puts the next version beside the one that is served, `publish` makes it that."""

    port: int

    @property
    def pid(self) -> int: ...
    def key(self) -> dns.tsig.Key: ...
    def write(self, names: list[str], serial: int) -> None: ...
    def publish(self) -> object: ...


class Ours:
    """The daemon, with a file as its source; one subscriber by address, one by its key."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._list = folder / "list.ndjson"
        self.daemon = Daemon(
            folder,
            {
                "sources": {
                    "hotline": {
                        "url": f"file:{self._list}",
                        "format": "ndjson",
                        "fields": {"value": "/v", "type": "/t"},
                        "schedule": "every 30d",
                        "verify": {"method": "none"},
                    }
                },
                "lists": {"national": {"sources": ["hotline"], "guards": {"min_entries": 0, "min_change": DOMAINS}}},
                "zones": {ZONE: {"list": "national"}},
                "dns": {"listen": [f"127.0.0.1:{self.port}"]},
            },
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Ours]:
        self._list.with_suffix(".new").replace(self._list)
        with on(SERVER):
            self.daemon.init_keys()
            self.daemon.start()
        try:
            self._subscriber("by-address", address=["127.0.0.1/32"])
            made = self._subscriber("by-key", algorithm="hmac-sha256")["tsig"]
            self._key = dns.tsig.Key(made["name"], base64.b64decode(made["secret"]), made["algorithm"])
            yield self
        finally:
            self.daemon.__exit__()

    def _subscriber(self, name: str, **more: Any) -> dict[str, Any]:
        answer = self.daemon.ask("POST", "/subscribers", {"id": name, "zones": [ZONE], **more})
        assert answer.status == 200, answer.body
        made: dict[str, Any] = answer.json
        return made

    @property
    def pid(self) -> int:
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def key(self) -> dns.tsig.Key:
        return self._key

    def write(self, names: list[str], serial: int) -> None:
        lines = "".join(f'{{"v":"{name}","t":"domain"}}\n' for name in names)
        self._list.with_suffix(".new").write_text(lines)

    def publish(self) -> object:
        self._list.with_suffix(".new").replace(self._list)
        return self.daemon.pull("hotline")


class Peer:
    """A name server with the zone as a file."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        folder.mkdir()

    @contextlib.contextmanager
    def running(self) -> Iterator[Peer]:
        self._in_place()
        (self.folder / "conf").write_text(self.config())
        with open(self.folder / "log", "wb") as log, on(SERVER):
            process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = process.pid
        try:
            yield self
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def config(self) -> str:
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    def key(self) -> dns.tsig.Key:
        return dns.tsig.Key("bench", base64.b64decode(SECRET), "hmac-sha256")

    def write(self, names: list[str], serial: int) -> None:
        head = (
            f"$ORIGIN {ZONE}.\n$TTL 60\n@ SOA localhost. hostmaster.blocklist.invalid. {serial} 60 30 2592000 60\n"
            "@ NS localhost.\n"
        )
        rules = "".join(f"{name} CNAME .\n*.{name} CNAME .\n" for name in sorted(names, key=_canonical))
        (self.folder / "zone.new").write_text(head + rules)

    def _in_place(self) -> None:
        (self.folder / "zone.new").replace(self.folder / "zone")

    def publish(self) -> object:
        raise NotImplementedError


class Knot(Peer):
    def config(self) -> str:
        return f"""
server:
  rundir: "{self.folder}"
  listen: 127.0.0.1@{self.port}
database:
  storage: "{self.folder}"
log:
  - target: stderr
    any: warning
key:
  - id: bench
    algorithm: hmac-sha256
    secret: "{SECRET}"
acl:
  - id: by-address
    address: 127.0.0.1
    action: transfer
  - id: by-key
    key: bench
    action: transfer
zone:
  - domain: {ZONE}
    file: "{self.folder}/zone"
    zonefile-sync: -1
    acl: [by-address, by-key]
"""

    def command(self) -> list[str]:
        return [_program("knotd"), "-c", str(self.folder / "conf")]

    def publish(self) -> object:
        self._in_place()
        return subprocess.run(
            [_program("knotc"), "-s", str(self.folder / "knot.sock"), "zone-reload", ZONE],
            check=True,
            capture_output=True,
        )


class Nsd(Peer):
    def config(self) -> str:
        files = "".join(f'  {name}: "{self.folder}/{name}"\n' for name in ("pidfile", "xfrdfile", "zonelistfile"))
        return f"""
server:
  ip-address: 127.0.0.1@{self.port}
  server-count: 1
  username: ""
  database: ""
  xfrdir: "{self.folder}"
{files}
remote-control:
  control-enable: no
key:
  name: bench
  algorithm: hmac-sha256
  secret: "{SECRET}"
zone:
  name: {ZONE}
  zonefile: "{self.folder}/zone"
  provide-xfr: 127.0.0.1 NOKEY
  provide-xfr: 127.0.0.1 bench
"""

    def command(self) -> list[str]:
        return [_program("nsd"), "-d", "-c", str(self.folder / "conf")]


@contextlib.contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """What is started meanwhile runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _canonical(name: str) -> list[str]:
    return name.split(".")[::-1]


def _program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        sys.exit(f"{name} is not installed: bench/install-peers")
    return found

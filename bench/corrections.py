"""Time from `entry delist` to NOTIFY, and to the name resolving again, while another list is being committed.

The resolvers are a real BIND and a real Unbound with the configuration that `subscriber add` prints. The command runs
as a person runs it: a process that sends one request. NOTIFY is timed at a socket of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench import bodies
from bench.compare import Row, Sample
from bench.zones import ZONE, Ours, wait_until
from tests.interop.programs import Peers, Resolver
from tests.interop.release import BOOKWORM
from tests.interop.stub import Stub
from tests.system.daemon import free_port

ROUNDS = 3
FLOOR = 5.0  # seconds until a resolver has the change


class Took(NamedTuple):
    """Seconds from the beginning of the command, by "command", "NOTIFY" and the resolver's name."""

    what: str
    seconds: float


def measure(domains: int, software: tuple[str, ...], others: int) -> Iterator[Took]:
    """The times of ROUNDS delistings in a list of `domains` domains, while a list of `others` URLs is committed."""
    with tempfile.TemporaryDirectory(prefix="bench-corrections-") as name, contextlib.ExitStack() as stack:
        folder, stub = Path(name), Stub()
        stack.callback(stub.close)
        ours = Ours(folder)
        source = {
            **ours.daemon.config["sources"]["hotline"],
            "url": f"file:{folder}/other",
            "defaults": {"type": "url"},
        }
        ours.daemon.config["sources"]["other"] = source
        guards = ours.daemon.config["lists"]["national"]["guards"]
        ours.daemon.config["lists"]["other"] = {"sources": ["other"], "guards": guards}
        ours.daemon.write_config()
        names = bodies.domains(domains)
        ours.start(names)
        stack.callback(ours.daemon.stop)
        notified = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        notified.bind(("127.0.0.1", 0))
        ours.daemon.ask("subscriber add", id="watch", zones=[ZONE], notify=[f"127.0.0.1:{notified.getsockname()[1]}"])
        resolvers: dict[str, Resolver] = {}
        for one in software:
            port = free_port()
            address = {"address": ["127.0.0.1"]} if one == "unbound" else {}
            made = ours.daemon.ask(
                "subscriber add", id=f"isp-{one}", zones=[ZONE], notify=[f"127.0.0.1:{port}"], **address
            ).json
            resolvers[one] = stack.enter_context(Peers(BOOKWORM).start(one, folder, stub, port, made["config"][one]))
        last = names[-1].decode()
        for resolver in resolvers.values():
            resolver.wait(functools.partial(resolver.blocked, last))
        with _commits(ours, folder, others):
            for number in range(ROUNDS):
                yield from _delist(ours, notified, resolvers, names[number * 7].decode())


@contextlib.contextmanager
def _commits(ours: Ours, folder: Path, count: int) -> Iterator[None]:
    """Commits new bodies of the other list, one after another, while the block runs."""
    ended, made = threading.Event(), bodies.urls(count)

    def run() -> None:
        seed = 0
        while not ended.is_set():
            seed += 1
            lines = [line + b"x" * (seed % 2) for line in made]
            (folder / "other.new").write_bytes(b"\n".join(lines) + b"\n")
            (folder / "other.new").rename(folder / "other")
            ours.daemon.pull("other")

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(2.0)
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _delist(ours: Ours, notified: socket.socket, resolvers: dict[str, Resolver], name: str) -> Iterator[Took]:
    found: dict[str, float] = {}
    _drain(notified)
    begun = time.perf_counter()

    def command() -> None:
        arguments = "entry", "delist", "national", "--stdin", "--why", "bench", "-c", str(ours.daemon.path)
        ours.daemon.cli(*arguments, stdin=name.encode())
        found["command"] = time.perf_counter() - begun

    def notify() -> None:
        notified.settimeout(60.0)
        notified.recv(4096)
        found["NOTIFY"] = time.perf_counter() - begun

    def resolve(software: str, resolver: Resolver) -> None:
        def resolves() -> bool:
            with contextlib.suppress(Exception):
                return not resolver.blocked(name)
            return False

        wait_until(resolves)
        found[software] = time.perf_counter() - begun

    threads = [threading.Thread(target=command), threading.Thread(target=notify)]
    threads += [threading.Thread(target=resolve, args=one) for one in resolvers.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print({what: round(took, 3) for what, took in found.items()}, os.getloadavg()[0], file=sys.stderr, flush=True)
    for what, took in found.items():
        yield Took(what, took)


def _drain(notified: socket.socket) -> None:
    notified.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while True:
            notified.recv(4096)


def rows() -> Iterator[Row]:
    """The rows of the table. A domain has two rules."""
    for domains, software, floor in ((50_000, ("bind", "unbound"), 1.0), (500_000, (), 3.0)):
        times: dict[str, list[float]] = {}
        for what, took in measure(domains, software, others=1_000_000):
            times.setdefault(what, []).append(took)
        for what, seconds in times.items():
            title = f"delisting in a zone of {2 * domains:,} rules while another list is committed: until {what}"
            bound = {"command": None, "NOTIFY": floor}.get(what, FLOOR)
            yield Row(title, Sample(tuple(seconds)), None, "", "s", bound)

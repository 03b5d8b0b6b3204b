"""Zone transfers and changes of zones of 1,000,000 and 2,000,000 records, beside knotd, nsd and named.

Each server runs on one core and the client on the other. The peers read the zone from a file with the same records.
Beside all there is a loop in C (axfr_source.c) that sends the same messages, and computes as many MACs.

A change is a new body of the list, and at a peer a new zone file. It is timed from the command that makes the server
read it, until a secondary has fetched the new serial after NOTIFY. To make a peer's file from a list is not timed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import dns.message
import dns.tsig

from bench import bodies
from bench.compare import HEAD, Row, Sample, in_turns, seconds
from bench.name_servers import Knot, Named, Nsd, Peer
from bench.secondary import Secondary
from bench.zones import SERVER, ZONE, Client, Ours, churned, pin, wait_until
from tests.certificates import make_certificate
from tests.system.daemon import free_port

SIZES: Final = (500_000, 1_000_000)  # domains, two records each
ROUNDS: Final = 7
SECONDARIES: Final = 32  # at once
LOOP: Final = 1.6  # bounds of ratios
PLAIN, TSIG, XOT, CHANGE, MEMORY = 1 / 10, 1 / 5, 1 / 3, 1 / 5, 1 / 2


class Loop:
    """The loop in C, one process for each way."""

    def __init__(self, folder: Path, stream: bytes) -> None:
        program, messages = folder / "axfr_source", folder / "messages"
        source = Path(__file__).with_name("axfr_source.c")
        subprocess.run(["cc", "-O2", "-o", program, source, "-lcrypto"], check=True)
        messages.write_bytes(stream)
        self.ports = {"plain": free_port(), "TSIG": free_port()}
        ways: dict[str, list[str]] = {"plain": [], "TSIG": ["tsig"]}
        self._processes = [
            subprocess.Popen(["taskset", "-c", str(SERVER), program, str(self.ports[way]), messages, *more])
            for way, more in ways.items()
        ]
        for port in self.ports.values():
            wait_until(functools.partial(_listens, port))

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


class Scene:
    """All servers with one zone of `domains` domains."""

    def __init__(self, folder: Path, domains: int, stack: contextlib.ExitStack) -> None:
        self.names = bodies.domains(domains)
        self.client = Client(folder)
        self.secondary = Secondary(ZONE)
        stack.callback(self.secondary.close)
        self.peers: list[Peer] = [one(folder, self.secondary.port) for one in (Knot, Nsd, Named)]
        for peer in self.peers:
            peer.write(self.names, 1)
            stack.callback(peer.stop)
            peer.start()
        tls_port = free_port()
        cert, key = make_certificate(folder, "ours")
        tls: dict[str, object] = {"listen": [f"127.0.0.1:{tls_port}"], "cert": str(cert), "key": {"file": str(key)}}
        self.ours = Ours(folder, self.secondary.port, tls=tls)
        self.tls_port = tls_port
        self.ours.start(self.names)
        stack.callback(self.ours.daemon.stop)
        self.records = self.ours.records
        self.loop = Loop(folder, self._messages())
        stack.callback(self.loop.close)
        self.fleet = [self.ours.new_key(f"secondary-{number}") for number in range(SECONDARIES)]

    def _messages(self) -> bytes:
        """The bytes of a transfer from blocklistd, without signatures."""
        query = dns.message.make_query(ZONE, "AXFR").to_wire()
        stream = bytearray()
        answers = 0
        with socket.create_connection(("127.0.0.1", self.ours.port)) as connection, connection.makefile("rb") as sent:
            connection.sendall(struct.pack("!H", len(query)) + query)
            while answers < self.records + 3:
                prefix = sent.read(2)
                message = sent.read(*struct.unpack("!H", prefix))
                answers += int.from_bytes(message[6:8])
                stream += prefix + message
        return bytes(stream)

    def one(self, port: int, key: dns.tsig.Key | None, *, tls: bool = False) -> float:
        """Seconds of one transfer."""
        return self.client.transfer(port, self.records, key, tls=tls)

    def many(self, port: int, keys: Sequence[dns.tsig.Key]) -> float:
        """Seconds until a transfer with each of these keys is complete, all at once."""
        failed: list[BaseException] = []

        def take(key: dns.tsig.Key) -> None:
            try:
                self.one(port, key)
            except BaseException as error:
                failed.append(error)

        def take_all() -> None:
            threads = [threading.Thread(target=take, args=(key,)) for key in keys]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        took = seconds(take_all)
        if failed:
            raise failed[0]
        return took

    def pin(self, cores: set[int]) -> None:
        """Binds the servers to these cores, with their processes, but without the jobs of blocklistd."""
        pin(self.ours.pid, cores)
        for peer in self.peers:
            for pid in _tree(peer.pid):
                pin(pid, cores)

    def change(self, number: int) -> list[float]:
        """Seconds of a change at blocklistd, and at each peer."""
        self.names = churned(self.names, number)
        self.ours.write(self.names)
        for peer in self.peers:
            peer.write(self.names, 1 + number)
        ways: list[tuple[int, Callable[[], object]]] = [(self.ours.port, self._pull)]
        ways += [(peer.port, peer.reload) for peer in self.peers]
        return [self.secondary.follow(port, change) for port, change in ways]

    def _pull(self) -> None:
        threading.Thread(target=self.ours.daemon.pull, args=("hotline",)).start()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _tree(pid: int) -> list[int]:
    """A process and those below it."""
    children = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [pid, *(one for child in children for one in _tree(child))]


def _memory(pid: int) -> float:
    """The proportional set size (PSS) of a process and those below it, in MiB: a shared page counts in parts."""
    rollups = (Path(f"/proc/{one}/smaps_rollup").read_text() for one in _tree(pid))
    return sum(int(text.partition("\nPss:")[2].split()[0]) for text in rollups) / 1024


def measure(domains: int, rounds: int, *, largest: bool, whole: bool) -> Iterator[Row]:
    """The rows of a zone. `largest`: with the bounds of transfers. `whole`: also many secondaries, changes and
    memory."""
    zone = f"{2 * domains:,} records"
    with tempfile.TemporaryDirectory(prefix="bench-transfers-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        scene = Scene(folder, domains, stack)
        ours, peers = scene.ours, scene.peers
        if whole:  # before transfers have read pages of the peers' zones
            took = [scene.change(number) for number in range(1, 1 + (rounds + 1) // 2)]
            mine, *theirs = (Sample(tuple(times)) for times in zip(*took, strict=True))
            title = f"0.1 % churn of {zone}, until a secondary holds the new serial"
            yield from _rows(title, mine, dict(zip(_names(peers), theirs, strict=True)), CHANGE)
        scene.pin({SERVER})
        for way, bound in (("plain", PLAIN), ("TSIG", TSIG)):
            keys = (None, None) if way == "plain" else (ours.key, peers[0].key)
            ways = [functools.partial(scene.one, ours.port, keys[0])]
            ways += [functools.partial(scene.one, peer.port, keys[1]) for peer in peers]
            ways += [functools.partial(scene.one, scene.loop.ports[way], keys[1])]
            mine, *theirs, loop = in_turns(rounds, *ways)
            title = f"AXFR of {zone}, {way}"
            yield Row(title, mine, loop, "the loop in C", "s", LOOP if largest else None, by_median=True)
            yield from _rows(title, mine, dict(zip(_names(peers), theirs, strict=True)), bound if largest else None)
        secure = [peer for peer in peers if peer.serves_tls]
        ways = [functools.partial(scene.one, scene.tls_port, ours.key, tls=True)]
        ways += [functools.partial(scene.one, peer.tls_port, peer.key, tls=True) for peer in secure]
        mine, *theirs = in_turns(rounds, *ways)
        title = f"AXFR of {zone}, TLS and TSIG"
        yield from _rows(title, mine, dict(zip(_names(secure), theirs, strict=True)), XOT if largest else None)
        if whole:
            crowds = [functools.partial(scene.many, ours.port, scene.fleet)]
            crowds += [functools.partial(scene.many, peer.port, [peer.key] * SECONDARIES) for peer in peers]
            mine, *theirs = in_turns(2, *crowds)
            title = f"AXFR of {zone}, TSIG, {SECONDARIES} secondaries at once, until all have it"
            yield from _rows(title, mine, dict(zip(_names(peers), theirs, strict=True)), None)
        mine = Sample((_memory(ours.pid),))
        found = {peer.name: Sample((_memory(peer.pid),)) for peer in peers}
        yield from _rows(f"memory with {zone}, of all processes (PSS)", mine, found, MEMORY, "MiB")


def _names(peers: Sequence[Peer]) -> list[str]:
    return [peer.name for peer in peers]


def _rows(title: str, ours: Sample, peers: dict[str, Sample], bound: float | None, unit: str = "s") -> Iterator[Row]:
    """A row for each peer; the bound is beside the best."""
    best = min(peers, key=lambda name: peers[name].median)
    for name, sample in peers.items():
        yield Row(title, ours, sample, name, unit, bound if name == best else None, by_median=True)


def rows() -> Iterator[Row]:
    """The rows of the table."""
    for size in SIZES:
        yield from measure(size, ROUNDS, largest=size == SIZES[-1], whole=size == SIZES[0])


def main() -> None:
    """Prints the rows of one size: `python -m bench.transfers --domains 50000 --rounds 3`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--domains", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    print(HEAD)
    for row in measure(wanted.domains, wanted.rounds, largest=True, whole=True):
        print(row.markdown(), flush=True)


if __name__ == "__main__":
    main()

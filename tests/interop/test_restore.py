"""Real clients follow a publisher over the loss of its state and a restore, without a manual step, and never back."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from blocklistd.daemon.profiles import PROGRAMS
from blocklistd.daemon.profiles.request import OWN_SECONDARY
from blocklistd.store.restores import STEP
from tests.interop.programs import Peers
from tests.interop.stub import Stub
from tests.system import forks
from tests.system.daemon import free_port
from tests.system.test_zones import ZONE, Scene

OWN = "127.0.0.2"
"""The address of Knot's own secondary, which may ask it."""
RESOLVERS = ("bind", "unbound")


def printed(scene: Scene, peers: Peers, software: str, port: int) -> str:
    """What `subscriber add` prints to paste, for a subscriber of that name."""
    address = {} if PROGRAMS[software].signs else {"address": ["127.0.0.1"]}
    version = peers.release.software(software)
    made = scene.subscriber(software, notify=[f"127.0.0.1:{port}"], software=version, **address)
    return str(made["config"][software]).replace(OWN_SECONDARY, OWN)


def serial_of(port: int) -> int:
    """The serial of a distribution secondary."""
    query = dns.message.make_query(ZONE, "SOA")
    answer = dns.query.tcp(query, "127.0.0.1", port=port, source=OWN, timeout=10)
    return int(answer.answer[0][0].serial)


def test_all_clients_go_on_after_a_restore(tmp_path: Path, stub: Stub, peers: Peers) -> None:
    scene, copy = Scene(tmp_path), tmp_path / "isp"
    daemon = scene.daemon
    ports = {software: free_port() for software in (*RESOLVERS, "knot")}
    with contextlib.ExitStack() as stack:
        stack.enter_context(daemon)
        daemon.first_pull("hotline")
        scene.publish("a.example", "b.example")
        (tmp_path / "token").write_text(daemon.subscriber("isp", "national"))
        servers = {
            software: stack.enter_context(
                peers.start(
                    software, tmp_path, stub if software in RESOLVERS else None, port,
                    printed(scene, peers, software, port),
                )
            )
            for software, port in ports.items()
        }  # fmt: skip
        arguments = ["sync", f"http://127.0.0.1:{daemon.feed_port}", "national", "--root", str(daemon.root)]
        arguments += ["--token-file", str(tmp_path / "token"), "--dir", str(copy), "--format", "plain", "--watch"]
        with open(tmp_path / "sync.log", "wb") as log:
            watching = forks.Fork(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(watching.wait)
        stack.callback(watching.kill)
        versions, serials = [0], [0]

        def follow(blocked: set[str], others: set[str], above: int = 0) -> None:
            """Waits until every client has exactly these names of them; no number that is seen may be lower."""

            def synced() -> bool:
                with contextlib.suppress(FileNotFoundError):
                    versions.append(int(json.loads((copy / "state.json").read_bytes())["version"]))
                    return set((copy / "national.plain").read_text().split()) == blocked and versions[-1] > above
                return False

            def transferred() -> bool:
                with contextlib.suppress(dns.exception.DNSException, IndexError, OSError):
                    serials.append(serial_of(ports["knot"]))
                    file = (tmp_path / "knot" / f"{ZONE}.zone").read_text()
                    return serials[-1] > above and all((name in file) == (name in blocked) for name in blocked | others)
                return False

            daemon.wait_for(synced)
            daemon.wait_for(transferred)
            for software in RESOLVERS:
                found = servers[software]
                found.wait(lambda found=found: all(map(found.blocked, blocked)) and not any(map(found.blocked, others)))  # type: ignore[misc]
            assert versions == sorted(versions)
            assert serials == sorted(serials)

        follow({"a.example", "b.example"}, {"c.example"})
        backup = str(tmp_path / "backup.tar")
        daemon.cli("backup", backup, "-c", str(daemon.path))
        scene.publish("b.example", "c.example")
        scene.publish("c.example", "d.example")
        follow({"c.example", "d.example"}, {"a.example", "b.example"})
        daemon.kill()
        shutil.rmtree(tmp_path / "state")
        scene.write("d.example", "e.example")
        daemon.cli("restore", backup, "-c", str(daemon.path))
        daemon.start()
        follow({"d.example", "e.example"}, {"a.example", "b.example", "c.example"}, above=STEP)
        scene.publish("e.example", "f.example")
        follow({"e.example", "f.example"}, {"a.example", "d.example"}, above=STEP)
        assert watching.poll() is None, "it was not restarted"

"""The commands of docs/edge.md, pasted and run: from the publisher's files to a name that the resolver blocks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.interop.programs import Peers
from tests.interop.stub import Stub
from tests.interop.test_guide_of_proxies import blocks
from tests.system.daemon import Daemon, free_port

ROOT = Path(__file__).parents[2]
SERVICE = "systemctl enable --now blocklistd\n"


class Guide:
    """A shell in `folder`. `names`: what the guide's names stand for here."""

    def __init__(self, folder: Path, config: Path, names: dict[str, str]) -> None:
        self.folder = folder
        self.names = names
        self._environment = {**os.environ, "BLOCKLISTD_CONFIG": str(config), "PYTHONPATH": str(ROOT)}

    def run(self, commands: str) -> str:
        for name, ours in self.names.items():
            commands = commands.replace(name, ours)
        done = subprocess.run(
            ["bash", "-ec", commands],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def published(folder: Path) -> Daemon:
    folder.mkdir()
    (folder / "list").write_text("a.example\nb.example\n")
    source = {"url": f"file:{folder}/list", "format": "text", "defaults": {"type": "domain"}, "schedule": "every 1d"}
    source |= {"verify": {"method": "none"}}
    lists = {"national": {"sources": ["hotline"]}}
    return Daemon(folder, {"sources": {"hotline": source}, "lists": lists, "keys": {"online": {"file": "o.pem"}}})


@pytest.mark.skipif(os.geteuid() != 0, reason="the guide's commands are root's")
def test_from_the_publishers_files_to_a_blocked_name(tmp_path: Path, peers: Peers, stub: Stub) -> None:
    install, begin, subscribe = blocks("edge.md", "Set up")
    etc, port, dns_port = tmp_path / "etc", free_port(), free_port()
    etc.mkdir()
    with published(tmp_path / "publisher") as publisher:
        publisher.first_pull("hotline")
        edge = Daemon(etc, {})
        edge.path.unlink()
        guide = Guide(
            tmp_path,
            edge.path,
            {
                "/etc/blocklistd": str(etc),
                "/root/edge-root": str(edge.root.parent),
                "chown -R blocklistd:": "chown -R root:",  # the user of the package
                "blocklistd ": f"{sys.executable} -m blocklistd ",
                "127.0.0.1:53 ": f"127.0.0.1:{port} ",
                "--software unbound": "--software unbound --json",  # the text to paste, without what stands around it
            },
        )
        (tmp_path / "publisher.token").write_text(publisher.subscriber("edge", "national"))
        shutil.copy(publisher.root, tmp_path / "root.json")
        (tmp_path / "config").mkdir()
        shutil.copy(ROOT / "config" / "edge.yaml", tmp_path / "config")
        guide.run(install)
        assert (etc / "secrets" / "publisher.token").stat().st_mode & 0o077 == 0

        edge.config = installed(edge, publisher, dns_port)
        edge.write_config()
        before, after = begin.split(SERVICE)
        assert "ok" in guide.run(before)
        with edge:
            assert "(national 1)" in guide.run(after), "the edge has pulled at its start"
            pasted = json.loads(guide.run(subscribe))["config"]["unbound"]
            with peers.start("unbound", tmp_path, stub, port, pasted) as resolver:
                resolver.wait(lambda: resolver.blocked("a.example"))
                assert not resolver.blocked("free.example")

                said = guide.run("blocklistd status")
                assert "publisher" in said
                exceptions(edge)
                guide.run("blocklistd reload")
                resolver.wait(lambda: resolver.blocked("b.example") and not resolver.blocked("a.example"))


def installed(edge: Daemon, publisher: Daemon, dns_port: int) -> dict[str, Any]:
    """The installed file with the publisher's address, as the guide says, and with the ports and folders of a test."""
    config: dict[str, Any] = yaml.load(edge.path.read_text(), yaml.BaseLoader)
    config["sources"]["publisher"]["url"] = f"tuf+http://127.0.0.1:{publisher.feed_port}/national"
    config["sources"]["publisher"]["schedule"] = "every 1d"
    config |= {"state_dir": "state", "dns": {"listen": [f"127.0.0.1:{dns_port}"]}}
    config["control"]["socket"] = "c.sock"
    config["feed"]["listen"], config["ops"]["listen"] = [f"127.0.0.1:{edge.feed_port}"], [f"127.0.0.1:{edge.ops_port}"]
    config["lists"]["national"]["guards"]["max_removed"] = "100%"  # of two entries, one is more than the example allows
    config["lists"]["national"]["exceptions"] = "exceptions.json"
    (edge.folder / "exceptions.json").write_text('{"exceptions": []}')
    return config


def exceptions(edge: Daemon) -> None:
    """The guide's example, for a name of the test."""
    (text,) = blocks("edge.md", "Exceptions")
    text = text.replace("shop.example", "a.example").replace("2027-0", "2036-0")
    (edge.folder / "exceptions.json").write_text(text)

"""The commands of docs/proxies.md for Squid, and of docs/operator.md for mirrors, pasted and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from tests.interop.nginx import nginx
from tests.interop.test_exports import denied, squid
from tests.peers import peer
from tests.system.daemon import Daemon, free_port

DOCS = Path(__file__).parents[2] / "docs"
ENTRIES = [
    {"type": "domain", "value": "d.example"},
    {"type": "host", "value": "blocktest.isp.example"},
    {"type": "url", "value": "http://u.example/x?y=1"},
]


def blocks(guide: str, heading: str) -> list[str]:
    """The indented blocks of a section of a guide, without their indentation."""
    text = (DOCS / guide).read_text()
    section = "\n" + re.split(r"\n##+ ", text.split(f"# {heading}\n", 1)[1])[0]
    found = re.findall(r"(?:(?<=\n\n)(?:    .*\n|\n(?=    ))+)", section)
    return ["\n".join(line[4:] for line in block.splitlines()) for block in found]


@dataclass
class Provider:
    """A daemon, a folder with the subscriber's files that the user of Squid may enter, and what the guide's names
    stand for here."""

    daemon: Daemon
    folder: Path
    names: dict[str, str]

    def here(self, text: str) -> str:
        for name, ours in self.names.items():
            text = text.replace(name, ours)
        return text

    def run(self, commands: str) -> str:
        """Pastes commands into a shell, and returns the output."""
        done = subprocess.run(
            ["bash", "-ec", self.here(commands)], cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    (tmp_path / "list.ndjson").write_text("".join(json.dumps(entry) + "\n" for entry in ENTRIES))
    source: dict[str, object] = {"url": f"file:{tmp_path}/list.ndjson", "format": "ndjson", "schedule": "every 1d"}
    source |= {"fields": {"type": "/type", "value": "/value"}, "verify": {"method": "none"}}
    daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})
    with daemon, tempfile.TemporaryDirectory(prefix="provider-") as name:
        daemon.first_pull("hotline")
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "token").write_text(daemon.subscriber("isp", "national"))
        shutil.copy(daemon.root, folder / "root.json")
        yield Provider(daemon, folder, {"https://feed.blocklist.example": f"http://127.0.0.1:{daemon.feed_port}"})


@pytest.mark.skipif(os.geteuid() != 0, reason="the guide's commands are root's")
def test_squid_from_the_token_to_a_denied_page(provider: Provider) -> None:
    peer("squid", "squid")
    fetch, acls, reload, *sync = blocks("proxies.md", "Squid in ten minutes")
    folder = provider.folder
    provider.names |= {
        "/etc/squid/": f"{folder}/",
        "/var/lib/blocklist": f"{folder}/copies",
        "squid -k": f"squid -f {folder}/squid.conf -k",
        "blocklistd sync": f"{sys.executable} -m blocklistd sync",
    }
    provider.run(fetch)
    assert (folder / "national.squid").read_text() == ".d.example\nblocktest.isp.example\n"
    with squid(folder, provider.here(acls)) as port:
        provider.names["http://127.0.0.1:3128"] = f"http://127.0.0.1:{port}"
        assert provider.run(reload).strip() == "403"
        for url in ("http://d.example/", "http://a.d.example/", "http://u.example/x?y=1"):
            assert denied(port, url)
        assert not denied(port, "http://u.example/x?y=12")

        (lines,) = sync
        for format in ("squid", "squid-urls"):
            (folder / f"national.{format}").unlink()
        (folder / "copies").mkdir()
        config = (folder / "squid.conf").read_text()
        for format in ("squid", "squid-urls"):
            config = config.replace(f'"{folder}/national.{format}"', f'"{folder}/copies/{format}/national.{format}"')
        (folder / "squid.conf").write_text(config)
        provider.run(lines)
        provider.daemon.wait_for(lambda: denied(port, "http://a.d.example/") and denied(port, "http://u.example/x?y=1"))
        assert not denied(port, "http://free.example/")


def test_a_mirror_of_nginx_and_its_copy(provider: Provider) -> None:
    peer("rsync", "rsync")
    _, _, server, copy = blocks("operator.md", "Mirrors")
    daemon, folder, port = provider.daemon, provider.folder, free_port()
    daemon.config["feed"]["public_dir"] = {"path": "public", "group": "root" if os.geteuid() == 0 else "users"}
    daemon.write_config()
    daemon.cli("reload", "-c", str(daemon.path))
    daemon.wait_for((daemon.folder / "public/v1/lists/national/metadata/timestamp.json").exists)
    (folder / "copy").mkdir()
    provider.names |= {
        "/var/lib/blocklistd/public": f"{daemon.folder}/public",
        "mirror.example:/srv/blocklist": f"{folder}/copy",
        "CHANGE-THIS-TOKEN": "of-the-mirror",
    }
    provider.run(copy)
    text = re.sub(r"    ssl_certificate.*\n", "", provider.here(server)).replace("8444 ssl", f"127.0.0.1:{port}")
    token = folder / "mirror-token"
    options = Options(f"http://127.0.0.1:{port}", "national", folder / "root.json", folder / "isp", token_file=token)
    daemon.stop()
    for number, root in enumerate((f"{daemon.folder}/public", f"{folder}/copy")):
        with nginx(folder / f"nginx-{number}", text.replace(f"{daemon.folder}/public", root), port):
            token.write_text("of-the-mirror")
            assert sync_once(options, lambda text: None).version == 1
            token.write_text("of-another")
            with pytest.raises(Exception, match=r"401|refused|token"):
                sync_once(options, lambda text: None)

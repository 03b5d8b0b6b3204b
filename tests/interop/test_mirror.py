"""The static tree behind nginx: clients follow the list through versions, with the daemon stopped or killed."""

from __future__ import annotations

import grp
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tuf.ngclient

from blocklistd.client.options import Options, SyncResult
from blocklistd.client.sync import sync_once
from tests.interop.nginx import nginx
from tests.system.daemon import Daemon, free_port
from tests.system.test_sync import NAMES, configuration

GROUP = grp.getgrgid(os.getgid()).gr_name


class Mirror:
    """A daemon with a static tree, nginx that serves it, and two kinds of clients."""

    def __init__(self, folder: Path, daemon: Daemon, port: int) -> None:
        self.folder = folder
        self.daemon = daemon
        self.tree = folder / "public" / "v1" / "lists" / "national"
        self.url = f"http://127.0.0.1:{port}"
        self._options = Options(url=self.url, list="national", root=daemon.root, dir=folder / "isp")
        (folder / "tuf" / "targets").mkdir(parents=True)

    def publish(self, *more: str) -> str:
        """The SHA-256 of the new version."""
        (self.folder / "list.txt").write_text("".join(f"{name}\n" for name in [*NAMES, *more]))
        assert self.daemon.pull("hotline")["outcome"] == "published"
        return self.live()

    def live(self) -> str:
        return str(self.daemon.ask("status").json["lists"]["national"]["sha256"])

    def wait_for(self, digest: str) -> None:
        target, pointer = self.tree / "targets" / f"{digest}.national.ndjson", self.tree / "metadata" / "timestamp.json"
        self.daemon.wait_for(lambda: target.exists() and pointer.stat().st_mtime_ns >= target.stat().st_mtime_ns)

    def sync(self) -> SyncResult:
        return sync_once(replace(self._options), lambda text: None)

    def copy(self) -> str:
        return hashlib.sha256((self.folder / "isp" / "national.ndjson").read_bytes()).hexdigest()

    def any_client(self) -> str:
        """The SHA-256 of the target that python-tuf takes from the mirror."""
        updater = tuf.ngclient.Updater(
            metadata_dir=str(self.folder / "tuf"),
            metadata_base_url=f"{self.url}/v1/lists/national/metadata/",
            target_dir=str(self.folder / "tuf" / "targets"),
            target_base_url=f"{self.url}/v1/lists/national/targets/",
            bootstrap=self.daemon.root.read_bytes(),
        )
        target = updater.get_targetinfo("national.ndjson")
        assert target is not None
        return hashlib.sha256(Path(updater.download_target(target)).read_bytes()).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    port = free_port()
    daemon = Daemon(tmp_path, configuration(tmp_path))
    daemon.config["feed"]["public_dir"] = {"path": "public", "group": GROUP}
    daemon.write_config()
    static = f"server {{ listen 127.0.0.1:{port}; root {tmp_path}/public; default_type application/x-ndjson; }}"
    with nginx(tmp_path / "nginx", static, port), daemon:
        daemon.first_pull("hotline")
        yield Mirror(tmp_path, daemon, port)


def test_clients_follow_the_mirror_with_the_daemon_stopped(mirror: Mirror) -> None:
    mirror.wait_for(mirror.live())
    first = mirror.sync()
    assert (first.how, first.version) == ("snapshot", 1)
    second = mirror.publish("new.example")
    mirror.wait_for(second)
    mirror.daemon.stop()
    taken = mirror.sync()
    assert (taken.how, taken.version, mirror.copy()) == ("diff", 2, second)
    assert mirror.any_client() == second

    mirror.daemon.start()
    mirror.publish("new.example", "third.example")
    fourth = mirror.publish("fourth.example")
    mirror.wait_for(fourth)
    assert mirror.daemon.cli("keys", "show", "--root", "-c", str(mirror.daemon.path)).stdout
    mirror.daemon.stop()
    assert mirror.sync().version == 4
    assert mirror.copy() == fourth
    assert mirror.any_client() == fourth


def test_a_killed_daemon_leaves_a_tree_that_clients_can_follow(mirror: Mirror) -> None:
    mirror.wait_for(mirror.live())
    seen = mirror.sync().version
    for number in range(6):
        (mirror.folder / "list.txt").write_text("".join(f"{name}\n" for name in [*NAMES, f"k{number}.example"]))
        mirror.daemon.kill_during("source pull", 0.02 + 0.04 * number, source="hotline")
        now = mirror.sync()
        assert now.version >= seen
        seen = now.version
        assert mirror.any_client() == mirror.copy()
    mirror.wait_for(mirror.publish("last.example"))
    mirror.daemon.kill()
    assert mirror.sync().version > seen
    assert not list((mirror.folder / "public").rglob(".new-*"))


def test_a_missing_folder_is_an_alarm_and_the_feed_goes_on(mirror: Mirror) -> None:
    mirror.wait_for(mirror.live())
    daemon = mirror.daemon
    shutil.rmtree(mirror.folder / "public")
    mirror.publish("new.example")

    def alarmed() -> bool:
        return "feed.public_dir is missing" in daemon.ops("/readyz").body.decode()

    daemon.wait_for(alarmed)
    token = daemon.subscriber("isp", "national")
    assert daemon.get("/v1/lists/national", token).json["version"] == 2
    assert daemon.ops("/readyz").status == 200
    daemon.cli("reload", "-c", str(daemon.path))
    mirror.wait_for(mirror.live())
    daemon.wait_for(lambda: not alarmed())
    assert mirror.sync().version == 2

    daemon.config["feed"]["public_dir"] = "off"
    daemon.write_config()
    daemon.cli("reload", "-c", str(daemon.path))
    mirror.publish()
    daemon.config["lists"] = {}
    daemon.config["feed"]["public_dir"] = {"path": "public", "group": GROUP}
    daemon.write_config()
    daemon.cli("reload", "-c", str(daemon.path))
    daemon.wait_for(lambda: not (mirror.tree / "metadata" / "timestamp.json").exists())

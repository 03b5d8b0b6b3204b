"""Signed lists, from outside: any TUF client, one trusted root, and signatures that are renewed by themselves."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from blocklistd.errors import SyncError
from tests.peers import unchecked
from tests.system.daemon import Daemon
from tests.unprivileged import UNPRIVILEGED, open_to_all


class Fetcher(FetcherInterface):
    """A generic client's: all that it has beyond the URL is the token. `instead` sends one list's paths to another."""

    def __init__(self, token: str, instead: tuple[str, str] = ("", "")) -> None:
        self._headers = {"Authorization": f"Bearer {token}"}
        self._instead = instead

    def _fetch(self, url: str) -> Iterator[bytes]:
        answer = urllib3.request("GET", url.replace(*self._instead), headers=self._headers)
        if answer.status != 200:
            raise DownloadHTTPError("not there", answer.status)
        return iter([answer.data])


def daemon_of(folder: Path, **keys: object) -> Daemon:
    common = {"format": "text", "defaults": {"type": "domain"}, "schedule": "every 1d", "verify": {"method": "none"}}
    for name in ("one", "two"):
        (folder / name).write_text(f"{name}.example\n")
    return Daemon(
        folder,
        {
            "sources": {name: {"url": f"file:{folder}/{name}", **common} for name in ("one", "two")},
            "lists": {name: {"sources": [name]} for name in ("one", "two")},
            "keys": {"online": {"file": "keys/online.pem"}, **keys},
        },
    )


def updater(daemon: Daemon, name: str, folder: Path, fetcher: Fetcher) -> Updater:
    folder.mkdir()
    base = f"http://127.0.0.1:{daemon.feed_port}/v1/lists/{name}"
    return Updater(
        str(folder), f"{base}/metadata/", str(folder), f"{base}/targets/", fetcher, bootstrap=daemon.root.read_bytes()
    )


def test_a_generic_client_takes_a_list_with_root_and_url(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        daemon.first_pull("one")
        token = daemon.subscriber("isp", "one")
        client = updater(daemon, "one", tmp_path / "client", Fetcher(token))
        target = client.get_targetinfo("one.ndjson")
        assert target is not None
        status = daemon.get("/v1/lists/one", token).json
        assert target.custom == {
            "list": "one",
            "session": status["session"],
            "version": 1,
            "entries": 1,
            "canonicaliser": status["canonicaliser"],
        }
        assert Path(client.download_target(target)).read_bytes() == daemon.snapshot("one", token)


def test_the_guides_client_does_what_the_guide_says(tmp_path: Path) -> None:
    """Pasted as it is, with the address of this daemon; another list's metadata leave what it trusts as they were."""
    guide = (Path(__file__).parents[2] / "docs" / "proxies.md").read_text()
    code = textwrap.dedent(re.search(r"(^    import pathlib\n(?:    .*\n|\n)+)", guide, re.M)[0])  # type: ignore[index]
    with daemon_of(tmp_path) as daemon:
        for source in ("one", "two"):
            daemon.first_pull(source)
        for name in ("metadata", "targets"):
            (tmp_path / name).mkdir()
        (tmp_path / "token").write_text(daemon.subscriber("isp", "one", "two"))
        shutil.copy(daemon.root, tmp_path / "root.json")
        code = code.replace("https://feed.blocklist.example", f"http://127.0.0.1:{daemon.feed_port}")

        def run(at: str) -> subprocess.CompletedProcess[str]:
            here = code.replace("/lists/national/", f"/lists/{at}/").replace("national", "one")
            return subprocess.run(
                [sys.executable, "-c", here], cwd=tmp_path, capture_output=True, text=True, check=False
            )

        done = run("one")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / done.stdout.strip()).read_bytes().endswith(b"}\n")
        trusted = {path.name: path.read_bytes() for path in (tmp_path / "metadata").glob("*.json")}
        assert "timestamp.json" in trusted
        assert run("two").returncode != 0
        assert {path.name: path.read_bytes() for path in (tmp_path / "metadata").glob("*.json")} == trusted
        assert run("one").returncode == 0


def test_another_lists_metadata_does_not_pass(tmp_path: Path) -> None:
    """Valid, signed with the right key, and another list's: no client takes it under this list's address."""
    with daemon_of(tmp_path) as daemon:
        for source in ("one", "two"):
            daemon.first_pull(source)
        token = daemon.subscriber("isp", "one", "two")
        crossed = Fetcher(token, ("/lists/one/", "/lists/two/"))
        client = updater(daemon, "one", tmp_path / "client", crossed)
        assert client.get_targetinfo("one.ndjson") is None


@pytest.mark.parametrize("wanted", ["absent", "two"])
def test_sync_says_what_it_may_not_have(tmp_path: Path, wanted: str) -> None:
    with daemon_of(tmp_path) as daemon:
        (tmp_path / "token").write_text(daemon.subscriber("isp", "one"))
        options = Options(
            url=f"http://127.0.0.1:{daemon.feed_port}",
            list=wanted,
            root=daemon.root,
            dir=tmp_path / "isp",
            token_file=tmp_path / "token",
        )
        with pytest.raises(SyncError, match="404"):
            sync_once(options, lambda text: None)


def test_every_role_is_signed_again_in_time(tmp_path: Path) -> None:
    """Nothing changes, and still nothing expires; versions of metadata rise, the list's own does not."""
    daemon = daemon_of(tmp_path, timestamp_expires="4s")
    for name in ("one", "two"):
        daemon.config["lists"][name]["expires"] = "8s"
    daemon.write_config()
    with daemon:
        daemon.first_pull("one")
        token = daemon.subscriber("isp", "one")

        def role(path: str) -> dict[str, object]:
            signed: dict[str, object] = daemon.get(f"/v1/lists/one/metadata/{path}", token).json["signed"]
            return signed

        before = {name: role(name)["version"] for name in ("timestamp.json", "1.targets.json")}
        assert before["1.targets.json"] == 1
        version = daemon.get("/v1/lists/one", token).json["version"]

        def targets() -> int:
            timestamp = daemon.get("/v1/lists/one/metadata/timestamp.json", token).json["signed"]
            snapshot = timestamp["meta"]["snapshot.json"]["version"]
            named = daemon.get(f"/v1/lists/one/metadata/{snapshot}.snapshot.json", token).json
            return int(named["signed"]["meta"]["targets.json"]["version"])

        first = targets()
        for round_ in range(3):
            daemon.wait_for(lambda round_=round_: targets() > first + round_)  # type: ignore[misc]
            client = updater(daemon, "one", tmp_path / f"client{round_}", Fetcher(token))
            client.refresh()  # raises if any role has expired
        assert daemon.get("/v1/lists/one", token).json["version"] == version


def test_keys_that_root_makes_belong_to_the_daemons_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        unchecked("needs root, to make keys for another user")
    daemon = daemon_of(tmp_path)
    (tmp_path / "state").mkdir()
    open_to_all(tmp_path)
    daemon.path.chmod(0o644)
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(tmp_path / "state", nobody, -1)
    daemon.init_keys()
    for path in (tmp_path / "keys", tmp_path / "keys/online.pem", tmp_path / "state/root/1.root.json"):
        assert path.stat().st_uid == nobody, path
    assert (tmp_path / "root").stat().st_uid == 0, "what is taken off the host stays root's"


def test_keys_show_prints_the_root_that_subscribers_start_from(tmp_path: Path) -> None:
    with daemon_of(tmp_path) as daemon:
        shown = daemon.cli("keys", "show", "--root", "-c", str(daemon.path))
        assert shown.stdout == daemon.root.read_bytes()
        as_json = daemon.cli("keys", "show", "--root", "--json", "-c", str(daemon.path))
        assert json.loads(as_json.stdout) == json.loads(daemon.root.read_bytes())


def test_keys_init_where_one_may_not_look_is_a_line(tmp_path: Path) -> None:
    daemon = daemon_of(tmp_path)
    (tmp_path / "keys").mkdir(mode=0o000)
    arguments = ["keys", "init", "-c", str(daemon.path), "--root-out", str(tmp_path / "root")]
    done = subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-m", "blocklistd", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        f"{daemon.path}:9: keys.online.file: found {tmp_path}/keys/online.pem: Permission denied, expected a file that "
        "root, who runs the daemon, can read\n",
    )
    assert not list(tmp_path.glob("root/*"))

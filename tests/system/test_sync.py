"""The subscriber's client against a daemon: its copy is the signed version, whatever a proxy in between changes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from blocklistd.client import download
from blocklistd.client.options import Options, SyncResult
from blocklistd.client.sync import sync_once
from blocklistd.client.watch import watch
from blocklistd.errors import SyncError
from tests.sim.proxy import LyingFeed
from tests.system.daemon import Daemon

NAMES = [f"n{number}.example" for number in range(500)]


class Scene:
    """A daemon with one list, a proxy before it that can change answers, and a subscriber's folder."""

    def __init__(self, folder: Path, daemon: Daemon, feed: LyingFeed) -> None:
        self.folder = folder
        self.daemon = daemon
        self.feed = feed
        self.token = daemon.subscriber("isp", "national")
        (folder / "token").write_text(self.token)
        self.said: list[str] = []
        self.options = Options(
            url=feed.url, list="national", root=daemon.root, dir=folder / "isp", token_file=folder / "token"
        )

    def publish(self, *more: str) -> None:
        (self.folder / "list.txt").write_text("".join(f"{name}\n" for name in [*NAMES, *more]))
        assert self.daemon.pull("hotline")["outcome"] == "published"

    def sync(self, **changed: object) -> SyncResult:
        return sync_once(replace(self.options, **changed), self.said.append)  # type: ignore[arg-type]

    @property
    def here(self) -> bytes:
        return (self.folder / "isp" / "national.ndjson").read_bytes()

    @property
    def state(self) -> dict[str, object]:
        state: dict[str, object] = json.loads((self.folder / "isp" / "state.json").read_bytes())
        return state

    def live(self) -> bytes:
        return self.daemon.snapshot("national", self.token)


def configuration(folder: Path) -> dict[str, object]:
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in NAMES))
    source = {
        "url": f"file:{folder}/list.txt",
        "format": "text",
        "defaults": {"type": "domain"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    return {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with Daemon(tmp_path, configuration(tmp_path)) as daemon:
        daemon.first_pull("hotline")
        feed = LyingFeed(daemon.feed_port)
        yield Scene(tmp_path, daemon, feed)
        feed.close()


def on(part: str, change: Callable[[bytes], bytes]) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    """Changes the bodies of paths that contain `part`. They are decompressed before, and sent uncompressed."""

    def lie(path: str, status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if part not in path or status != 200:
            return status, headers, body
        if headers.pop("Content-Encoding", None):
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        return status, headers, change(body)

    return lie


def test_snapshot_then_diff_then_unchanged(scene: Scene) -> None:
    first = scene.sync(format="plain")
    assert (first.how, first.version, first.entries) == ("snapshot", 1, len(NAMES))
    assert scene.here == scene.live()
    plain = scene.folder / "isp" / "national.plain"
    assert sorted(plain.read_text().split()) == sorted(NAMES)
    scene.publish("new.example")
    second = scene.sync(format="plain")
    assert (second.how, second.version) == ("diff", 2)
    assert second.bytes < first.bytes
    assert scene.here == scene.live()
    assert "new.example" in plain.read_text()
    assert scene.sync().how == "unchanged"
    assert (scene.folder / "isp" / "metadata" / "timestamp.json").exists()


@pytest.mark.parametrize(
    "lie",
    [
        lambda body: body.replace(b"new.example", b"bad.example"),
        lambda body: b"",
        lambda body: body[:-7],
        lambda body: b"x",
    ],
    ids=["changed", "emptied", "cut", "nonsense"],
)
def test_after_a_wrong_diff_the_snapshot_is_taken(scene: Scene, lie: Callable[[bytes], bytes]) -> None:
    scene.sync()
    scene.publish("new.example")
    scene.feed.change = on("/diffs/", lie)
    assert scene.sync().how == "snapshot"
    assert scene.here == scene.live()
    assert "does not result in the signed version" in scene.said[0]


@pytest.mark.parametrize("status", [404, 410])
def test_without_a_kept_diff_the_snapshot_is_taken(scene: Scene, status: int) -> None:
    scene.sync()
    scene.publish("new.example")
    scene.feed.change = lambda path, was, headers, body: (status if "/diffs/" in path else was, headers, body)
    assert scene.sync().how == "snapshot"


@pytest.mark.parametrize(
    "lie",
    [
        lambda body: body + b"x",
        lambda body: body[:-1],
        lambda body: body.replace(b"n1.example", b"m1.example"),
        lambda body: body * 50,
    ],
    ids=["longer", "shorter", "changed", "much longer"],
)
def test_a_snapshot_that_is_not_the_signed_one_is_refused(scene: Scene, lie: Callable[[bytes], bytes]) -> None:
    scene.sync()
    before = scene.here
    scene.publish("new.example")
    scene.feed.change = lambda path, status, headers, body: (
        (410, headers, b"") if "/diffs/" in path else on("/targets/", lie)(path, status, headers, body)
    )
    with pytest.raises(SyncError, match="not the signed one"):
        scene.sync()
    assert scene.here == before
    assert scene.state["version"] == 1
    assert not list((scene.folder / "isp").glob(".new-*"))


def test_a_download_that_was_cut_is_continued(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a Range request to the daemon itself."""
    monkeypatch.setattr(download, "CLIENT_RESUME_MIN", 1000)
    live = scene.live()
    (scene.folder / "isp").mkdir()
    part = scene.folder / "isp" / f".part-{hashlib.sha256(live).hexdigest()}"
    part.write_bytes(live[:20_000])
    result = scene.sync(url=f"http://127.0.0.1:{scene.daemon.feed_port}")
    assert scene.here == live
    assert len(live) - 20_000 <= result.bytes < len(live) - 20_000 + 16_000, "the rest, and the metadata"
    assert not part.exists()
    assert scene.said == [], "a daemon that takes no receipts is no error either"


def test_an_incomplete_zstd_body_is_refused(scene: Scene) -> None:
    scene.feed.change = lambda path, status, headers, body: (
        status,
        headers,
        body[: len(body) // 2] if "/targets/" in path else body,
    )
    with pytest.raises(SyncError, match="cut short"):
        scene.sync()


def test_an_older_version_is_refused(scene: Scene) -> None:
    """A replay of older metadata with valid signatures."""
    recorded: dict[str, tuple[int, dict[str, str], bytes]] = {}

    def record(path: str, *answer: object) -> object:
        recorded[path] = answer  # type: ignore[assignment]
        return answer

    scene.feed.change = record  # type: ignore[assignment]
    scene.sync(dir=scene.folder / "other")
    scene.publish("new.example")
    scene.feed.change = lambda path, *answer: answer
    scene.sync()
    new = scene.here
    scene.feed.change = lambda path, *answer: recorded.get(path, answer)
    with pytest.raises(SyncError):
        scene.sync()
    (scene.folder / "isp" / "metadata" / "timestamp.json").unlink()  # even if the trusted metadata were lost
    (scene.folder / "isp" / "metadata" / "snapshot.json").unlink()
    (scene.folder / "isp" / "metadata" / "targets.json").unlink()
    with pytest.raises(SyncError, match="never goes back"):
        scene.sync()
    assert scene.here == new


def test_changed_metadata_and_that_of_another_root_is_refused(scene: Scene, tmp_path: Path) -> None:
    scene.feed.change = on("timestamp.json", lambda body: body.replace(b'"version":', b'"version":1'))
    with pytest.raises(SyncError, match="can't be verified"):
        scene.sync()
    scene.feed.change = lambda path, *answer: answer
    other = tmp_path / "other"
    other.mkdir()
    other_publisher = Daemon(other, configuration(other))
    other_publisher.init_keys()
    with pytest.raises(SyncError, match="can't be verified"):
        scene.sync(root=other_publisher.root, dir=tmp_path / "fresh")


@pytest.mark.parametrize("status", [301, 401, 403, 500, 503])
def test_an_error_status_is_a_sync_error(scene: Scene, status: int) -> None:
    scene.sync()
    before = scene.here
    scene.feed.change = lambda path, was, headers, body: (status, headers, b"")
    with pytest.raises(SyncError, match=str(status)):
        scene.sync()
    assert scene.here == before


def test_damage_in_the_folder_is_repaired(scene: Scene) -> None:
    scene.sync(format="plain")
    (scene.folder / "isp" / "national.ndjson").write_bytes(b"damaged\n")
    assert scene.sync(format="plain").how == "snapshot"
    (scene.folder / "isp" / "national.plain").unlink()
    assert scene.sync(format="plain").how == "unchanged"
    assert (scene.folder / "isp" / "national.plain").exists()
    (scene.folder / "isp" / "state.json").write_bytes(b"{")
    assert scene.sync().how == "snapshot"
    assert scene.here == scene.live()


def test_a_folder_is_for_one_list_and_one_sync_at_a_time(scene: Scene) -> None:
    scene.sync()
    with open(scene.folder / "isp" / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SyncError, match="another sync"):
            scene.sync()
    with pytest.raises(SyncError, match="holds the list national"):
        scene.sync(list="other")


def test_exec_runs_after_each_change_until_it_succeeds(scene: Scene) -> None:
    log = scene.folder / "ran"
    command = f'echo "$BLOCKLISTD_LIST $BLOCKLISTD_VERSION $BLOCKLISTD_FILE" >> {log}; test -e {scene.folder}/good'
    with pytest.raises(SyncError, match="the next sync runs it again"):
        scene.sync(exec=command)
    assert scene.state["version"] == 1, "the version is in place all the same"
    (scene.folder / "good").touch()
    assert scene.sync(exec=command).how == "unchanged"
    assert scene.sync(exec=command).how == "unchanged"
    assert log.read_text().splitlines() == [f"national 1 {scene.folder}/isp/national.ndjson"] * 2
    scene.publish("new.example")
    scene.sync(exec=command)
    assert log.read_text().splitlines()[2:] == [f"national 2 {scene.folder}/isp/national.ndjson"]


def test_watching_continues_through_a_restart_of_the_daemon(scene: Scene) -> None:
    stop, arrived = threading.Event(), threading.Semaphore(0)
    results: list[SyncResult] = []

    def done(result: SyncResult) -> None:
        results.append(result)
        arrived.release()

    options = replace(scene.options, url=f"http://127.0.0.1:{scene.daemon.feed_port}")
    watching = threading.Thread(target=watch, args=(options, scene.said.append, stop, done))
    watching.start()
    try:
        assert arrived.acquire(timeout=30)
        scene.publish("one.example")
        assert arrived.acquire(timeout=30)
        scene.daemon.kill()
        scene.daemon.start()
        scene.publish("one.example", "two.example")
        assert arrived.acquire(timeout=60)
    finally:
        stop.set()
        watching.join(30)
    assert [result.version for result in results] == [1, 2, 3]
    assert [result.how for result in results] == ["snapshot", "diff", "diff"]
    assert scene.here == scene.live()


@pytest.mark.parametrize("url", ["http://feed.example", "http://192.0.2.1:8443", "ftp://127.0.0.1", "feed.example", ""])
def test_a_token_is_not_sent_in_the_clear(tmp_path: Path, url: str) -> None:
    (tmp_path / "root.json").write_text("{}")
    with pytest.raises(SyncError, match="expected the https: address"):
        sync_once(Options(url=url, list="l", root=tmp_path / "root.json", dir=tmp_path / "d"), lambda text: None)


def test_the_sync_command_prints_its_result(scene: Scene) -> None:
    arguments = [
        *(sys.executable, "-m", "blocklistd", "sync", scene.feed.url, "national", "--json"),
        *("--root", str(scene.daemon.root), "--token-file", str(scene.folder / "token")),
        *("--dir", str(scene.folder / "isp")),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True, env=dict(os.environ))
    document = json.loads(done.stdout)
    assert set(document) == {"list", "session", "version", "entries", "how", "bytes"}
    (scene.folder / "token").write_text("wrong")
    failed = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert "token" in failed.stderr
    assert "token" in json.loads(failed.stdout)["error"]


def test_sigterm_kills_the_children_of_exec(scene: Scene) -> None:
    started = scene.folder / "started"
    command = f"trap '' TERM; sleep 60 & echo $! > {started}.new; mv {started}.new {started}; wait"
    arguments = [
        *(sys.executable, "-m", "blocklistd", "sync", scene.feed.url, "national", "--exec", command),
        *("--root", str(scene.daemon.root), "--token-file", str(scene.folder / "token")),
        *("--dir", str(scene.folder / "isp")),
    ]
    running = subprocess.Popen(arguments)
    scene.daemon.wait_for(started.exists)
    child = Path("/proc", started.read_text().strip(), "stat")
    running.terminate()
    assert running.wait(20) == 128 + signal.SIGTERM
    scene.daemon.wait_for(lambda: not child.exists() or child.read_text().split()[2] == "Z")
    assert json.loads((scene.folder / "isp" / "state.json").read_text())["pending"], "it is run again next time"


def test_an_unknown_group_is_an_error(scene: Scene) -> None:
    with pytest.raises(SyncError, match="--group nobody-of-ours: there is no such group"):
        scene.sync(group="nobody-of-ours")

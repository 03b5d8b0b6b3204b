"""What a hostile server, mirror or proxy can do to a subscriber, and that it gains nothing.

Each attack is played against a subscriber that has version 1. Its files stay as they are, the message is one line that
says what is wrong and what to do, the command exits with 1, and the honest feed is followed again afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.client import connections, download
from blocklistd.client import feed as feed_module
from blocklistd.errors import SyncError
from tests.sim.feed import LIST, Answer, FeedSimulator, on, snapshot_of
from tests.unit.test_client_sync import Scene

LONG = [f"n{number}.example" for number in range(300)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    scene.feed.publish(*LONG)
    scene.feed.sign()
    scene.sync()
    yield scene
    scene.feed.close()


@dataclass(frozen=True)
class Attack:
    """`play` turns an honest feed, which has published version 2, into a hostile one. `says`: the error message."""

    play: Callable[[FeedSimulator], None]
    says: str


def replay(feed: FeedSimulator) -> None:
    """Rollback of TUF's timestamp: recorded metadata with valid signatures."""
    newest = dict(feed.metadata)
    feed.metadata = {**newest, "timestamp.json": feed.recorded[0]["timestamp.json"]}


def older_snapshot(feed: FeedSimulator) -> None:
    """A timestamp signed by the online key that names an older snapshot."""
    feed.sign(snapshot_version=1)


def older_targets(feed: FeedSimulator) -> None:
    """A snapshot signed by the online key that names older targets."""
    feed.sign(targets_version=1)


def older_list_version(feed: FeedSimulator) -> None:
    """Newer metadata of the publisher's key that names an older version of the same session."""
    feed.version = 1
    feed.custom = {"version": 0}
    feed.sign()


def mix_and_match(feed: FeedSimulator) -> None:
    """The newest timestamp and snapshot, with the targets of before under the new name."""
    count = feed.counter
    feed.metadata[f"{count}.targets.json"] = feed.recorded[0]["2.targets.json"]


def mixed_snapshot(feed: FeedSimulator) -> None:
    count = feed.counter
    feed.metadata[f"{count}.snapshot.json"] = feed.recorded[0]["2.snapshot.json"]


def frozen(feed: FeedSimulator) -> None:
    """The feed never shows anything new, until its metadata has expired."""
    feed.expires = timedelta(seconds=-1)
    feed.sign()


def expired_targets(feed: FeedSimulator) -> None:
    feed.sign(targets_expire=timedelta(seconds=-1))


def unsigned(feed: FeedSimulator) -> None:
    stranger = FeedSimulator()
    stranger.close()
    stranger.session = feed.session
    stranger.counter = 50
    stranger.publish("evil.example")
    feed.metadata = {**stranger.metadata, **{name: feed.metadata[name] for name in feed.metadata if "root" in name}}


def without_signatures(feed: FeedSimulator) -> None:
    document = json.loads(feed.metadata["timestamp.json"])
    document["signatures"] = []
    document["signed"]["version"] += 5
    feed.metadata["timestamp.json"] = json.dumps(document).encode()


def other_list(feed: FeedSimulator) -> None:
    """Another list of the same publisher, signed by the same key."""
    feed.signed_list = "other"
    feed.publish("a.example")


def other_list_under_this_name(feed: FeedSimulator) -> None:
    feed.custom = {"list": "other"}
    feed.publish("a.example")


def endless_timestamp(feed: FeedSimulator) -> None:
    feed.change = on("timestamp.json", body=b" " * 2_000_000)


def endless_root(feed: FeedSimulator) -> None:
    feed.change = lambda path, answer: Answer(200, b" " * 2_000_000) if "root.json" in path else answer


def root_without_old_threshold(feed: FeedSimulator) -> None:
    """Root 2, signed by its own keys, but not by the keys of root 1."""
    feed.rotate_root(sign_with_old=False)


def root_without_new_threshold(feed: FeedSimulator) -> None:
    """Root 2, signed by the key of root 1 alone."""
    feed.rotate_root(sign_with_new=False)


def root_below_threshold(feed: FeedSimulator) -> None:
    """Root 2 asks for two keys, and one of them has signed twice."""
    feed.rotate_root(threshold=2, keys=2, signed_by=1)


def root_that_skips_a_number(feed: FeedSimulator) -> None:
    feed.rotate_root()
    feed.metadata["2.root.json"] = feed.rotate_root()


def expired_root(feed: FeedSimulator) -> None:
    feed.rotate_root(expires=timedelta(seconds=-1))


def no_diff(path: str, answer: Answer) -> Answer:
    return Answer(410) if "/diffs/" in path else answer


def _target(**changed: object) -> Callable[[FeedSimulator], None]:
    def play(feed: FeedSimulator) -> None:
        lie = on("/targets/", **changed)
        feed.change = lambda path, answer: lie(path, no_diff(path, answer))

    return play


def longer(feed: FeedSimulator) -> None:
    body = feed.live * 1000
    _target(body=body, headers={})(feed)


def shorter(feed: FeedSimulator) -> None:
    body = feed.live[:-40]
    _target(body=body, headers={})(feed)


def other_bytes(feed: FeedSimulator) -> None:
    body = feed.live.replace(b"n1.example", b"m1.example")
    _target(body=body, headers={})(feed)


def dripping(feed: FeedSimulator) -> None:
    _target(slow=True)(feed)


ATTACKS = {
    "rollback of the timestamp": Attack(replay, "can't be verified"),
    "rollback of the snapshot": Attack(older_snapshot, "can't be verified"),
    "rollback of the targets": Attack(older_targets, "can't be verified"),
    "rollback of the list": Attack(older_list_version, "never goes back"),
    "mix and match: targets": Attack(mix_and_match, "can't be verified"),
    "mix and match: snapshot": Attack(mixed_snapshot, "can't be verified"),
    "freeze until it expires": Attack(frozen, "the newest metadata has expired"),
    "expired targets": Attack(expired_targets, "the newest metadata has expired"),
    "expired root": Attack(expired_root, "the newest metadata has expired"),
    "another publisher's keys": Attack(unsigned, "can't be verified"),
    "no signatures": Attack(without_signatures, "can't be verified"),
    "another list": Attack(other_list, "signed for another list than national"),
    "another list under this name": Attack(other_list_under_this_name, "signed for another list than national"),
    "endless timestamp": Attack(endless_timestamp, "[Dd]ownload"),
    "endless root": Attack(endless_root, "[Dd]ownload"),
    "root not signed by the old root": Attack(root_without_old_threshold, "can't be verified"),
    "root not signed by itself": Attack(root_without_new_threshold, "can't be verified"),
    "root below its threshold": Attack(root_below_threshold, "can't be verified"),
    "root with a wrong number": Attack(root_that_skips_a_number, "can't be verified"),
    "snapshot longer than signed": Attack(longer, "not the signed one .more than the signed"),
    "snapshot shorter than signed": Attack(shorter, "not the signed one .* of the signed"),
    "other bytes": Attack(other_bytes, "not the signed one .another SHA-256"),
    "one byte after another": Attack(dripping, "less than 1024 bytes a second"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_gains_nothing(scene: Scene, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attack, feed = ATTACKS[name], scene.feed
    monkeypatch.setattr(feed_module, "CLIENT_TIMEOUT", 1.0)
    before, state = scene.here, scene.state
    feed.publish(*LONG, "new.example")
    honest = dict(feed.metadata)
    attack.play(feed)
    with pytest.raises(SyncError, match=attack.says) as error:
        scene.sync()
    assert "\n" not in str(error.value)
    assert ".example" not in str(error.value)
    assert (scene.here, scene.state) == (before, state)
    assert not list(scene.dir.glob(".new-*"))

    feed.restore(honest, version=2)
    assert scene.sync().version == 2, "the honest feed is followed again"
    assert scene.here == feed.live


def test_the_command_exits_with_1_and_says_it_in_one_line(scene: Scene) -> None:
    scene.feed.publish("a.example")
    replay(scene.feed)
    arguments = [
        *(sys.executable, "-m", "blocklistd", "sync", scene.feed.url, LIST, "--json"),
        *("--root", str(scene.folder / "root.json"), "--token-file", str(scene.folder / "token")),
        *("--dir", str(scene.dir)),
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "the local version stays in place" in line
    assert json.loads(done.stdout) == {"error": line.removeprefix("blocklistd: ")}


def test_a_wrong_diff_costs_a_snapshot_and_no_more(scene: Scene) -> None:
    scene.feed.publish(*LONG, "new.example")
    evil = b'{"add":' + snapshot_of(["evil.example"]).strip() + b"}\n"
    scene.feed.change = on("/diffs/", body=evil, headers={})
    assert scene.sync().how == "snapshot"
    assert scene.here == scene.feed.live


def test_another_session_is_taken_only_if_it_is_signed(scene: Scene) -> None:
    """Session confusion: a STATUS is not signed, and a diff between two sessions does not exist."""
    forged = json.dumps({"list": LIST, "session": "forged", "version": 99}).encode()
    scene.feed.change = lambda path, answer: replace(answer, body=forged) if path.endswith(LIST) else answer
    assert scene.sync().how == "unchanged"
    scene.feed.start_over()
    scene.feed.publish("a.example")
    scene.feed.paths.clear()
    result = scene.sync()
    assert (result.how, result.version) == ("snapshot", 1), "a lower version of a new session"
    assert not [path for path in scene.feed.paths if "diffs/" in path]


@pytest.mark.parametrize("steps", [1, 3])
def test_a_root_with_both_thresholds_is_followed(scene: Scene, steps: int) -> None:
    """Also by a subscriber that missed roots in between."""
    for step in range(steps):
        scene.feed.rotate_root(keys=step + 1, threshold=step + 1)
    scene.feed.publish("a.example")
    assert scene.sync().version == 2
    assert scene.sync(dir=scene.folder / "fresh").version == 2, "also from the first root"
    replay(scene.feed)
    with pytest.raises(SyncError, match="can't be verified"):
        scene.sync()


def test_a_rotated_online_key_makes_no_rollback_possible(scene: Scene) -> None:
    """TUF 5.3.11: with new keys the old metadata is forgotten, but the list's version is not."""
    scene.feed.publish(*LONG, "new.example")
    scene.sync()
    scene.feed.rotate_root(online=True)
    scene.feed.version = 1
    scene.feed.counter = 0
    scene.feed.sign()
    with pytest.raises(SyncError, match="never goes back"):
        scene.sync()


def test_a_zstd_bomb_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    import zstandard

    scene.feed.publish("a.example")
    bomb = zstandard.ZstdCompressor().compress(b"\0" * 50_000_000)
    _target(body=bomb)(scene.feed)
    written = 0
    verified = download.write_verified

    def counted(chunks: Iterator[bytes], *rest: object) -> None:
        def counting() -> Iterator[bytes]:
            nonlocal written
            for chunk in chunks:
                written += len(chunk)
                yield chunk

        verified(counting(), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(download, "write_verified", counted)
    with pytest.raises(SyncError, match="more than the signed"):
        scene.sync()
    assert written < 30_000_000, "one step of the decoder"


def test_a_redirect_is_not_followed(scene: Scene) -> None:
    """Else the token would go to another server."""
    other = FeedSimulator()
    scene.feed.change = lambda path, answer: Answer(302, headers={"Location": f"{other.url}{path}"})
    with pytest.raises(SyncError, match="302"):
        scene.sync()
    other.close()
    assert not other.paths


def test_the_token_is_not_sent_to_mirrors(scene: Scene) -> None:
    mirror = FeedSimulator()
    scene.feed.change = lambda path, answer: Answer(503)
    with pytest.raises(SyncError, match="503"):
        scene.sync(mirrors=(mirror.url,))
    mirror.close()
    assert mirror.tokens == {None}


def test_a_proxy_never_sees_the_token_of_this_hosts_feed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert connections._proxy("http://127.0.0.1:1", None) is None
    assert scene.sync().how == "unchanged"

"""The subscriber's client against a simulated feed: with faults that a real daemon does not have."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from blocklistd.client import watch as module
from blocklistd.client.options import Options, SyncResult
from blocklistd.client.sync import sync_once
from blocklistd.client.watch import watch
from blocklistd.errors import SyncError
from tests.sim.feed import LIST, TOKEN, Answer, FeedSimulator, on, snapshot_of

NAMES = [f"n{number}.example" for number in range(300)]


class Scene:
    """A simulated feed and a subscriber's folder."""

    def __init__(self, folder: Path) -> None:
        self.feed = FeedSimulator()
        self.folder = folder
        self.dir = folder / "isp"
        self.said: list[str] = []
        (folder / "root.json").write_bytes(self.feed.root)
        (folder / "token").write_text(f"{TOKEN}\n")
        self.options = Options(
            url=self.feed.url, list=LIST, root=folder / "root.json", dir=self.dir, token_file=folder / "token"
        )

    def sync(self, **changed: Any) -> SyncResult:
        return sync_once(replace(self.options, **changed), self.said.append)

    @property
    def here(self) -> bytes:
        return (self.dir / f"{LIST}.ndjson").read_bytes()

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = orjson.loads((self.dir / "state.json").read_bytes())
        return state

    @contextmanager
    def watching(self, **changed: Any) -> Iterator[Watched]:
        watched = Watched()
        options = replace(self.options, **changed)
        thread = threading.Thread(target=watched.run, args=(options,))
        thread.start()
        try:
            yield watched
        finally:
            watched.stop.set()
            thread.join(10)
            assert not thread.is_alive(), "stop is heard at once"


class Watched:
    def __init__(self) -> None:
        self.stop = threading.Event()
        self.results: list[SyncResult] = []
        self.said: list[str] = []
        self.hurry = threading.Event()
        self.is_fresh: bool | None = None
        self._condition = threading.Condition()

    def run(self, options: Options) -> None:
        self.is_fresh = watch(options, self.say, self.stop, self.done, self.hurry)

    def done(self, result: SyncResult) -> None:
        with self._condition:
            self.results.append(result)
            self._condition.notify_all()

    def say(self, text: str) -> None:
        with self._condition:
            self.said.append(text)
            self._condition.notify_all()

    def until(self, condition: Callable[[], object]) -> None:
        with self._condition:
            assert self._condition.wait_for(condition, timeout=20)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.feed.close()


# -- the way of a version ------------------------------------------------------------------------------------------


def test_snapshot_then_diff_then_unchanged(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    first = scene.sync()
    assert (first.list, first.session, first.version, first.entries) == (LIST, scene.feed.session, 1, 300)
    assert first.how == "snapshot"
    scene.feed.publish(*NAMES[5:], "new.example")
    second = scene.sync()
    assert (second.how, second.version, second.entries) == ("diff", 2, 296)
    assert scene.here == scene.feed.live
    scene.feed.paths.clear()
    assert scene.sync().how == "unchanged"
    assert not [path for path in scene.feed.paths if "targets/" in path or "diffs/" in path]
    assert not scene.said


def test_one_diff_over_several_versions(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    for gone in range(1, 4):
        scene.feed.publish(*NAMES[gone:])
    assert scene.sync().how == "diff"
    assert "/diffs/1-4" in scene.feed.paths
    assert scene.here == scene.feed.live


def test_diffs_to_an_empty_version_and_back(scene: Scene) -> None:
    scene.feed.publish()
    assert scene.sync(format="plain").how == "snapshot"
    assert scene.here == (scene.dir / "national.plain").read_bytes() == b""
    scene.feed.publish(*NAMES)
    assert scene.sync().how == "diff"
    scene.feed.publish()
    assert scene.sync().how == "diff"
    assert scene.here == b""


def test_another_session_begins_with_a_snapshot(scene: Scene) -> None:
    for gone in range(3):
        scene.feed.publish(*NAMES[gone:])
    scene.sync()
    scene.feed.start_over()
    scene.feed.publish("a.example")
    result = scene.sync()
    assert (result.how, result.version, result.session) == ("snapshot", 1, scene.feed.session)
    assert scene.here == scene.feed.live
    assert not [path for path in scene.feed.paths if "diffs/" in path]


def test_the_same_content_with_a_newer_number_changes_only_the_state(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync(format="plain")
    scene.feed.publish(*NAMES)
    result = scene.sync(format="plain")
    assert (result.how, result.version, scene.state["version"]) == ("unchanged", 2, 2)


def test_a_list_without_a_version_is_an_error(scene: Scene) -> None:
    with pytest.raises(SyncError, match="has no version yet"):
        scene.sync()


# -- what is refused -----------------------------------------------------------------------------------------------


def refused(scene: Scene, match: str) -> None:
    """The present files stay, and no temporary file does."""
    before, state = scene.here, scene.state
    with pytest.raises(SyncError, match=match) as error:
        scene.sync()
    assert "\n" not in str(error.value)
    assert ".example" not in str(error.value)
    assert (scene.here, scene.state) == (before, state)
    assert not list(scene.dir.glob(".new-*"))


def test_after_a_wrong_diff_the_snapshot_is_taken(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.publish(*NAMES, "new.example")
    for body in (b"", b"nonsense\n", b'{"add":' + snapshot_of(["bad.example"]).strip() + b"}\n"):
        scene.said.clear()
        scene.feed.change = on("/diffs/", body=body, headers={})
        assert scene.sync(dir=copied(scene)).how == "snapshot"
        assert "does not result in the signed version" in scene.said[0]
        assert ".example" not in scene.said[0]


def copied(scene: Scene) -> Path:
    """A folder of an older version."""
    copy = scene.folder / f"copy-{len(list(scene.folder.iterdir()))}"
    copy.mkdir()
    for name in (f"{LIST}.ndjson", "state.json"):
        (copy / name).write_bytes((scene.dir / name).read_bytes())
    return copy


def test_after_an_endless_diff_the_snapshot_is_taken(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.publish(*NAMES, "new.example")
    scene.feed.change = on("/diffs/", body=b"x" * 3_000_000, headers={})
    assert scene.sync().how == "snapshot"
    assert "more than" in scene.said[0]


@pytest.mark.parametrize("status", [404, 410])
def test_without_a_kept_diff_the_snapshot_is_taken(scene: Scene, status: int) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.publish(*NAMES, "new.example")
    scene.feed.change = on("/diffs/", status=status, body=b"{}", headers={})
    assert scene.sync().how == "snapshot"
    assert not scene.said, "nothing is wrong with that"


@pytest.mark.parametrize("status", [500, 502, 503, 507])
def test_after_a_server_error_for_the_diff_the_snapshot_is_taken(scene: Scene, status: int) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.publish(*NAMES, "new.example")
    scene.feed.change = on("/diffs/", status=status, body=b"{}", headers={})
    assert scene.sync().how == "snapshot"
    assert f"answered {status}" in scene.said[0]
    assert scene.here == scene.feed.live


def test_after_a_refused_diff_the_snapshot_is_not_requested(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.publish(*NAMES, "new.example")
    for status in (401, 429):
        scene.feed.change = on("/diffs/", status=status, body=b"{}", headers={})
        refused(scene, f"answered {status}")


def test_a_snapshot_longer_than_signed_is_refused(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.start_over()
    scene.feed.publish("a.example")
    scene.feed.change = on("/targets/", body=scene.feed.live * 1000, headers={})
    refused(scene, "more than the signed")


def test_a_snapshot_of_other_bytes_is_refused(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.start_over()
    scene.feed.publish("a.example")
    scene.feed.change = on("/targets/", body=snapshot_of(["b.example"]), headers={})
    refused(scene, "not the signed one .another SHA-256")


@pytest.mark.parametrize("part", ["/targets/", "/diffs/", "timestamp.json"])
def test_an_incomplete_answer_is_refused(scene: Scene, part: str) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    if part == "/targets/":
        scene.feed.start_over()
    scene.feed.publish(*NAMES, "new.example")
    scene.feed.change = on(part, cut=5)
    refused(scene, "cut short")


def test_expired_metadata_is_refused_and_the_present_files_stay(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.expires = timedelta(seconds=-1)
    scene.feed.publish("a.example")
    refused(scene, "expired")


def test_an_older_version_of_the_session_is_refused(scene: Scene) -> None:
    """The publisher signs an older list version again, with newer metadata: valid for TUF."""
    scene.feed.publish(*NAMES)
    scene.feed.publish(*NAMES, "new.example")
    scene.sync()
    scene.feed.version = 1
    scene.feed.sign()
    refused(scene, "never goes back")


def test_a_state_that_somebody_has_edited_says_how_to_go_on(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    (scene.dir / "state.json").write_bytes(orjson.dumps(scene.state | {"version": 7}))
    with pytest.raises(SyncError) as caught:
        scene.sync()
    assert f"if somebody has changed {scene.dir / 'state.json'} by hand, delete that file alone" in str(caught.value)
    (scene.dir / "state.json").unlink()
    assert (scene.sync().how, scene.state["version"]) == ("snapshot", 1)


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
def test_a_folder_in_place_of_a_metadata_file_is_replaced(scene: Scene, name: str) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    (scene.dir / "metadata" / name).unlink()
    (scene.dir / "metadata" / name / "full").mkdir(parents=True)
    scene.feed.publish("a.example")
    assert scene.sync().version == 2
    assert (scene.dir / "metadata" / name).is_file()


def test_another_lists_version_is_refused(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    scene.feed.signed_list = "other"
    scene.feed.publish("a.example")
    refused(scene, "signed for another list")


def test_a_wrong_or_missing_token_is_an_error(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    (scene.folder / "token").write_text("wrong")
    refused(scene, "401: the token is wrong or was revoked")
    odd = "characters that are not printable ASCII"
    wrong = {b"": "nothing", b"two words": "2 words", b"two\nlines": "2 words", "ö".encode(): odd, b"\xff": odd}
    for token, found in wrong.items():
        (scene.folder / "token").write_bytes(token)
        refused(scene, f"found {found}, expected the token alone")
    (scene.folder / "token").unlink()
    refused(scene, "No such file")


def test_an_unknown_format_is_an_error(scene: Scene) -> None:
    with pytest.raises(SyncError, match="no format bells"):
        scene.sync(format="bells")


def test_stop_ends_a_sync_while_a_body_arrives(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    stop = threading.Event()

    def stopping(path: str, answer: Answer) -> Answer:
        if "/targets/" in path:
            stop.set()
        return answer

    scene.feed.change = stopping
    with pytest.raises(SyncError, match="stopped"):
        sync_once(scene.options, scene.said.append, stop)
    assert not (scene.dir / "state.json").exists()


# -- repair --------------------------------------------------------------------------------------------------------


def test_a_damaged_or_missing_snapshot_is_fetched_again(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    scene.sync()
    snapshot = scene.dir / f"{LIST}.ndjson"
    for damage in (lambda: snapshot.write_bytes(b"damaged\n"), snapshot.unlink):
        damage()
        assert scene.sync().how == "snapshot"
        assert scene.here == scene.feed.live


def test_a_damaged_missing_or_old_rendering_is_made_again(scene: Scene) -> None:
    scene.feed.publish("a.example")
    scene.sync(format="plain")
    plain = scene.dir / "national.plain"
    for damage in (lambda: plain.write_bytes(b"damaged\n"), plain.unlink):
        damage()
        assert scene.sync(format="plain").how == "unchanged"
        assert plain.read_bytes() == b"a.example\n"
    scene.feed.publish("b.example")
    scene.sync()
    assert plain.read_bytes() == b"a.example\n", "nobody asked for it"
    assert scene.sync(format="plain").how == "unchanged"
    assert plain.read_bytes() == b"b.example\n"


# -- --exec --------------------------------------------------------------------------------------------------------


def test_exec_runs_for_each_change_of_its_file_until_it_succeeds(scene: Scene) -> None:
    log, good = scene.folder / "log", scene.folder / "good"
    command = f'echo "$BLOCKLISTD_LIST $BLOCKLISTD_VERSION $BLOCKLISTD_FILE" >> {log}; test -e {good}'
    plain = scene.dir / "national.plain"

    def ran() -> list[str]:
        lines = log.read_text().splitlines()
        log.write_text("")
        return lines

    scene.feed.publish("a.example")
    with pytest.raises(SyncError, match="version 1 is in place, but --exec ended with 1: the next sync runs it again"):
        scene.sync(exec=command, format="plain")
    assert ran() == [f"national 1 {plain}"]
    scene.feed.publish("b.example")
    scene.sync(format="plain")
    good.touch()
    scene.sync(exec=command, format="plain")
    assert ran() == [f"national 2 {plain}"], "still owed, though a sync without --exec came between"
    scene.sync(exec=command, format="plain")
    assert ran() == []
    plain.unlink()
    scene.sync(exec=command, format="plain")
    assert ran() == [f"national 2 {plain}"], "its file was made again"


def test_exec_is_killed_after_its_time(scene: Scene) -> None:
    scene.feed.publish("a.example")
    with pytest.raises(SyncError, match=r"--exec did not end within 0\.2 s"):
        scene.sync(exec="sleep 60 & sleep 60", exec_timeout=0.2)
    assert scene.state["pending"]


def test_children_of_exec_are_killed_when_the_watch_ends(scene: Scene) -> None:
    scene.feed.publish("a.example")
    started = scene.folder / "started"
    command = f"trap '' TERM; sleep 60 & echo $! > {started}.new; mv {started}.new {started}; wait"
    with scene.watching(exec=command):
        assert eventually(started.exists)
    child = Path("/proc", started.read_text().strip(), "stat")

    def gone() -> bool:
        try:
            return child.read_text().split()[2] == "Z"
        except OSError:
            return True

    assert eventually(gone)
    assert scene.state["pending"]


def eventually(condition: Callable[[], bool]) -> bool:
    return any(condition() or threading.Event().wait(0.05) for _ in range(200))


def test_output_of_exec_goes_to_stderr(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    scene.feed.publish("a.example")
    scene.sync(exec="echo said")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "said" in captured.err


# -- --watch -------------------------------------------------------------------------------------------------------


def test_watching_follows_each_version(scene: Scene) -> None:
    scene.feed.publish(*NAMES)
    with scene.watching() as watched:
        scene.feed.until_asked("?wait=55")
        scene.feed.publish(*NAMES, "new.example")
        scene.feed.until_asked("?wait=55", times=2)
        scene.feed.start_over()
        scene.feed.publish("a.example")
        watched.until(lambda: len(watched.results) == 3)
    assert [result.how for result in watched.results] == ["snapshot", "diff", "snapshot"]
    assert not watched.said


def test_watching_waits_for_a_first_version(scene: Scene) -> None:
    with scene.watching() as watched:
        watched.until(lambda: watched.said)
        assert "has no version yet" in watched.said[0]
        scene.feed.publish("a.example")
        watched.until(lambda: watched.results)
    assert watched.results[0].version == 1


def test_watching_continues_after_errors_and_prints_each_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.feed.publish("a.example")
    with scene.watching() as watched:
        watched.until(lambda: watched.results)
        scene.feed.change = lambda path, answer: Answer(503)
        scene.feed.publish("b.example")
        scene.feed.paths.clear()
        with scene.feed.changed:
            assert scene.feed.changed.wait_for(lambda: len(scene.feed.paths) >= 3, timeout=20)
        assert len(watched.said) == 1
        assert "503" in watched.said[0]
        assert re.search(r"the local version 1 was the newest one \d+ s ago", watched.said[0])
        monkeypatch.setattr(module, "CLIENT_REPEAT", 0.0)
        watched.until(lambda: len(watched.said) == 2)
        assert "503" in watched.said[1], "said again after a while"
        monkeypatch.setattr(module, "CLIENT_REPEAT", 3600.0)
        scene.feed.change = lambda path, answer: answer
        watched.until(lambda: len(watched.results) == 2)
    assert scene.here == scene.feed.live
    assert re.match(f"{scene.feed.url}, list {LIST}: synced again after \\d failed attempts", watched.said[-1])
    assert watched.is_fresh


def test_a_time_without_a_zone_in_the_state_does_not_end_a_watch(scene: Scene) -> None:
    scene.feed.publish("a.example")
    with scene.watching() as watched:
        watched.until(lambda: watched.results)
        (scene.dir / "state.json").write_bytes(orjson.dumps(scene.state | {"verified": "2026-11-20T12:00:00"}))
        scene.feed.change = lambda path, answer: Answer(503)
        scene.feed.publish("b.example")
        watched.until(lambda: watched.said)
        scene.feed.change = lambda path, answer: answer
        watched.until(lambda: len(watched.results) > 1)
    assert "the age of the local version is not known" in watched.said[0]


def test_a_watch_that_ends_while_it_fails_says_how_old_the_copy_is(scene: Scene) -> None:
    scene.feed.publish("a.example")
    with scene.watching() as watched:
        watched.until(lambda: watched.results)
        scene.feed.change = lambda path, answer: Answer(503)
        scene.feed.publish("b.example")
        watched.until(lambda: watched.said)
        saved = scene.state
        verified = datetime.now(UTC) - timedelta(days=3, hours=4, minutes=1)
        (scene.dir / "state.json").write_bytes(orjson.dumps(saved | {"verified": verified.isoformat()}))
    assert not watched.is_fresh
    assert re.search(
        r"stopped while syncs failed, for \d+ s: the local version 1 was the newest one 3 d 4 h ago", watched.said[-1]
    )


def test_a_watch_hurries_when_it_is_asked_to(scene: Scene) -> None:
    """SIGHUP ends the back-off."""
    scene.feed.publish("a.example")
    scene.feed.change = lambda path, answer: Answer(503, headers={"Retry-After": "1000"})
    with scene.watching() as watched:
        watched.until(lambda: watched.said)
        scene.feed.change = lambda path, answer: answer
        watched.hurry.set()
        watched.until(lambda: watched.results)


def test_a_watch_goes_on_when_its_folder_is_deleted(scene: Scene) -> None:
    scene.feed.publish("a.example")
    with scene.watching() as watched:
        watched.until(lambda: watched.results)
        shutil.rmtree(scene.dir)
        scene.feed.publish("b.example")
        watched.until(lambda: len(watched.results) == 2)
    assert scene.here == scene.feed.live


def test_the_second_of_two_syncs_is_given_the_process_of_the_first(scene: Scene) -> None:
    scene.feed.publish("a.example")
    with scene.watching() as watched:
        watched.until(lambda: watched.results)
        with pytest.raises(SyncError, match=rf"is in use by another sync \(process {os.getpid()} on .*, since 20"):
            scene.sync()
    assert scene.sync().how == "unchanged"


def test_watching_survives_the_loss_of_its_token(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token file is read for each poll, in a thread of its own; a new token is used at once."""
    monkeypatch.setattr(module, "CLIENT_REFRESH", 0.0)
    scene.feed.publish("a.example")
    with scene.watching() as watched:
        watched.until(lambda: watched.results)
        (scene.folder / "token").unlink()
        watched.until(lambda: watched.said)
        (scene.folder / "token").write_text(TOKEN)
        scene.feed.publish("b.example")
        watched.until(lambda: len(watched.results) == 2)
    assert "token" in watched.said[0]


@pytest.mark.parametrize(
    "lie",
    [
        on("/v1/lists/national", headers={}),
        lambda path, answer: Answer(304) if answer.status == 304 or path.endswith(LIST) else answer,
        lambda path, answer: replace(answer, body=b'{"version":99}') if path.endswith(LIST) else answer,
    ],
    ids=["no-etag", "never-held", "always-new"],
)
def test_a_feed_that_answers_a_long_poll_at_once_is_polled_slowly(
    scene: Scene, lie: Callable[[str, Answer], Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some mirrors answer a long poll at once, and a status is not signed."""
    scene.feed.publish("a.example")
    scene.sync()
    monkeypatch.setattr(module, "CLIENT_POLL_INTERVAL", 0.4)
    scene.feed.change = lambda path, answer: lie(path, answer) if path == f"/v1/lists/{LIST}" else answer
    scene.feed.paths.clear()

    def polls() -> int:
        return sum(not path or path.startswith("?") for path in scene.feed.paths)

    began = time.monotonic()
    with scene.watching(), scene.feed.changed:
        assert scene.feed.changed.wait_for(lambda: polls() >= 6, timeout=30)
    assert time.monotonic() - began > 4 * 0.25, "no poll without a pause, but for the first two"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b" " * 100_000], ids=["html", "other", "endless"])
def test_an_answer_that_is_no_status_is_an_error(scene: Scene, body: bytes) -> None:
    scene.feed.publish("a.example")
    scene.feed.change = lambda path, answer: replace(answer, body=body) if path == f"/v1/lists/{LIST}" else answer
    with scene.watching() as watched:
        watched.until(lambda: watched.said)
    assert "no status" in watched.said[0]
    assert watched.results, "what is signed is taken all the same"

"""Incidents that a person corrects: an entry is out at once, stays out, and comes back when the person says so."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.sim.hotline import Fault, HotlineThread
from tests.system.daemon import Daemon
from tests.system.test_operations import NAMES, values

WRONG = "wrong.example"
WHY = {"why": "listed by mistake"}


class Scene:
    """A list of one hotline, with one wrong entry."""

    def __init__(self, folder: Path, hotline: HotlineThread) -> None:
        self.hotline = hotline
        source = hotline.source(folder)
        self.daemon = Daemon(folder, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})
        self.hotline.publish([*NAMES, WRONG])
        self.daemon.start()
        self.daemon.first_pull("hotline")
        self.token = self.daemon.subscriber("isp", "national")

    @property
    def live(self) -> set[str]:
        return values(self.daemon.snapshot("national", self.token))

    @property
    def version(self) -> int:
        return int(self.daemon.get("/v1/lists/national", self.token).json["version"])

    def ask(self, action: str, entry: str = WRONG, *, status: int = 200, **more: Any) -> Any:
        answer = self.daemon.ask(f"entry {action}", list="national", entry=entry, **WHY | more)
        assert answer.status == status, answer.body
        return answer.json if status == 200 else answer.json["detail"]

    def restart(self) -> None:
        self.daemon.kill()
        self.daemon.start()


@pytest.fixture
def scene(tmp_path: Path, hotline: HotlineThread) -> Iterator[Scene]:
    made = Scene(tmp_path, hotline)
    yield made
    made.daemon.__exit__()


def test_a_delisting_survives_pulls_restarts_and_an_absent_source_until_it_is_restored(scene: Scene) -> None:
    before = scene.version
    done = scene.ask("delist")
    entry = done["entries"][0]
    assert (done["version"], done["kind"]) == (before + 1, "delisted")
    assert [one["type"] for one in done["entries"]] == ["domain", "host"], "it may come as either"
    assert scene.live == {*NAMES}
    scene.hotline.fault = Fault.UNAVAILABLE
    assert scene.daemon.pull("hotline")["outcome"] == "failed"
    scene.restart()
    assert scene.live == {*NAMES}, "the source is away"
    scene.hotline.fault = None
    scene.hotline.publish([*NAMES, WRONG, "new.example"])
    assert scene.daemon.pull("hotline")["outcome"] == "published"
    assert scene.live == {*NAMES, "new.example"}, "the source is back, and asserts it still"
    detail = scene.ask("delist", status=409)
    assert "nothing was changed" in detail
    assert "it is delisted since" in detail
    restored = scene.ask("restore", entry["id"])
    assert (restored["outcome"], restored["version"]) == ("published", scene.version)
    assert scene.live == {*NAMES, WRONG, "new.example"}
    assert "not delisted" in scene.ask("restore", status=409)


def test_no_answer_log_or_audit_names_the_entry(scene: Scene) -> None:
    entry = scene.ask("delist")["entries"][0]
    for text in (WRONG, "not an entry", "never.example", "https://wrong.example/x"):
        assert text not in scene.ask("delist", text, status=409)
    for why in (f"about {WRONG}", "see https://court.example/1"):
        assert scene.daemon.ask("entry delist", list="national", entry="x.example", why=why).status == 409
    done = scene.daemon.cli(
        *("entry", "restore", "national", "--stdin", "--why", "a mistake", "-c", str(scene.daemon.path)),
        stdin=WRONG.encode() + b"\n",
    )
    assert entry["id"].encode() in done.stdout
    lines = scene.daemon.ask("audit").json
    assert [line["action"] for line in lines if entry["id"] in line["object"]][:2] == ["entry delist", "entry restore"]
    assert WRONG not in json.dumps(lines) + scene.daemon.log + done.stdout.decode() + done.stderr.decode()


def test_an_embargo_is_placed_before_a_source_asserts_the_entry(scene: Scene) -> None:
    version = scene.version
    until = (datetime.now(UTC) + timedelta(days=7)).isoformat()
    done = scene.ask("embargo", "case.example", until=until, owner="unit 4")
    assert done["version"] is None
    assert scene.version == version
    scene.hotline.publish([*NAMES, WRONG, "case.example"])
    assert scene.daemon.pull("hotline")["outcome"] == "unchanged"
    shown = scene.daemon.ask("entry corrections", list="national").json
    assert [one["type"] for one in shown] == ["host", "domain"], "it may come as either"
    assert [one["entry"] for one in shown] == [one["id"] for one in done["entries"]]
    assert {(one["kind"], one["owner"]) for one in shown} == {("embargoed", "unit 4")}
    assert "embargoed" in scene.ask("delist", "case.example", status=409)
    assert scene.ask("release", "case.example")["outcome"] == "published"
    assert "case.example" in scene.live


@pytest.mark.slow  # the daemon looks once a minute
def test_an_embargo_ends_by_itself(scene: Scene) -> None:
    scene.ask("embargo", until="1s", owner="unit 4")
    assert WRONG not in scene.live
    scene.daemon.wait_for(lambda: WRONG in scene.live, within=90)
    assert scene.daemon.ask("entry corrections", list="national").json == []


def test_a_restore_waits_for_the_release_rule(scene: Scene) -> None:
    scene.daemon.config["lists"]["national"]["release"] = "review"
    scene.daemon.write_config()
    scene.daemon.ask("reload")
    scene.ask("delist")
    assert scene.live == {*NAMES}, "one editor may shorten"
    held = scene.ask("restore")
    assert held["outcome"] == "held"
    assert scene.live == {*NAMES}
    assert scene.ask("restore")["candidate"] == held["candidate"], "asked twice, held once"
    assert scene.daemon.approve(held["candidate"])["released"]
    assert WRONG in scene.live


def test_a_kill_in_the_middle_of_a_delisting_leaves_it_done_or_not(scene: Scene) -> None:
    for wait in (0.0, 0.02, 0.05, 0.1, 0.2):
        version = scene.version
        scene.daemon.kill_during("entry delist", wait, list="national", entry=WRONG, **WHY)
        in_force = scene.daemon.ask("entry corrections", list="national").json
        assert (WRONG in scene.live) is not bool(in_force)
        assert scene.version == version + bool(in_force)
        if in_force:
            scene.ask("restore")


def test_a_delisting_does_not_wait_for_a_long_pull_of_the_same_list(scene: Scene) -> None:
    scene.hotline.publish([*NAMES, WRONG, "new.example"])
    scene.hotline.fault, scene.hotline.slow_interval = Fault.SLOW, 0.002
    asked = scene.hotline.bodies_asked
    outcomes: list[str] = []
    pulling = threading.Thread(target=lambda: outcomes.append(scene.daemon.pull("hotline")["outcome"]))
    pulling.start()
    scene.hotline.wait_for_bodies(asked + 1)
    scene.ask("delist")
    assert pulling.is_alive(), "the pull has not ended yet"
    assert scene.live == {*NAMES}
    pulling.join()
    assert outcomes == ["published"]
    assert scene.live == {*NAMES, "new.example"}


def test_the_entry_is_read_from_stdin_only(scene: Scene) -> None:
    def run(stdin: bytes) -> str:
        arguments = "entry", "delist", "national", "--stdin", "--why", "a mistake", "-c", str(scene.daemon.path)
        done = scene.daemon.cli(*arguments, stdin=stdin, check=False)
        assert done.returncode == 1, done.stdout
        return done.stderr.decode()

    assert "stdin is empty" in run(b"\n")
    assert "several lines" in run(b"one.example\ntwo.example\n")
    assert "too long" in run(b"a" * 9000)
    assert "not UTF-8" in run(b"\xff\xfe.example")
    assert "is no entry (wildcard)" in run(b"*.wrong.example")

"""A hotline's key is stolen: what the thief added is taken back out, and a person decides about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.sim.hotline import HotlineThread
from tests.system.daemon import Answer, Daemon
from tests.system.test_operations import NAMES, values

FORGED = [f"forged{number}.example" for number in range(8)]
GOOD = [*NAMES, "good.example"]


class Scene:
    """A hotline whose key is stolen after its second body; the third and the fourth are forged."""

    def __init__(self, folder: Path, hotline: HotlineThread) -> None:
        self.hotline, self.folder = hotline, folder
        self.write_key()
        source = hotline.source(folder)
        self.daemon = Daemon(folder, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})

    def write_key(self) -> None:
        text = self.hotline.public_key_text
        (self.folder / "hotline.pub").write_text(text)
        self.key = hashlib.sha256(text.strip().splitlines()[-1].encode()).hexdigest()

    def begin(self) -> None:
        """Two bodies of the hotline; then the key is stolen, at `stolen`."""
        self.hotline.publish(NAMES)
        self.daemon.start()
        self.daemon.first_pull("hotline")
        self.token = self.daemon.subscriber("isp", "national")
        assert self.pull(*GOOD)["outcome"] == "published"
        self.stolen = datetime.now(UTC).isoformat()

    def pull(self, *names: str) -> dict[str, Any]:
        self.hotline.publish(names)
        return self.daemon.pull("hotline")

    def forge(self) -> None:
        for count in (5, 8):
            assert self.pull(*GOOD, *FORGED[:count])["outcome"] == "published"
        assert self.live == {*GOOD, *FORGED}

    def distrust(self, **more: str) -> Answer:
        arguments = {"source": "hotline", "key": self.key[:8], "since": self.stolen, "why": "stolen key"}
        return self.daemon.ask("source distrust", **arguments | more)

    @property
    def live(self) -> set[str]:
        return values(self.daemon.snapshot("national", self.token))

    @property
    def held(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.daemon.ask("candidate list").json
        return found


@pytest.fixture
def scene(tmp_path: Path, hotline: HotlineThread) -> Iterator[Scene]:
    made = Scene(tmp_path, hotline)
    yield made
    made.daemon.__exit__()


def test_forged_entries_are_taken_back_out_once_a_person_approves(scene: Scene) -> None:
    scene.begin()
    assert scene.daemon.ask("source show", source="hotline").json["key"] == scene.key
    scene.forge()
    answer = scene.distrust()
    assert answer.status == 200, answer.body
    done = answer.json
    assert (done["key"], done["bodies"], done["entries"]) == (scene.key, 2, 101)
    (held,) = scene.held
    assert done["lists"]["national"]["candidate"] == held["id"]
    assert done["lists"]["national"]["outcome"] == "held"
    assert (held["added"], held["removed"], held["source"]) == (0, 8, "hotline")
    (reason,) = held["reasons"]
    assert reason["guard"] == "distrust"
    assert reason["limit"].startswith(f"no body of the key {scene.key[:16]} since ")
    assert scene.live == {*GOOD, *FORGED}, "until it is decided"
    # its bodies are refused, also one that takes everything back
    for names in ([*GOOD, *FORGED], GOOD, [*GOOD, "another.example"]):
        pulled = scene.pull(*names)
        assert pulled["outcome"] == "failed"
        assert f"signed by the key {scene.key[:16]}, which is distrusted since" in pulled["reason"]
    scene.daemon.kill()
    scene.daemon.start()
    scene.daemon.wait_for(lambda: scene.daemon.logged("failed") > 3)  # its own pull at the start
    assert [one["id"] for one in scene.held] == [held["id"]]
    shown = scene.daemon.ask("source show", source="hotline").json
    assert [one["key"] for one in shown["distrusted"]] == [scene.key]
    status = scene.daemon.cli("status", "-c", str(scene.daemon.path)).stdout.decode()
    assert f"minisign, distrusted key {scene.key[:8]}" in status
    assert scene.live == {*GOOD, *FORGED}
    assert scene.daemon.approve(held["id"])["released"]
    assert scene.live == set(GOOD)
    # the hotline has a new key
    scene.hotline.rotate_key()
    scene.write_key()
    assert scene.daemon.ask("reload").json["errors"] == []
    assert scene.pull(*GOOD, "new.example")["outcome"] == "published"
    assert scene.live == {*GOOD, "new.example"}
    verdicts = [one["verdict"] for one in scene.daemon.ask("source evidence", source="hotline").json]
    assert verdicts[0] == "accepted"
    assert verdicts[-4:] == ["accepted"] * 4
    assert "refused" in verdicts


def test_a_body_by_another_key_is_a_normal_offer(scene: Scene) -> None:
    scene.begin()
    scene.forge()
    assert scene.distrust().status == 200
    (held,) = scene.held
    scene.hotline.rotate_key()
    scene.write_key()
    assert scene.daemon.ask("reload").json["errors"] == []
    assert [one["id"] for one in scene.held] == [held["id"]], "the reload decides nothing"
    assert [reason["guard"] for reason in scene.held[0]["reasons"]] == ["distrust"]
    assert scene.live == {*GOOD, *FORGED}
    assert scene.pull(*GOOD)["outcome"] == "published", "the same entries, but a trusted key vouches for them"
    assert scene.live == set(GOOD)
    assert scene.held == []


def test_a_rejection_keeps_the_list(scene: Scene) -> None:
    scene.begin()
    scene.forge()
    assert scene.distrust().status == 200
    (held,) = scene.held
    assert scene.daemon.ask("candidate reject", candidate=held["id"], why="they are right").status == 200
    scene.daemon.kill()
    scene.daemon.start()
    assert scene.daemon.pull("hotline")["outcome"] == "failed"
    assert scene.daemon.ask("reload").json["errors"] == []
    assert scene.live == {*GOOD, *FORGED}
    assert scene.held == []


def test_without_an_earlier_body_nothing_of_the_source_remains(scene: Scene, tmp_path: Path) -> None:
    scene.begin()
    scene.forge()
    scene.daemon.ask("source evidence", source="hotline")  # waits until they are kept
    for path in (tmp_path / "state" / "evidence" / "hotline").iterdir():
        path.unlink()
    done = scene.distrust(since="90d").json
    assert (done["bodies"], done["entries"], done["restored"]) == (4, 0, {"body": None})
    (held,) = scene.held
    assert (held["added"], held["removed"], held["entries"]) == (0, 109, 0)
    assert [reason["guard"] for reason in held["reasons"]] == ["distrust", "max_removed", "min_entries"]
    assert scene.live == {*GOOD, *FORGED}
    assert scene.daemon.approve(held["id"])["released"]
    assert scene.live == set()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_body_is_read_again_unless_it_is_damaged(scene: Scene, tmp_path: Path, damaged: bool) -> None:
    scene.begin()
    scene.forge()
    kept = scene.daemon.ask("source evidence", source="hotline").json
    assert [one["outcome"] for one in kept] == ["published"] * 4
    if damaged:
        path = tmp_path / "state" / "evidence" / "hotline" / f"{kept[2]['name']}.zst"
        path.write_bytes(path.read_bytes()[:30])
    for sealed in (tmp_path / "state" / "sealed").glob("??/*"):
        if b"good.example" in sealed.read_bytes() and b"forged" not in sealed.read_bytes():
            sealed.unlink()  # as a sweep does, once no row names them
    assert scene.distrust().json["entries"] == 100 + (not damaged)
    (held,) = scene.held
    assert (held["added"], held["removed"]) == (0, 8 + damaged), "if it is damaged, the entries of the body before it"
    assert ("can't be read again, an older one is used" in scene.daemon.log) == damaged
    assert scene.daemon.approve(held["id"])["released"]
    assert scene.live == set(NAMES if damaged else GOOD)


def test_what_a_command_can_not_mean_is_refused(scene: Scene) -> None:
    scene.begin()
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for more, text in (
        ({"key": "0" * 64}, f"no key of this source begins so: expected one of: {scene.key[:16]}"),
        ({"since": future}, "is in the future"),
        ({"source": "another"}, "there is no such source"),
        ({"why": "see https://a.example/"}, "--why: it contains a URL"),
    ):
        answer = scene.distrust(**more)
        assert answer.status == 409
        assert text in answer.json["detail"]
    for more, text in (
        ({"key": scene.key[:7]}, "expected 8 to 64 hex digits"),
        ({"key": "not a key"}, "expected 8 to 64 hex digits"),
        ({"since": "yesterday"}, "expected a time like"),
        ({"since": "2026-01-01T00:00:00"}, "expected a time like"),
        ({"since": "9999999d"}, "expected a time like"),
    ):
        answer = scene.distrust(**more)
        assert answer.status == 400
        assert text in answer.json["detail"]
    assert scene.daemon.ask("source show", source="hotline").json["distrusted"] == []
    done = scene.distrust().json
    assert (done["bodies"], done["restored"], done["lists"]) == (0, None, {}), "nothing was brought since then"
    assert scene.held == []
    assert scene.pull(*NAMES)["outcome"] == "failed"
    # an earlier time: what was right before is not any more
    done = scene.distrust(since="1d").json
    assert (done["bodies"], done["entries"]) == (2, 0)
    assert scene.distrust(since="1d").json["restored"] is None, "again: nothing more"
    audit = [line["detail"] for line in scene.daemon.ask("audit").json if line["action"] == "source distrust"]
    assert [one["bodies"] for one in audit] == [0, 2, 2]
    assert all(one["key"] == scene.key and one["why"] == "stolen key" for one in audit)


def test_the_command_line_says_what_to_do_next(scene: Scene) -> None:
    scene.begin()
    scene.forge()
    path = str(scene.daemon.path)
    arguments = ("--key", scene.key, "--since", scene.stolen, "--why", "stolen key", "-c", path)
    done = scene.daemon.cli("source", "distrust", "hotline", *arguments, check=False)
    assert done.returncode == 4
    (held,) = scene.held
    assert f"hotline held: run `blocklistd candidate show {held['id']}`" in done.stderr.decode()
    text = " ".join(done.stdout.decode().split())
    assert "it brought 2 bodies the source now offers the 101 entries of the body of 20" in text
    shown = " ".join(scene.daemon.cli("candidate", "show", held["id"], "-c", path).stdout.decode().split())
    assert "distrust: found the entries of the body of 20" in shown
    assert (
        json.loads(scene.daemon.cli("source", "distrust", "hotline", *arguments, "--json").stdout)["restored"] is None
    )

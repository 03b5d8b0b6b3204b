"""Lists that people release: two users for each version, whoever brought the change, and through kills and restarts."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers import unchecked
from tests.system.daemon import USER, Daemon
from tests.system.test_operations import NAMES, source, values, write

ALICE, BOB, CAROL = "daemon", "bin", "nobody"
"""Users of every machine."""
OPERATORS = {USER: ["admin"], ALICE: ["reviewer", "editor"], BOB: ["reviewer"], CAROL: ["reviewer", "editor", "admin"]}


class Scene:
    """A list of two sources; `ask` asks as a user. Tests that ask as others need root."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        if os.geteuid() != 0:
            unchecked("needs root, to become another user")
        config = {
            "control": {"socket": "c.sock", "operators": OPERATORS},
            "sources": {name: source(folder, name) for name in ("first", "second")},
            "lists": {"national": {"sources": ["first"], **settings}},
        }
        self.daemon = Daemon(folder, config)
        write(folder, "first", NAMES)
        write(folder, "second", [f"second{number}.example" for number in range(30)])
        self.daemon.start()
        for name in ("first", "second"):
            self.daemon.first_pull(name)
        self.token = self.daemon.subscriber("isp", "national")

    def ask(self, user: str, command: str, *, status: int = 200, **arguments: Any) -> Any:
        answer = self.daemon.ask_as(user, command, **arguments)
        assert answer.status == status, answer.body
        return answer.json if status == 200 else answer.json["detail"]

    def configure(self, **settings: Any) -> None:
        self.daemon.config["lists"]["national"] |= settings
        self.daemon.write_config()

    def publishes(self, *names: str) -> None:
        write(self.daemon.folder, "first", [*NAMES, *names])

    def restart(self) -> None:
        self.daemon.kill()
        self.daemon.start()

    @property
    def live(self) -> set[str]:
        return values(self.daemon.snapshot("national", self.token)) - {*NAMES}

    @property
    def version(self) -> int:
        return int(self.daemon.get("/v1/lists/national", self.token).json["version"])

    @property
    def held(self) -> list[dict[str, Any]]:
        return list(self.daemon.ask("candidate list").json)

    @property
    def audited(self) -> list[tuple[str, str, str]]:
        return [(line["action"], line["object"], line["actor"]) for line in self.daemon.ask("audit").json]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(**settings: Any) -> Scene:
        made.append(Scene(tmp_path, **settings))
        return made[-1]

    yield make
    for scene in made:
        scene.daemon.__exit__()


@pytest.fixture
def two(make: Callable[..., Scene]) -> Scene:
    """A list with `release: two-person`, whose first version two users have released."""
    scene = make(release="two-person")
    (first,) = scene.held
    assert (first["approvals"], first["missing"], scene.version) == ([], 2, 0)
    for user, missing in ((ALICE, 1), (BOB, 0)):
        assert scene.ask(user, "candidate approve", candidate=first["id"])["missing"] == missing
    assert scene.version == 1
    return scene


def test_two_different_users_release_a_version(two: Scene) -> None:
    two.publishes("new.example")
    held = two.ask(CAROL, "source pull", source="first")
    assert held["outcome"] == "held"
    candidate = held["candidate"]
    refused = two.ask(CAROL, "candidate approve", candidate=candidate, status=409)
    assert "can't be one of the two" in refused
    once = {"id": candidate, "released": False, "version": None, "candidate": None, "missing": 1, "excepted": []}
    assert two.ask(ALICE, "candidate approve", candidate=candidate) == once
    assert two.ask(ALICE, "candidate approve", candidate=candidate) == once, "one user counts once"
    assert two.live == set()
    two.restart()
    assert two.ask(CAROL, "source pull", source="first")["candidate"] == candidate, "the same content, held already"
    (shown,) = two.held
    assert (shown["approvals"], shown["missing"], shown["brought_by"]) == ([ALICE], 1, CAROL)
    text = two.daemon.cli("candidate", "show", candidate, "-c", str(two.daemon.path)).stdout.decode()
    assert f"1 approval, by another user than {ALICE}, {CAROL}" in text
    assert two.ask(BOB, "candidate approve", candidate=candidate) == once | {
        **{"released": True, "version": 2, "missing": 0}
    }
    assert two.live == {"new.example"}
    released = two.daemon.ask("list versions", list="national").json
    assert [one["released_by"] for one in released] == [f"{ALICE}, {BOB}"] * 2
    approvals = [(name, user) for action, name, user in two.audited if action == "candidate approve"][2:]
    assert approvals == [(candidate, ALICE), (candidate, ALICE), (candidate, BOB)]


def test_a_pull_by_the_schedule_has_no_actor_and_keeps_that_of_a_held_one(two: Scene) -> None:
    two.publishes("by-carol.example")
    candidate = two.ask(CAROL, "source pull", source="first")["candidate"]
    assert two.ask(ALICE, "source pull", source="first")["candidate"] == candidate, "alice brings nothing"
    two.ask(CAROL, "candidate approve", candidate=candidate, status=409)
    for user in (ALICE, BOB):
        two.ask(user, "candidate approve", candidate=candidate)
    assert two.version == 2
    two.daemon.stop()
    two.publishes("by-carol.example", "by-the-schedule.example")
    two.daemon.config["sources"]["first"]["schedule"] = "every 1s"
    two.daemon.write_config()
    two.daemon.start()
    two.daemon.wait_for(lambda: bool(two.held))
    (held,) = two.held
    assert held["brought_by"] is None
    for user in (CAROL, ALICE):
        two.ask(user, "candidate approve", candidate=held["id"])
    assert two.live == {"by-carol.example", "by-the-schedule.example"}


def test_an_approval_holds_for_one_delta(two: Scene) -> None:
    two.publishes("one.example", "two.example")
    held = two.ask(CAROL, "source pull", source="first")["candidate"]
    two.ask(ALICE, "candidate approve", candidate=held)
    two.ask(ALICE, "entry delist", list="national", entry=NAMES[0], why="a mistake")
    assert two.version == 2, "another base"
    (same,) = two.held
    assert two.ask(BOB, "candidate approve", candidate=same["id"])["version"] == 3, "with the same delta"
    two.publishes("one.example", "two.example", "three.example", "four.example")
    held = two.ask(CAROL, "source pull", source="first")["candidate"]
    two.ask(ALICE, "candidate approve", candidate=held)
    two.ask(ALICE, "entry embargo", list="national", entry="three.example", why="a case", until="1d", owner="unit 4")
    other = two.ask(BOB, "candidate approve", candidate=held)
    assert (other["released"], two.version) == (False, 3), "on this state the delta is another one"
    (shown,) = two.held
    assert (shown["id"], shown["approvals"], shown["missing"]) == (other["candidate"], [], 2)
    two.ask(CAROL, "candidate approve", candidate=shown["id"], status=409)
    for user in (BOB, ALICE):
        two.ask(user, "candidate approve", candidate=shown["id"])
    assert two.live == {"one.example", "two.example", "four.example"}


def test_who_reloads_or_ends_a_correction_does_not_approve(two: Scene) -> None:
    two.ask(ALICE, "entry delist", list="national", entry=NAMES[0], why="a mistake")
    held = two.ask(ALICE, "entry restore", list="national", entry=NAMES[0], why="no mistake")["candidate"]
    assert "the correction" in two.ask(ALICE, "candidate approve", candidate=held, status=409)
    for user in (BOB, CAROL):
        two.ask(user, "candidate approve", candidate=held)
    assert two.version == 3
    two.configure(sources=["first", "second"])
    two.ask(CAROL, "reload")
    two.daemon.wait_for(lambda: bool(two.held))
    (held,) = two.held
    assert (held["added"], held["brought_by"]) == (30, CAROL)
    assert "can't be one of the two" in two.ask(CAROL, "candidate approve", candidate=held["id"], status=409)
    for user in (ALICE, BOB):
        two.ask(user, "candidate approve", candidate=held["id"])
    assert len(two.live) == 30
    two.configure(types=["url"])
    two.ask(CAROL, "reload")
    two.daemon.wait_for(lambda: bool(two.held))
    (held,) = two.held
    two.restart()
    two.daemon.wait_for(lambda: bool(two.held))
    assert "the reload" in two.ask(CAROL, "candidate approve", candidate=held["id"], status=409)


def test_under_review_one_user_approves_even_a_pull_of_their_own(make: Callable[..., Scene]) -> None:
    scene = make(release="review")
    held = scene.ask(CAROL, "source pull", source="first")["candidate"]
    assert scene.ask(CAROL, "candidate approve", candidate=held)["version"] == 1
    scene.publishes("new.example")
    held = scene.ask(CAROL, "source pull", source="first")["candidate"]
    scene.configure(release="two-person")
    scene.ask(BOB, "reload", status=403)
    scene.ask(CAROL, "reload")
    assert scene.ask(ALICE, "candidate approve", candidate=held)["missing"] == 1, "the rule of today counts"
    scene.configure(release="review")
    scene.ask(CAROL, "reload")
    assert scene.ask(ALICE, "candidate approve", candidate=held)["version"] == 2


def ids_of(scene: Scene, candidate: str) -> dict[str, str]:
    """The ids of the entries in the delta of a held candidate, by value."""
    delta = scene.daemon.ask("candidate show", candidate=candidate).json["delta"]
    (path,) = (scene.daemon.folder / "state").rglob(delta)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return {entry["value"]: entry["id"] for line in lines for entry in line.values()}


def test_an_approval_without_single_entries_keeps_them_out_until_they_are_restored(make: Callable[..., Scene]) -> None:
    scene = make(release="review")
    daemon = scene.daemon
    daemon.approve(scene.held[0]["id"])
    write(daemon.folder, "first", [*NAMES[1:], "wrong.example", "new.example", "other.example"])
    held = daemon.pull("first")["candidate"]
    ids = ids_of(scene, held)
    unknown, removed = "e-" + "0" * 32, ids[NAMES[0]]
    approve = {"candidate": held, "excepted": [ids["wrong.example"], unknown]}
    assert f"neither adds nor changes {unknown}" in daemon.ask("candidate approve", **approve).json["detail"]
    approve["excepted"] = [removed]
    assert f"removes {removed}" in daemon.ask("candidate approve", **approve).json["detail"]
    approve["excepted"] = ["wrong.example"]
    refused = daemon.ask("candidate approve", **approve)
    assert (refused.status, "wrong" in refused.json["detail"]) == (400, False)
    assert (scene.version, [one["id"] for one in scene.held]) == (1, [held]), "nothing was changed"
    daemon.ask("entry delist", list="national", entry=NAMES[5], why="another base")
    shown = daemon.cli(
        *("candidate", "approve", held, "--except", ids["wrong.example"], "--except", ids["other.example"]),
        *("-c", str(daemon.path)),
    ).stdout.decode()
    assert "released as version 3" in shown
    assert ids["wrong.example"] in shown
    assert scene.live == {"new.example"}
    for _ in range(2):
        assert daemon.pull("first")["outcome"] == "unchanged"
        assert scene.live == {"new.example"}, "whatever the source says"
        scene.restart()
    line = next(line for line in daemon.ask("audit").json if line["object"] == held)
    assert line["detail"]["excepted"] == sorted([ids["wrong.example"], ids["other.example"]])
    in_force = daemon.ask("entry corrections", list="national").json
    assert sorted(one["kind"] for one in in_force) == ["delisted", "delisted", "excepted", "excepted"]
    restored = daemon.ask("entry restore", list="national", entry=ids["other.example"], why="it is right")
    daemon.approve(restored.json["candidate"])
    assert scene.live == {"new.example", "other.example"}
    assert "example" not in json.dumps(daemon.ask("audit").json)


def test_two_users_except_the_same_entries(two: Scene) -> None:
    two.publishes("wrong.example", "new.example")
    held = two.daemon.pull("first")["candidate"]
    entry = ids_of(two, held)["wrong.example"]
    assert two.ask(ALICE, "candidate approve", candidate=held, excepted=[entry])["missing"] == 1
    assert f"--except {entry}" in two.ask(BOB, "candidate approve", candidate=held, status=409)
    two.ask(ALICE, "candidate approve", candidate=held)
    assert "no --except" in two.ask(BOB, "candidate approve", candidate=held, excepted=[entry], status=409)
    two.ask(ALICE, "candidate approve", candidate=held, excepted=[entry])
    done = two.ask(BOB, "candidate approve", candidate=held, excepted=[entry])
    assert (done["version"], done["excepted"]) == (2, [entry])
    assert two.live == {"new.example"}


def test_a_frozen_list_is_changed_by_corrections_alone(make: Callable[..., Scene]) -> None:
    scene = make()
    daemon, national = scene.daemon, {"list": "national"}
    scene.publishes(*(f"held{number}.example" for number in range(50)))
    waiting = daemon.pull("first")["candidate"]
    for why in ("see https://court.example/1", f"about {NAMES[0]}"):
        assert daemon.ask("list freeze", **national, why=why).status == 409
    assert daemon.ask("list freeze", **national, why="an audit of the hotline").status == 200
    again = daemon.ask("list freeze", **national, why="another reason")
    assert (again.status, "an audit of the hotline" in again.json["detail"]) == (409, True)
    scene.publishes("new.example")
    pulled = daemon.pull("first")
    assert (pulled["outcome"], pulled["candidate"], scene.version) == ("held", None, 1)
    for part in (USER, "an audit of the hotline", "blocklistd list resume national"):
        assert part in pulled["reason"]
    done = daemon.cli("source", "pull", "first", "-c", str(daemon.path), check=False)
    assert (done.returncode, b"candidate" in done.stderr) == (4, False)
    refused = daemon.ask("candidate approve", candidate=waiting)
    assert (refused.status, "list resume national" in refused.json["detail"]) == (409, True)
    scene.restart()
    shown = daemon.ask("status").json["lists"]["national"]["frozen"]
    assert (shown["user"], shown["why"]) == (USER, "an audit of the hotline")
    scene.configure(types=["url"])
    reloaded = daemon.cli("reload", "-c", str(daemon.path)).stdout.decode()
    assert "list national has been frozen since" in reloaded
    daemon.first_pull("first")
    assert daemon.ask("entry delist", **national, entry=NAMES[0], why="a mistake").json["version"] == 2
    assert daemon.ask("entry restore", **national, entry=NAMES[0], why="no mistake").json["version"] == 3
    assert scene.live == set()
    scene.configure(types=["domain"])
    assert daemon.ask("reload").status == 200
    resumed = daemon.ask("list resume", **national).json
    assert (resumed["version"], resumed["candidates"]) == (4, [])
    assert scene.live == {"new.example"}
    shown = daemon.ask("status").json["sources"]["first"]
    assert (shown["outcome"], "was resumed" in shown["reason"]) == ("unchanged", True)
    assert daemon.ask("list resume", **national).status == 409


def test_what_waited_for_a_resume_is_judged_by_the_guards(two: Scene) -> None:
    two.ask(ALICE, "list freeze", list="national", why="a case")
    two.ask(BOB, "list resume", list="national", status=403)
    two.publishes("new.example")
    assert two.ask(ALICE, "source pull", source="first")["candidate"] is None
    held = two.ask(CAROL, "list resume", list="national")["candidates"]
    assert held == [one["id"] for one in two.held]
    assert two.version == 1
    assert "can't be one of the two" in two.ask(CAROL, "candidate approve", candidate=held[0], status=409)


def test_a_rollback_brings_the_content_of_a_version_under_the_rules_of_today(
    make: Callable[..., Scene], tmp_path: Path
) -> None:
    (tmp_path / "never.txt").write_text("never.test\n")
    scene = make(guards={"never_block": ["never.txt"]})
    daemon, national = scene.daemon, {"list": "national"}
    write(daemon.folder, "first", [*NAMES[10:], "wrong.example", "other.example"])
    assert daemon.pull("first")["versions"] == {"national": 2}
    for target, part in ((2, "is live already"), (3, "does not exist")):
        refused = daemon.ask("list rollback", **national, version=target)
        assert (refused.status, part in refused.json["detail"]) == (409, True)
    assert daemon.ask("list rollback", **national, version=0).status == 400
    assert daemon.ask("list rollback", list="nowhere", version=1).status == 409
    (daemon.folder / "never.txt").write_text(NAMES[1] + "\n")
    assert daemon.ask("reload").status == 200
    before = daemon.snapshot("national", scene.token)
    assert (
        daemon.ask("entry embargo", **national, entry=NAMES[2], why="a case", until="1d", owner="unit 4").status == 200
    )
    done = daemon.ask("list rollback", **national, version=1, why="the hotline sent a wrong list").json
    assert (done["version"], done["removed"], done["added"], done["candidate"]) == (3, 2, 8, None)
    live = values(daemon.snapshot("national", scene.token))
    assert live == {*NAMES} - {NAMES[1], NAMES[2]}, "never_block and the embargo of today"
    assert before != daemon.snapshot("national", scene.token)
    pulled = daemon.pull("first")
    assert (pulled["outcome"], "rolled back to version 1: the hotline sent a wrong list" in pulled["reason"]) == (
        "held",
        True,
    )
    daemon.ask("entry delist", **national, entry=NAMES[5], why="a mistake")
    assert values(daemon.snapshot("national", scene.token)) == {*NAMES} - {NAMES[1], NAMES[2], NAMES[5]}
    scene.restart()
    assert daemon.pull("first")["outcome"] == "held"
    assert daemon.ask("entry release", **national, entry=NAMES[2], why="closed").json["outcome"] == "published"
    resumed = daemon.ask("list resume", **national).json
    assert resumed["candidates"] == []
    assert values(daemon.snapshot("national", scene.token)) == {*NAMES[10:], "wrong.example", "other.example"}


def test_what_a_rollback_adds_needs_the_release_rule_and_what_it_removes_is_out_at_once(two: Scene) -> None:
    write(two.daemon.folder, "first", [*NAMES[5:], "wrong.example"])
    held = two.daemon.pull("first")["candidate"]
    for user in (ALICE, BOB):
        two.ask(user, "candidate approve", candidate=held)
    assert (two.version, two.live) == (2, {"wrong.example"})
    done = two.ask(CAROL, "list rollback", list="national", version=1)
    assert (done["version"], done["removed"], done["added"], done["held"]) == (3, 1, 0, 5)
    assert values(two.daemon.snapshot("national", two.token)) == {*NAMES[5:]}
    again = two.ask(CAROL, "list rollback", list="national", version=1)
    assert (again["version"], again["held"]) == (None, 5), "asked twice, held once"
    (candidate,) = two.held
    assert (candidate["id"], candidate["added"], candidate["removed"]) == (again["candidate"], 5, 0)
    assert (candidate["kind"], candidate["cause"], candidate["source"]) == ("rollback", "1", None)
    two.restart()
    assert "the rollback" in two.ask(CAROL, "candidate approve", candidate=candidate["id"], status=409)
    for user in (ALICE, BOB):
        two.ask(user, "candidate approve", candidate=candidate["id"])
    assert (two.version, values(two.daemon.snapshot("national", two.token))) == (4, {*NAMES})
    assert two.daemon.pull("first")["candidate"] is None, "frozen still"
    (held,) = two.ask(CAROL, "list resume", list="national")["candidates"]
    for user in (ALICE, BOB):
        two.ask(user, "candidate approve", candidate=held)
    assert two.live == {"wrong.example"}
    assert values(two.daemon.snapshot("national", two.token)) == {*NAMES[5:], "wrong.example"}


def test_a_rollback_that_adds_more_than_the_guards_allow(make: Callable[..., Scene]) -> None:
    scene = make(guards={"max_removed": "60%", "daily": "off"})
    write(scene.daemon.folder, "first", [*NAMES[50:], "wrong.example"])
    assert scene.daemon.pull("first")["outcome"] == "published"
    done = scene.daemon.ask("list rollback", list="national", version=1).json
    assert (done["removed"], done["added"], done["held"], "max_added" in done["reason"]) == (1, 0, 50, True)
    assert scene.daemon.ask("list resume", list="national").status == 200
    assert scene.held == [], "what the rollback would add is no longer asked for"
    assert scene.live == {"wrong.example"}


def test_the_snapshot_of_an_old_version_is_made_again(make: Callable[..., Scene]) -> None:
    scene = make(guards={"min_change": 1000})
    first = scene.daemon.snapshot("national", scene.token)
    sha256 = scene.daemon.get("/v1/lists/national", scene.token).json["sha256"]
    for number in range(3):
        write(scene.daemon.folder, "first", [*NAMES[number + 1 :], f"new{number}.example"])
        scene.daemon.pull("first")
    scene.daemon.stop()
    (path,) = (scene.daemon.folder / "state").rglob(sha256)
    path.unlink()
    scene.daemon.start()
    done = scene.daemon.ask("list rollback", list="national", version=1)
    assert done.status == 200, done.body
    assert scene.daemon.snapshot("national", scene.token) == first
    scene.daemon.stop()
    with contextlib.closing(sqlite3.connect(scene.daemon.folder / "state" / "blocklistd.sqlite")) as database, database:
        database.execute("UPDATE versions SET delta = NULL WHERE version <= 3")
        digests = [row[0] for row in database.execute("SELECT sha256 FROM versions WHERE version = 2")]
    for digest in digests:
        for path in (scene.daemon.folder / "state").rglob(digest):
            path.unlink()
    scene.daemon.start()
    refused = scene.daemon.ask("list rollback", list="national", version=2)
    assert (refused.status, "expected a version from 3 to 4" in refused.json["detail"]) == (409, True)


def test_names_of_a_guard_take_hits_out_at_once_up_to_max_removed(make: Callable[..., Scene], tmp_path: Path) -> None:
    never = tmp_path / "never.txt"
    never.write_text("never.test\n")
    scene = make(release="review", guards={"never_block": ["never.txt"], "min_change": 0, "daily": "off"})
    daemon = scene.daemon
    daemon.approve(scene.held[0]["id"])
    never.write_text("".join(f"{name}\n" for name in NAMES[:5]))
    assert daemon.ask("reload").status == 200
    daemon.wait_for(lambda: scene.version == 2)
    assert values(daemon.snapshot("national", scene.token)) == {*NAMES[5:]}
    assert daemon.ask("audit").json[-1]["detail"]["kind"] == "policy"
    never.write_text("".join(f"{name}\n" for name in NAMES[:30]))
    assert daemon.ask("reload").status == 200
    daemon.wait_for(lambda: bool(scene.held))
    (held,) = scene.held
    assert (held["removed"], [reason["guard"] for reason in held["reasons"]]) == (25, ["max_removed"])
    never.write_text("never.test\n")
    assert daemon.ask("reload").status == 200
    daemon.wait_for(lambda: [one["added"] for one in scene.held] == [5])
    assert [reason["guard"] for reason in scene.held[0]["reasons"]] == ["release"], "a shorter file lengthens the list"
    assert scene.version == 2


def guards_of(scene: Scene) -> list[set[str]]:
    return [{reason["guard"] for reason in one["reasons"]} for one in scene.held]


@pytest.mark.parametrize(("count", "guard"), [(30, "max_added"), (15, "")])
def test_a_source_that_is_added_goes_through_the_guards(make: Callable[..., Scene], count: int, guard: str) -> None:
    scene = make(guards={"daily": "off"})
    daemon = scene.daemon
    second = [f"second{number}.example" for number in range(count)]
    write(daemon.folder, "second", second)
    assert daemon.pull("second")["outcome"] == "unchanged", "no list takes it"
    scene.configure(sources=["first", "second"])
    assert daemon.ask("reload").status == 200
    if guard:
        daemon.wait_for(lambda: bool(scene.held))
        assert guards_of(scene) == [{guard}]
        assert scene.live == set()
    else:
        daemon.wait_for(lambda: scene.live == {*second})
        assert scene.held == []


@pytest.mark.parametrize(("count", "guard"), [(30, "max_removed"), (8, "")])
@pytest.mark.parametrize("way", ["removed", "quarantined"])
def test_a_source_that_is_taken_away_goes_through_the_guards(
    make: Callable[..., Scene], way: str, count: int, guard: str
) -> None:
    scene = make(sources=["first", "second"], guards={"min_change": 0, "daily": "off"})
    daemon = scene.daemon
    write(daemon.folder, "second", [f"second{number}.example" for number in range(count)])
    if count < 30:
        daemon.approve(daemon.pull("second")["candidate"])
    assert len(scene.live) == count
    if way == "removed":
        scene.configure(sources=["first"])
    else:
        daemon.config["sources"]["second"]["quarantine"] = True
        daemon.write_config()
    assert daemon.ask("reload").status == 200
    if guard:
        daemon.wait_for(lambda: bool(scene.held))
        assert guards_of(scene) == [{guard}]
        assert len(scene.live) == count
        return
    daemon.wait_for(lambda: scene.live == set())
    assert scene.held == []
    if way == "quarantined":
        daemon.config["sources"]["second"]["quarantine"] = False
        daemon.write_config()
        assert daemon.ask("reload").status == 200
        daemon.wait_for(lambda: len(scene.live) == count)


def test_a_kill_in_the_middle_of_a_rollback_leaves_it_done_or_not(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.publishes("wrong.example")
    scene.daemon.pull("first")
    for wait in (0.02, 0.05, 0.1, 0.2, 0.4):
        version = scene.version
        scene.daemon.kill_during("list rollback", wait, list="national", version=1)
        is_frozen = scene.daemon.ask("status").json["lists"]["national"]["frozen"] is not None
        assert (scene.version, scene.live) == ((version + 1, set()) if is_frozen else (version, {"wrong.example"}))
        audited = [action for action, _, _ in scene.audited]
        assert (audited[-1] == "list rollback") is is_frozen
        if is_frozen:
            assert scene.daemon.ask("list resume", list="national").status == 200
            assert scene.live == {"wrong.example"}


def test_neither_a_rollback_nor_a_resume_releases_a_policy(make: Callable[..., Scene]) -> None:
    """Carol lowers the quorum, rolls the list back, and Alice resumes it: the change is still Carol's."""
    guards = {"max_removed": "50%", "daily": "off"}
    scene = make(sources=["first", "second"], guards=guards)
    write(scene.daemon.folder, "second", NAMES)
    assert scene.daemon.pull("second")["outcome"] == "published"
    scene.configure(quorum=2, release="two-person")
    scene.ask(CAROL, "reload")
    scene.publishes("one-source.example")
    assert scene.daemon.pull("first")["outcome"] == "unchanged"
    before = scene.version
    scene.ask(ALICE, "entry delist", list="national", entry=NAMES[0], why="a mistake")
    scene.configure(quorum=1)
    scene.ask(CAROL, "reload")
    scene.daemon.wait_for(lambda: bool(scene.held))
    (held,) = scene.held
    assert (held["added"], held["brought_by"]) == (1, CAROL)
    scene.ask(CAROL, "list rollback", list="national", version=before)
    assert "frozen" in scene.ask(ALICE, "candidate approve", candidate=held["id"], status=409)
    scene.ask(ALICE, "list resume", list="national")
    scene.daemon.wait_for(lambda: bool(scene.held))
    (held,) = scene.held
    assert (held["added"], held["brought_by"]) == (1, CAROL)
    scene.ask(CAROL, "candidate approve", candidate=held["id"], status=409)
    assert scene.live == set()
    for user in (ALICE, BOB):
        scene.ask(user, "candidate approve", candidate=held["id"])
    assert scene.live == {"one-source.example"}


def test_a_rejected_policy_is_said_until_the_configuration_is_put_back(make: Callable[..., Scene]) -> None:
    scene = make()
    daemon, path = scene.daemon, str(scene.daemon.path)

    def shown(*words: str) -> str:
        done = daemon.cli(*words, "-c", path)
        return " ".join((done.stdout + done.stderr).decode().split())

    def alarms() -> list[str]:
        return [text for text in daemon.ask("status").json["alarms"] if "not in force" in text]

    def rejected() -> Any:
        return daemon.ask("status").json["lists"]["national"]["policy_rejected"]

    scene.configure(types=["url"], sources=["first", "second"])
    assert "not in force" not in shown("reload")
    daemon.wait_for(lambda: bool(scene.held))
    assert (rejected(), alarms()) == (None, []), "held is not rejected"
    (held,) = scene.held
    assert daemon.ask("candidate reject", candidate=held["id"], why="ask the board").status == 200
    said = rejected()
    assert (said["candidate"], said["user"], said["why"]) == (held["id"], USER, "ask the board")
    assert said["keys"] == ["sources", "types"]
    daemon.wait_for(lambda: len(alarms()) == 1)
    for part in (held["id"], USER, "ask the board", "lists.national", "blocklistd reload"):
        assert part in alarms()[0]
    for text in (shown("status"), shown("reload")):
        assert "list national: what is configured is not in force (sources, types)" in text
        assert f"{USER} rejected candidate {held['id']}" in text
    assert "see `blocklistd status`" in daemon.pull("second")["reason"]
    scene.restart()
    assert rejected() == said
    daemon.wait_for(lambda: len(alarms()) == 1)
    metrics = daemon.ops("/metrics").body.decode()
    assert 'blocklistd_alarms_active{alarm="policy_rejected"} 1.0' in metrics
    scene.configure(types=["url", "md5"])
    assert "not in force" not in shown("reload")
    daemon.wait_for(lambda: rejected() is not None)
    assert scene.held == [], "another policy with the rejected difference"
    scene.configure(types=["domain"], sources=["first"])
    assert "not in force" not in shown("reload")
    assert (rejected(), alarms()) == (None, [])


def test_candidates_with_the_same_change_name_each_other(make: Callable[..., Scene]) -> None:
    """With a quorum, two sources that withdraw the same entries make a candidate each."""
    scene = make(sources=["first", "second"], quorum=2)
    for case in scene.held:
        scene.daemon.approve(case["id"])
    write(scene.daemon.folder, "second", NAMES)
    scene.daemon.approve(scene.daemon.pull("second")["candidate"])
    assert values(scene.daemon.snapshot("national", scene.token)) == {*NAMES}
    held = []
    for name in ("first", "second"):
        write(scene.daemon.folder, name, NAMES[50:])
        held.append(scene.daemon.pull(name)["candidate"])
    assert {one["id"]: one["same_change"] for one in scene.held} == {held[0]: [held[1]], held[1]: [held[0]]}
    for command in (("list",), ("show", held[0])):
        shown = scene.daemon.cli("candidate", *command, "-c", str(scene.daemon.path)).stdout.decode()
        assert held[1] in shown
    assert scene.daemon.approve(held[0])["released"]
    assert scene.daemon.pull("second")["outcome"] == "unchanged"
    assert scene.held == []

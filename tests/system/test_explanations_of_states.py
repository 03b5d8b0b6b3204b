"""`entry explain` through the real daemon where the state of the list, its guards or its lifetime is the reason."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.system.daemon import USER
from tests.system.test_explanations import LIVE, MANY, Scene, started
from tests.system.test_lifetimes import DAY, Register


def run(scene: Scene, command: str, **more: Any) -> Any:
    answer = scene.daemon.ask(command, list="national", **more)
    assert answer.status == 200, answer.body
    return answer.json


def test_a_frozen_list_a_rollback_and_an_excepted_entry(tmp_path: Path) -> None:
    with started(tmp_path) as scene:
        new = [f"new{number}.test" for number in range(12)]
        held = scene.pull("first", LIVE, *MANY, *new)["candidate"]
        excepted = scene.explain(new[0])["id"]
        answer = scene.daemon.ask("candidate approve", candidate=held, excepted=[excepted])
        assert (answer.status, answer.json["version"]) == (200, 2)
        found = scene.explain(new[0])
        assert found["why_not"]["rule"] == found["withheld"] == "excepted"
        assert (found["excepted"]["user"], found["delisted"], found["embargo"]) == (USER, None, None)
        assert "entry restore" in found["why_not"]["text"]
        assert scene.explain(new[1])["live"]
        run(scene, "list freeze", why="an audit of the hotline")
        assert scene.pull("first", LIVE, *MANY, *new, "later.test")["outcome"] == "held"
        found = scene.explain("later.test")
        assert found["why_not"]["rule"] == "frozen"
        assert f"(by {USER})" in found["why_not"]["text"]
        assert [(one["source"], one["state"]) for one in found["sources"]] == [("first", "offered")]
        assert run(scene, "list rollback", version=1)["removed"] == 11
        found = scene.explain(new[1])
        assert found["why_not"]["rule"] == "rollback"
        assert "blocklistd list resume national" in found["why_not"]["text"]
        assert [(one["added_in"], one["removed_in"]) for one in found["versions"]] == [(2, 3)]
        assert scene.why_not(new[0]) == "excepted", "the correction is in force, whatever the version has"
        assert scene.explain(LIVE)["live"]
        again = run(scene, "list resume")["candidates"]
        assert {one["candidate"] for one in scene.explain(new[1])["held"]} == set(again) != set()
        assert scene.why_not(new[1]) == scene.why_not("later.test") == "held"


def test_own_names_and_additions_that_are_stopped(tmp_path: Path) -> None:
    with started(tmp_path) as scene:
        added = scene.daemon.ask("subscriber add", id="isp", lists=["national"], own_names=["isp.example"])
        assert added.status == 200, added.body
        scene.configure()  # the names are in force
        assert scene.pull("first", LIVE, *MANY, "www.isp.example", "new.test")["outcome"] == "published"
        found = scene.explain("www.isp.example")
        assert found["why_not"]["rule"] == found["withheld"] == "own_name"
        assert "isp.example" not in found["why_not"]["text"]
        scene.daemon.stop()
        (tmp_path / "never.txt").unlink()
        with scene.daemon:
            scene.daemon.wait_for(lambda: "nothing is added to it" in json.dumps(scene.daemon.ask("status").json))
            scene.pull("first", LIVE, *MANY, "www.isp.example", "new.test", "later.test")
            found = scene.explain("later.test")
            assert found["why_not"]["rule"] == found["withheld"] == "additions"
            assert scene.explain("new.test")["live"]
            assert scene.why_not("www.isp.example") == "own_name", "the first rule that withholds it"


def test_a_lifetime_and_since_when_a_source_asserts_an_entry(tmp_path: Path) -> None:
    scene = Register(tmp_path, reverify="90d", at_end="expire")
    fresh = {f"n{number}": 5 for number in range(40)}

    def explain(name: str) -> Any:
        answer = scene.daemon.ask("entry explain", list="national", entry=f"{name}.example")
        assert answer.status == 200, answer.body
        return answer.json

    def since(name: str) -> datetime:
        (source,) = explain(name)["sources"]
        assert (source["source"], source["state"]) == ("hotline", "accepted")
        return datetime.fromisoformat(source["since"])

    scene.write(**fresh, old=400)
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        found = explain("old")
        assert (found["live"], found["why_not"]["rule"], found["withheld"]) == (False, "lifetime", "lifetime")
        assert found["versions"] == []
        first = since("n0")
        assert since("old") == first
    scene.pass_days(10)
    scene.write(**fresh, old=400, later=3)
    with scene.daemon:
        assert scene.daemon.pull("hotline")["outcome"] == "published"
        assert since("n0") == first - 10 * DAY
        assert since("later") >= first, "since the pull that brought it"
        assert explain("later")["since"] >= explain("n0")["since"]
        scene.write(**fresh, old=1, later=3)
        assert scene.daemon.pull("hotline")["outcome"] == "published"
        assert explain("old")["live"], "its source has confirmed it"
        assert since("old") == first - 10 * DAY, "the source has asserted it all the time"

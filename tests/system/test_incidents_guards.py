"""Incidents that guard files are for, each through the real daemon, under reserved names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon import Daemon
from tests.system.test_operations import reload

SETTLED = -60  # seconds by which a file is made older: a younger one may be half written


class Publisher:
    """A hotline that writes NDJSON, a list with files of names, and a subscriber."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names("never.txt", "search.example", "cloud.example")
        self.names("shared.txt", "wiki.example", "drive.test")
        self.write(("host", "bad.test"))
        self.daemon = Daemon(
            folder,
            {
                "sources": {
                    "hotline": {
                        "url": f"file:{folder}/list.ndjson",
                        "format": "ndjson",
                        "fields": {"value": "/v", "type": "/t"},
                        "schedule": "every 1d",
                        "verify": {"method": "none"},
                    }
                },
                "lists": {
                    "national": {
                        "sources": ["hotline"],
                        "guards": {
                            "never_block": ["never.txt"],
                            "shared_hosts": ["shared.txt"],
                            "max_added": "100%",
                            "daily": "off",
                            "min_change": 3,
                        },
                    }
                },
            },
        )
        self.token = ""

    def names(self, file: str, *names: str) -> None:
        path = self.folder / file
        path.write_text("".join(f"{name}\n" for name in names))
        self.age(path)

    def age(self, path: Path) -> None:
        old = path.stat().st_mtime + SETTLED
        os.utime(path, (old, old))

    def write(self, *entries: tuple[str, str]) -> None:
        lines = [json.dumps({"t": kind, "v": value}) + "\n" for kind, value in entries]
        (self.folder / "list.ndjson").write_text("".join(lines))

    def pull(self, *entries: tuple[str, str]) -> dict[str, Any]:
        self.write(*entries)
        return self.daemon.pull("hotline")

    def live(self) -> set[tuple[str, str]]:
        found = [json.loads(line) for line in self.daemon.snapshot("national", self.token).splitlines()]
        return {(entry["type"], entry["value"]) for entry in found}

    def withheld(self) -> dict[str, int]:
        found: dict[str, int] = self.daemon.ask("status").json["lists"]["national"]["withheld"]
        return found

    def alarms(self) -> list[str]:
        return [line for line in self.daemon.ops("/readyz").body.decode().splitlines() if "guard file" in line]

    def reload_refused(self) -> str:
        done = self.daemon.cli("reload", "-c", str(self.daemon.path), check=False)
        assert done.returncode == 2
        return done.stderr.decode()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Publisher]:
    made = Publisher(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.token = made.daemon.subscriber("isp", "national")
        made.daemon.wait_for(lambda: made.live() == {("host", "bad.test")})
        yield made


def test_denmark_2012_a_search_engine_among_eight_thousand_names(scene: Publisher) -> None:
    """The police's list grew by 8,000 names in one update, a search engine among them."""
    update = [("domain", f"n{number}.test") for number in range(8_000)]
    outcome = scene.pull(("host", "bad.test"), *update, ("domain", "search.example"), ("host", "www.search.example"))
    assert outcome["outcome"] == "held", outcome
    assert scene.live() == {("host", "bad.test")}
    shown = scene.daemon.ask("candidate show", candidate=outcome["candidate"]).json
    assert shown["withheld"]["never_block"] == 2
    assert len(shown["hits"]["never_block"]) == 2
    assert all(hit.startswith("e-") for hit in shown["hits"]["never_block"])
    assert shown["added"] == 8_000
    released = scene.daemon.approve(outcome["candidate"])
    assert released["version"] == 2
    assert scene.live() == {("host", "bad.test"), *update}
    assert scene.withheld()["never_block"] == 2
    assert "search.example" not in scene.daemon.log


def test_wikipedia_2008_a_page_never_becomes_its_host(scene: Publisher) -> None:
    """One page of an encyclopedia was listed, and filters blocked the whole site."""
    page = ("url", "https://en.wiki.example/wiki/Album")
    outcome = scene.pull(("host", "bad.test"), page, ("host", "en.wiki.example"), ("domain", "wiki.example"))
    assert outcome["outcome"] == "published"
    assert scene.live() == {("host", "bad.test"), page}
    assert scene.withheld() == {"shared_hosts": 2}


def test_google_drive_2024_a_subdomain_and_a_parent_of_a_protected_service(scene: Publisher) -> None:
    """A whitelisted service was blocked by the name of its subdomain, and could be by a domain above it."""
    mistakes = [
        ("host", "drive.cloud.example"),
        ("domain", "usercontent.drive.cloud.example"),
        ("domain", "test"),
        ("host", "drive.test"),
        ("domain", "a.drive.test"),
    ]
    scene.daemon.config["lists"]["national"]["guards"]["allow_public_suffix"] = True  # else `test` is one
    scene.daemon.write_config()
    reload(scene.daemon)
    outcome = scene.pull(("host", "bad.test"), ("url", "https://a.drive.test/file"), *mistakes)
    assert outcome["outcome"] == "published"
    assert scene.live() == {("host", "bad.test"), ("url", "https://a.drive.test/file")}
    assert scene.withheld() == {"never_block": 2, "shared_hosts": 3}


def test_a_longer_never_block_takes_entries_out_of_the_live_version(scene: Publisher) -> None:
    scene.pull(("host", "bad.test"), ("host", "www.park.test"), ("host", "b.test"))
    scene.names("never.txt", "search.example", "cloud.example", "park.test")
    reload(scene.daemon)
    scene.daemon.wait_for(lambda: scene.live() == {("host", "bad.test"), ("host", "b.test")})
    newest = scene.daemon.ask("list versions", list="national").json[0]
    assert newest["kind"] == "policy"
    assert scene.withheld() == {"never_block": 1}
    audit = scene.daemon.ask("audit", last=1).json
    assert "policy" in json.dumps(audit)
    # a shorter one lets it come back, through the guards
    scene.names("never.txt", "search.example", "cloud.example")
    reload(scene.daemon)
    scene.daemon.wait_for(lambda: ("host", "www.park.test") in scene.live())


def test_a_never_block_that_would_take_out_too_many_is_held(scene: Publisher) -> None:
    entries = [("host", f"n{number}.park.test") for number in range(30)]
    outcome = scene.pull(("host", "bad.test"), *entries)
    assert outcome["outcome"] == "held"
    scene.daemon.approve(outcome["candidate"])
    scene.names("never.txt", "search.example", "park.test")
    reload(scene.daemon)
    scene.daemon.wait_for(lambda: "max_removed" in json.dumps(scene.daemon.ask("candidate list").json))
    assert len(scene.live()) == 31


def test_additions_stop_even_while_another_change_of_policy_is_held(scene: Publisher) -> None:
    entries = [("host", f"n{number}.park.test") for number in range(30)]
    scene.daemon.approve(scene.pull(("host", "bad.test"), *entries)["candidate"])
    scene.daemon.stop()
    scene.daemon.config["lists"]["national"]["types"] = ["url", "domain"]
    scene.daemon.write_config()
    (scene.folder / "never.txt").unlink()
    with scene.daemon:
        scene.daemon.wait_for(lambda: "max_removed" in json.dumps(scene.daemon.ask("candidate list").json))
        scene.pull(("host", "bad.test"), *entries, ("host", "c.test"))
        assert scene.live() == {("host", "bad.test"), *entries}


def test_a_name_is_not_added_while_the_change_to_the_new_names_is_held(scene: Publisher) -> None:
    entries = [("host", f"n{number}.park.test") for number in range(30)]
    scene.daemon.approve(scene.pull(("host", "bad.test"), *entries)["candidate"])
    scene.names("never.txt", "search.example", "new.test")
    scene.daemon.config["lists"]["national"]["types"] = ["url", "domain"]
    scene.daemon.write_config()
    reload(scene.daemon)
    scene.daemon.wait_for(lambda: "max_removed" in json.dumps(scene.daemon.ask("candidate list").json))
    scene.pull(("host", "bad.test"), *entries, ("host", "www.new.test"), ("host", "c.test"))
    assert scene.live() == {("host", "bad.test"), *entries, ("host", "c.test")}
    assert scene.withheld() == {"additions": 1}


def test_nothing_brings_a_protected_name_into_a_frozen_list(scene: Publisher) -> None:
    def ask(command: str, **arguments: Any) -> Any:
        answer = scene.daemon.ask(command, list="national", **arguments)
        assert answer.status == 200, answer.body
        return answer.json

    scene.pull(("host", "bad.test"), ("host", "www.new.test"))
    scene.pull(("host", "bad.test"), ("host", "other.test"))
    ask("entry embargo", entry="other.test", why="ticket 1", until="7d", owner="unit 3")
    scene.daemon.config["lists"]["national"]["release"] = "review"
    scene.daemon.write_config()
    reload(scene.daemon)
    held = ask("list rollback", version=2)["candidate"]
    scene.names("never.txt", "search.example", "new.test", "other.test")
    reload(scene.daemon)
    assert not scene.daemon.approve(held)["released"]
    assert ask("entry release", entry="other.test", why="ticket 1")["outcome"] == "unchanged"
    assert scene.live() == {("host", "bad.test")}


@pytest.mark.slow  # the daemon looks for changed files once a minute
def test_a_file_that_changes_is_read_without_a_reload(scene: Publisher) -> None:
    scene.pull(("host", "bad.test"), ("host", "www.park.test"))
    scene.names("never.txt", "search.example", "park.test")
    scene.daemon.wait_for(lambda: scene.live() == {("host", "bad.test")}, within=90)
    (scene.folder / "never.txt").unlink()
    scene.daemon.wait_for(lambda: bool(scene.alarms()), within=90)
    scene.pull(("host", "bad.test"), ("host", "www.park.test"), ("host", "c.test"))
    assert scene.live() == {("host", "bad.test")}, "the last good names stay, and nothing is added"
    scene.names("never.txt", "search.example")
    scene.daemon.wait_for(lambda: ("host", "c.test") in scene.live(), within=90)
    assert ("host", "www.park.test") in scene.live()
    assert not scene.alarms()


@pytest.mark.parametrize("fault", ["emptied", "removed", "broken"])
def test_a_guard_file_that_is_unusable_stops_additions_and_not_removals(scene: Publisher, fault: str) -> None:
    scene.pull(("host", "bad.test"), ("host", "b.test"))
    path = scene.folder / "never.txt"
    if fault == "removed":
        path.unlink()
    else:
        path.write_text("" if fault == "emptied" else "search.example\n*.cloud.example\n")
        scene.age(path)
    assert "never.txt" in scene.reload_refused()
    scene.daemon.stop()
    with scene.daemon:  # a start goes on with the last good names
        scene.daemon.wait_for(lambda: bool(scene.alarms()))
        assert "list national: nothing is added" in scene.alarms()[0]
        outcome = scene.pull(("host", "bad.test"), ("host", "c.test"), ("host", "search.example"))
        assert outcome["outcome"] == "published", outcome
        assert scene.live() == {("host", "bad.test")}, "b.test has left, c.test waits"
        assert scene.withheld() == {"never_block": 1, "additions": 1}
        scene.names("never.txt", "search.example", "cloud.example")
        reload(scene.daemon)
        scene.daemon.wait_for(lambda: scene.live() == {("host", "bad.test"), ("host", "c.test")})
        assert not scene.alarms()
        assert scene.withheld() == {"never_block": 1}

"""`entry explain` through the real daemon: for each reason why an entry is live or not, the answer is right."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon import USER, Daemon
from tests.system.test_operations import reload

LIVE = "bad.test"
MANY = tuple(f"n{number}.test" for number in range(20))


class Scene:
    """Two hotlines that write NDJSON with references, and a list of both."""

    def __init__(self, folder: Path, **national: Any) -> None:
        self.folder = folder
        (folder / "never.txt").write_text("search.example\n")
        (folder / "shared.txt").write_text("platform.example\n")
        self.write("first", LIVE, *MANY)
        self.write("second")
        source = {
            "format": "ndjson",
            "fields": {"value": "/v", "type": "/t", "ref": "/r", "expires": "/e"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        guards = {"min_change": 3, "max_removed": "20%", "never_block": ["never.txt"], "shared_hosts": ["shared.txt"]}
        self.daemon = Daemon(
            folder,
            {
                "sources": {name: source | {"url": f"file:{folder}/{name}"} for name in ("first", "second")},
                "lists": {
                    "national": {"sources": ["first", "second"], "guards": guards | {"min_entries": 0}} | national
                },
            },
        )

    @property
    def national(self) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.config["lists"]["national"]
        return found

    def write(self, source: str, *names: str, kind: str = "host", **expires: str) -> None:
        entries = [{"t": kind, "v": name, "r": f"{source}/{name[0]}"} for name in names]
        entries += [{"t": kind, "v": f"{name}.test", "e": time} for name, time in expires.items()]
        (self.folder / source).write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    def pull(self, source: str, *names: str, **expires: str) -> dict[str, Any]:
        self.write(source, *names, **expires)
        return self.daemon.pull(source)

    def configure(self, **national: Any) -> None:
        self.national.update(national)
        self.daemon.write_config()
        reload(self.daemon)

    def explain(self, entry: str, status: int = 200) -> dict[str, Any]:
        answer = self.daemon.ask("entry explain", list="national", entry=entry)
        assert answer.status == status, answer.body
        found: dict[str, Any] = answer.json
        assert not entry or entry.startswith("e-") or entry not in answer.body.decode()
        return found

    def why_not(self, entry: str) -> str:
        found = self.explain(entry)
        assert found["live"] is False
        assert found["why_not"]["text"]
        return str(found["why_not"]["rule"])

    def correct(self, action: str, entry: str, **more: str) -> dict[str, Any]:
        answer = self.daemon.ask(f"entry {action}", list="national", entry=entry, **{"why": "a mistake"} | more)
        assert answer.status == 200, answer.body
        done: dict[str, Any] = answer.json
        return done


@contextmanager
def started(folder: Path, second: tuple[str, ...] = (), **national: Any) -> Iterator[Scene]:
    made = Scene(folder, **national)
    made.write("second", *second)
    with made.daemon:
        for source in ("first", "second"):
            made.daemon.first_pull(source)
        made.daemon.wait_for(lambda: made.daemon.ask("status").json["lists"]["national"]["version"] == 1)
        yield made


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with started(tmp_path) as made:
        yield made


def test_a_live_entry_has_its_sources_with_their_references_and_its_versions(scene: Scene) -> None:
    assert scene.pull("second", LIVE)["outcome"] == "unchanged"
    found = scene.explain(LIVE)
    assert (found["live"], found["type"], found["why_not"], found["withheld"]) == (True, "host", None, None)
    assert [(one["source"], one["ref"], one["state"]) for one in found["sources"]] == [
        ("first", "first/b", "accepted"),
        ("second", "second/b", "accepted"),
    ]
    assert [(one["added_in"], one["removed_in"]) for one in found["versions"]] == [(1, None)]
    assert all(one["since"] for one in found["sources"])
    assert found["known_from"] is None
    assert found["since"] == found["versions"][0]["added"] is not None
    assert scene.explain(found["id"])["id"] == found["id"]
    scene.correct("delist", LIVE)
    scene.correct("restore", LIVE)
    again = scene.explain(LIVE)
    assert [(one["added_in"], one["removed_in"]) for one in again["versions"]] == [(1, 2), (3, None)]
    assert again["since"] == again["versions"][1]["added"]


def test_an_entry_that_is_not_live_says_why(scene: Scene) -> None:
    assert scene.why_not("never.test") == "never_asserted"
    names = ("www.search.example", "platform.example", "old.test")
    assert scene.pull("first", LIVE, *MANY, *names)["outcome"] == "published"
    assert scene.why_not("www.search.example") == "never_block"
    assert scene.why_not("platform.example") == "shared_hosts"
    assert scene.explain("old.test")["live"]
    assert scene.pull("first", LIVE, *MANY)["outcome"] == "published"
    gone = scene.explain("old.test")
    assert gone["why_not"]["rule"] == "not_asserted"
    assert [(one["added_in"], one["removed_in"]) for one in gone["versions"]] == [(2, 3)]
    assert "version 3 removed it" in gone["why_not"]["text"]


def test_corrections_are_named_with_their_person_time_and_reason(scene: Scene) -> None:
    scene.correct("delist", LIVE, until="2d")
    found = scene.explain(LIVE)
    assert found["why_not"]["rule"] == found["withheld"] == "delisted"
    assert (found["delisted"]["user"], found["delisted"]["why"]) == (USER, "a mistake")
    assert found["delisted"]["since"] < found["delisted"]["until"]
    assert found["embargo"] is None
    scene.correct("embargo", "case.test", until="7d", owner="unit 4")
    found = scene.explain("case.test")
    assert found["why_not"]["rule"] == "embargoed"
    assert "no source asserts it" in found["why_not"]["text"]
    assert found["embargo"]["owner"] == "unit 4"
    assert [one["type"] for one in found["others"]] == ["domain"], "embargoed as either"


def test_a_held_a_rejected_and_an_excepted_change(scene: Scene) -> None:
    new = [f"new{number}.test" for number in range(12)]
    held = scene.pull("first", LIVE, *MANY, *new)
    assert held["outcome"] == "held"
    found = scene.explain(new[0])
    assert found["why_not"]["rule"] == "held"
    assert held["candidate"] in found["why_not"]["text"]
    (one,) = found["held"]
    assert (one["candidate"], one["change"]) == (held["candidate"], "added")
    assert "max_added" in one["guards"]
    assert scene.daemon.ask("candidate reject", candidate=held["candidate"], why="not meant").status == 200
    assert scene.why_not(new[0]) == "rejected"
    dropping = scene.pull("first", *MANY[10:])
    assert dropping["outcome"] == "held"
    found = scene.explain(LIVE)
    assert found["live"]
    assert [(one["change"], one["guards"][0]) for one in found["held"]] == [("removed", "max_removed")]


def test_below_the_quorum_and_of_a_type_that_the_list_does_not_take(tmp_path: Path) -> None:
    with started(tmp_path, MANY, quorum=2, types=["host"]) as scene:
        assert scene.explain(MANY[0])["live"]
        found = scene.explain(LIVE)
        assert found["why_not"]["rule"] == "quorum"
        assert found["why_not"]["text"] == "the list's `quorum` needs 2 sources that assert it; it has 1: first"
        scene.write("first", *MANY, "wide.test")
        with open(tmp_path / "first", "a") as file:
            file.write(json.dumps({"t": "domain", "v": "zone.test"}) + "\n")
        scene.daemon.pull("first")
        found = scene.explain("zone.test")
        assert (found["type"], found["why_not"]["rule"]) == ("domain", "type domain")


def test_an_expired_entry_and_its_time(scene: Scene) -> None:
    assert scene.pull("first", LIVE, *MANY, over="2020-01-31T12:00:00Z")["outcome"] == "unchanged"
    found = scene.explain("over.test")
    assert found["why_not"]["rule"] == "expired"
    assert "2020-01-31T12:00:00Z" in found["why_not"]["text"]
    assert found["sources"][0]["expires"] == "2020-01-31T12:00:00Z"


def test_a_source_in_quarantine_or_not_taken_yet(scene: Scene) -> None:
    scene.daemon.config["sources"]["second"]["quarantine"] = True
    scene.configure()
    scene.pull("second", "far.test")
    found = scene.explain("far.test")
    assert found["why_not"]["rule"] == "quarantine"
    assert [(one["source"], one["state"]) for one in found["sources"]] == [("second", "quarantine")]


def test_the_deltas_that_are_not_kept(scene: Scene) -> None:
    scene.pull("first", LIVE, *MANY, "later.test")
    scene.daemon.stop()
    with closing(sqlite3.connect(scene.folder / "state" / "blocklistd.sqlite")) as database, database:
        database.execute("UPDATE versions SET delta = NULL WHERE version = 2")
    with scene.daemon:
        found = scene.explain(LIVE)
        assert found["known_from"] == 2
        assert [(one["added_in"], one["removed_in"]) for one in found["versions"]] == [(None, None)]
        assert found["since"] is None


def test_who_may_ask_what_is_written_and_that_the_entry_is_nowhere(scene: Scene) -> None:
    done = scene.daemon.cli(
        *("entry", "explain", "national", "--stdin", "-c", str(scene.daemon.path)), stdin=LIVE.encode() + b"\n"
    )
    shown = done.stdout.decode()
    entry = scene.explain(LIVE)["id"]
    assert entry in shown
    assert "reference first/b" in shown
    scene.explain("not an entry", status=409)
    scene.explain("e-00000000000000000000000000000000", status=409)
    lines = [line for line in scene.daemon.ask("audit").json if line["action"] == "entry explain"]
    assert [(line["object"], line["detail"], line["actor"]) for line in lines] == [
        (entry, {"list": "national"}, USER)
    ] * 2
    assert LIVE not in json.dumps(scene.daemon.ask("audit").json) + scene.daemon.log + shown
    for role, status in (("examiner", 200), ("editor", 200), ("reviewer", 200)):
        scene.daemon.config["control"]["operators"] = {USER: ["admin", role], "root": ["admin"]}
        scene.configure()
        scene.explain(LIVE, status)


def test_a_candidate_is_shown_with_its_figures_and_the_newest_versions(tmp_path: Path) -> None:
    with started(tmp_path, MANY) as scene:
        for number in range(3):
            scene.pull("first", LIVE, *MANY, *(f"x{one}.test" for one in range(number)))
        new = [f"new{number}.test" for number in range(12)]
        held = scene.pull("first", *MANY, *new, "www.search.example")
        shown = scene.daemon.ask("candidate show", candidate=held["candidate"]).json
        assert [(one["version"], one["entries"]) for one in shown["trend"]] == [(1, 21), (2, 22), (3, 23)]
        assert shown["by_source"] == {
            "first": {"added": 12, "removed": 3, "changed": 0},
            "second": {"added": 0, "removed": 0, "changed": 0},
        }
        assert shown["categories"] == {"(none)": {"added": 12, "removed": 3, "changed": 0}}
        assert shown["suffixes"] == {"test": {"added": 12, "removed": 3, "changed": 0}}
        assert len(shown["hits"]["never_block"]) == shown["withheld"]["never_block"] == 1
        assert (shown["missing"], shown["approvals"]) == (1, [])
        done = scene.daemon.cli("candidate", "show", held["candidate"], "-c", str(scene.daemon.path))
        assert b"trend\t21 22 23\n" in done.stdout
        assert b"by source\t+12 -3 first\n" in done.stdout
        as_json = scene.daemon.cli("candidate", "show", held["candidate"], "--json", "-c", str(scene.daemon.path))
        assert json.loads(as_json.stdout) == shown


def test_the_entries_of_a_candidate_and_of_a_version_are_for_examiners_and_audited(scene: Scene) -> None:
    held = scene.pull("first", *MANY, *(f"new{number}.test" for number in range(12)))["candidate"]
    shown = scene.daemon.cli("candidate", "show", held, "--show-entries", "-c", str(scene.daemon.path)).stdout.decode()
    lines = shown.splitlines()
    assert len(lines) == 13
    assert f"- {scene.explain(LIVE)['id']} host {LIVE}" in lines[0]
    assert all(line.startswith("+ e-") for line in lines[1:])
    as_json = scene.daemon.cli(
        *("candidate", "show", held, "--show-entries", "--json", "-c", str(scene.daemon.path))
    ).stdout
    assert [next(iter(one)) for one in json.loads(as_json)] == ["remove", *["add"] * 12]
    audited = [line for line in scene.daemon.ask("audit").json if line["action"] == "candidate show"]
    counts = {"added": 12, "removed": 1, "changed": 0}
    assert [(line["object"], line["detail"]["entries"]) for line in audited] == [(held, counts)] * 2
    assert scene.daemon.approve(held)["version"] == 2
    assert scene.daemon.ask("list diff", **{"list": "national", "from": 1, "to": 2}).status == 200
    (line,) = [line for line in scene.daemon.ask("audit").json if line["action"] == "list diff"]
    assert (line["object"], line["detail"]) == ("national", {"from": 1, "to": 2})
    scene.daemon.config["control"]["operators"] = {USER: ["reviewer", "editor"]}
    scene.daemon.write_config()
    assert scene.daemon.ask("reload").status == 200
    scene.daemon.wait_for(lambda: scene.daemon.ask("reload").status == 403, within=20)
    assert scene.daemon.ask("candidate show", candidate=held).status == 200
    refused = scene.daemon.ask("candidate show", candidate=held, show_entries=True)
    assert refused.status == 409
    assert b"role examiner" in refused.body
    assert scene.daemon.ask("list diff", **{"list": "national", "from": 1, "to": 2}).status == 403
    assert LIVE not in scene.daemon.log

"""Lifetimes of entries, through the daemon: terms that end, an expiry that is held, entries that a person keeps.

Recorded times are moved while the daemon is stopped, so that days pass between two starts.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from tests.system.daemon import Daemon

DAY = timedelta(days=1)
NOW = datetime.now(UTC)


class Register:
    """A hotline's register with the day on which each entry was verified, and a list of it with a lifetime."""

    def __init__(self, folder: Path, **lifetime: str) -> None:
        self.folder = folder
        self.verified: dict[str, int] = {}
        self.refs: dict[str, str] = {}
        source = {
            "url": f"file:{folder}/list.ndjson",
            "format": "ndjson",
            "fields": {"value": "/v", "verified_at": "/a", "ref": "/r"},
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        lists = {"national": {"sources": ["hotline"], "lifetime": lifetime}}
        self.daemon = Daemon(folder, {"sources": {"hotline": source}, "lists": lists})

    def write(self, **verified: int | None) -> None:
        """Lists names, each verified so many days ago (None: it does not say)."""
        days = {name: None if age is None else f"{NOW - age * DAY:%Y-%m-%d}" for name, age in verified.items()}
        records = ({"v": f"{name}.example", "a": day, "r": self.refs.get(name)} for name, day in days.items())
        (self.folder / "list.ndjson").write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))

    def live(self, token: str) -> set[str]:
        lines = self.daemon.snapshot("national", token).splitlines()
        return {orjson.loads(line)["value"].removesuffix(".example") for line in lines}

    def ids(self, token: str) -> dict[str, str]:
        entries = map(orjson.loads, self.daemon.snapshot("national", token).splitlines())
        return {entry["value"].removesuffix(".example"): entry["id"] for entry in entries}

    def due(self) -> dict[str, Any]:
        found: dict[str, Any] = self.daemon.ask("entry due", list="national").json
        return found

    def set_lifetime(self, **lifetime: str) -> None:
        self.daemon.config["lists"]["national"]["lifetime"] = lifetime
        self.daemon.write_config()
        self.daemon.cli("reload", "-c", str(self.daemon.path))

    def pass_days(self, days: int) -> None:
        """While the daemon is stopped: whatever it recorded is so many days older."""
        tables = {
            "versions": ("time",),
            "list_sources": ("time", "ages_since"),
            "lists": ("evaluated", "next_expiry", "ages_since"),
            "kept_entries": ("time",),
            "candidates": ("created", "decided", "evaluated"),
        }
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "blocklistd.sqlite")) as database:
            for table, columns in tables.items():
                for column in columns:
                    rows = database.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} NOTNULL").fetchall()
                    for row, text in rows:
                        moved = datetime.fromisoformat(text).astimezone(UTC) - days * DAY
                        written = moved.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (written, row))
            database.commit()


def test_a_third_of_a_register_past_its_term_is_held_and_gone_as_expired_after_an_approval(tmp_path: Path) -> None:
    scene = Register(tmp_path)
    daemon = scene.daemon
    fresh, old = {f"n{number}": 5 for number in range(40)}, {f"o{number}": 400 for number in range(20)}
    scene.write(**fresh, **old)
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        assert len(scene.live(token)) == 60
        scene.set_lifetime(reverify="90d", at_end="expire")
        daemon.wait_for(lambda: len(daemon.ask("candidate list").json) == 1)
        (held,) = daemon.ask("candidate list").json
        assert held["kind"] == "expiry"
        assert len(scene.live(token)) == 60
        assert scene.due()["total"] == 20
        daemon.kill()
    with daemon:
        assert [one["id"] for one in daemon.ask("candidate list").json] == [held["id"]], "still the same"
        assert daemon.approve(held["id"])["version"] == 2
        assert scene.live(token) == set(fresh)
        assert daemon.ask("status").json["lists"]["national"]["withheld"] == {"lifetime": 20}
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        report = {"list": "national", "from": day, "to": day}
        daemon.wait_for(lambda: daemon.ask("list report", **report).json.get("total", {}).get("expired") == 20)
        assert scene.due()["total"] == 0
        scene.write(**fresh, **old | {"o1": 3})
        assert daemon.pull("hotline")["outcome"] == "published"
        assert scene.live(token) == {*fresh, "o1"}, "its source has confirmed it"


def test_review_only_lists_what_is_due_and_a_kept_entry_is_not_due(tmp_path: Path) -> None:
    scene = Register(tmp_path, reverify="90d")
    daemon = scene.daemon
    scene.write(a=400, b=100, c=5, d=None)
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        ids = scene.ids(token)
        found = scene.due()
        assert found["total"] == 2
        assert [(one["id"], one["term"], one["sources"]) for one in found["entries"]] == [
            (ids["a"], "reverify", ["hotline"]),
            (ids["b"], "reverify", ["hotline"]),
        ]
        assert [one["days"] for one in found["entries"]] == [400, 100]
        refused = daemon.ask("entry keep", list="national", ids=[ids["a"], ids["c"]], why="seen")
        told = refused.body.decode()
        assert (refused.status, ids["c"] in told, ids["a"] in told) == (409, True, False)
        assert scene.due()["total"] == 2, "nothing is changed"
        kept = daemon.cli("entry", "keep", "national", ids["a"], "--why", "seen today", "-c", str(daemon.path))
        assert ids["a"] in kept.stdout.decode()
        assert "is not due" in told
        shown = daemon.cli("entry", "due", "national", "-c", str(daemon.path), "--json").stdout
        assert [one["id"] for one in json.loads(shown)["entries"]] == [ids["b"]]
        assert ".example" not in kept.stdout.decode() + shown.decode() + daemon.log
        line = daemon.ask("audit", last=1).json[-1]
        assert (line["action"], line["object"]) == ("entry keep", ids["a"])
        assert len(scene.live(token)) == 4
        assert daemon.ask("list versions", list="national").json[0]["version"] == 1


def test_an_entry_ends_after_its_longest_life_and_begins_again_when_it_comes_back(tmp_path: Path) -> None:
    scene = Register(tmp_path, max_life="180d", at_end="expire")
    daemon = scene.daemon
    scene.write(a=None, b=None, c=None)
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
    scene.pass_days(100)
    with daemon:
        scene.write(a=None, b=None)
        assert daemon.pull("hotline")["outcome"] == "published"
        scene.write(a=None, b=None, c=None)
        assert daemon.pull("hotline")["outcome"] == "published"
        assert scene.due()["total"] == 0
    scene.pass_days(90)
    with daemon:
        daemon.wait_for(lambda: scene.live(token) == {"c"})
        assert daemon.ask("list versions", list="national").json[0]["kind"] == "expiry"
        assert daemon.pull("hotline")["outcome"] == "unchanged"
        scene.write(a=None, c=None)
        daemon.pull("hotline")
        scene.write(a=None, b=None, c=None)
        assert daemon.pull("hotline")["outcome"] == "published"
        assert scene.live(token) == {"b", "c"}, "a was on the list all the time, b came back"


def test_a_kept_entry_stays_when_the_held_expiry_is_made_again(tmp_path: Path) -> None:
    scene = Register(tmp_path)
    daemon = scene.daemon
    old = {f"o{number}": 400 for number in range(20)}
    scene.write(a=5, **old)
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        scene.set_lifetime(reverify="90d", at_end="expire")
        daemon.wait_for(lambda: len(daemon.ask("candidate list").json) == 1)
        (before,) = daemon.ask("candidate list").json
        ids = scene.ids(token)
        assert daemon.ask("entry keep", list="national", ids=[ids["o1"]], why="seen").status == 200
        (after,) = daemon.ask("candidate list").json
        assert (before["removed"], after["removed"]) == (20, 19)
        assert daemon.ask("candidate approve", candidate=before["id"]).status == 409
        daemon.approve(after["id"])
        assert scene.live(token) == {"a", "o1"}


def test_what_is_due_for_review_is_in_status_metrics_and_an_alarm(tmp_path: Path) -> None:
    scene = Register(tmp_path, reverify="90d")
    daemon = scene.daemon
    daemon.config["alarms"] = {"review_within": "4h"}
    daemon.write_config()
    scene.refs = {"a": "case 17", "b": "https://b.example/case"}
    scene.write(a=400, b=100, c=5)

    def due() -> Any:
        return daemon.ask("status").json["lists"]["national"]["due"]

    def alarms() -> list[str]:
        return [text for text in daemon.ask("status").json["alarms"] if "have been due" in text]

    def shown(*words: str, stdin: bytes = b"") -> str:
        return daemon.cli(*words, "-c", str(daemon.path), stdin=stdin).stdout.decode()

    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        ids = scene.ids(token)
        since = f"{NOW - 310 * DAY:%Y-%m-%d}T00:00:00Z"
        daemon.wait_for(lambda: due() == {"total": 2, "since": since})
        assert f"list national: 2 entries are due, since {since}: run `blocklistd entry due national`" in shown(
            "status"
        )
        assert 'blocklistd_list_entries_due{list="national"} 2.0' in daemon.ops("/metrics").body.decode()
        assert daemon.ask("reload").status == 200
        assert f"entries of list national have been due since {since}" in alarms()[0]
        assert [one["ref"] for one in scene.due()["entries"]] == ["case 17", None], "a reference that has the entry"
        assert "case 17" in shown("entry", "due", "national")
        explained = daemon.ask("entry explain", list="national", entry=ids["a"]).json
        assert (explained["lifetime"]["due"], explained["lifetime"]["ends"], explained["kept"]) == (True, since, None)
        assert daemon.ask("entry explain", list="national", entry=ids["b"]).json["sources"][0]["ref"] is None
        assert f"due since {since} (reverify" in shown(
            "entry", "explain", "national", "--stdin", stdin=ids["a"].encode()
        )
        for name in ("a", "b"):
            assert daemon.ask("entry keep", list="national", ids=[ids[name]], why="seen").status == 200
        assert due() == {"total": 0, "since": None}
        assert daemon.ask("reload").status == 200
        assert alarms() == []
        explained = daemon.ask("entry explain", list="national", entry=ids["a"]).json
        assert (explained["lifetime"]["due"], explained["kept"]["why"]) == (False, "seen")
        assert "lifetime\tuntil 2" in shown("entry", "explain", "national", "--stdin", stdin=ids["a"].encode())
        assert ".example" not in daemon.log


def test_an_entry_that_has_ended_can_not_be_kept_and_is_said_to_be_gone(tmp_path: Path) -> None:
    scene = Register(tmp_path)
    daemon = scene.daemon
    scene.write(a=400, b=5)
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        ids = scene.ids(token)
        scene.set_lifetime(reverify="90d", at_end="expire")
        daemon.wait_for(lambda: scene.live(token) == {"b"})
        refused = daemon.ask("entry keep", list="national", ids=[ids["a"], "e-" + "0" * 32], why="seen")
        assert refused.status == 409
        assert f"{ids['a']} has left the list, as its lifetime has ended" in refused.json["detail"]
        assert f"e-{'0' * 32} is the id of no entry" in refused.json["detail"]

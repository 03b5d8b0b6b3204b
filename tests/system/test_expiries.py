"""Entries that end, through the daemon: from the hotline's `expires` to the feed and the zone of a resolver."""

from __future__ import annotations

import csv
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson

from tests.system.daemon import Daemon
from tests.system.test_zones import ZONE, Scene, Secondary

WARSAW = ZoneInfo("Europe/Warsaw")


class Expiring(Scene):
    """A hotline that writes CSV with local times of Warsaw, a list, and a zone of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.daemon.config["sources"]["hotline"] = {
            "url": f"file:{folder}/list.csv",
            "format": "csv",
            "fields": {"value": "name", "expires": "until"},
            "options": {"timezone": "Europe/Warsaw"},
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "verify": {"method": "none"},
        }
        self.daemon.write_config()

    def list(self, **ends: datetime | None) -> None:
        with open(self.folder / "list.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["name", "until"])
            for name, end in ends.items():
                rows.writerow([f"{name}.example", end.astimezone(WARSAW).strftime("%Y-%m-%d %H:%M:%S") if end else ""])

    def names(self, token: str) -> set[str]:
        lines = self.daemon.snapshot("national", token).splitlines()
        return {orjson.loads(line)["value"].removesuffix(".example") for line in lines}

    def version(self, token: str) -> int:
        number: int = self.daemon.get("/v1/lists/national", token).json["version"]
        return number

    def connected(self) -> tuple[str, Secondary]:
        self.daemon.first_pull("hotline")
        self.daemon.wait_for(lambda: self.daemon.ask("status").json["zones"].get(ZONE) is not None)
        return self.daemon.subscriber("isp", "national"), self.secondary("resolver")


def soon(seconds: int) -> datetime:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).replace(microsecond=0)


def test_an_entry_ends_at_its_time_in_the_feed_and_in_the_zone(tmp_path: Path) -> None:
    scene = Expiring(tmp_path)
    daemon = scene.daemon
    ends = soon(8)
    scene.list(a=None, b=ends, c=ends)
    with daemon:
        token, secondary = scene.connected()
        assert scene.names(token) == {"a", "b", "c"}
        assert secondary.refresh() == 1
        daemon.wait_for(lambda: scene.version(token) == 2)
        assert datetime.now(UTC) >= ends
        assert scene.names(token) == {"a"}
        diff = daemon.get("/v1/lists/national/diffs/1-2", token).body
        assert [next(iter(orjson.loads(line))) for line in diff.splitlines()] == ["remove", "remove"]
        daemon.wait_for(lambda: secondary.refresh() == 2)
        assert secondary.rules == {"a.example", "*.a.example"}
        assert daemon.ask("list versions", list="national").json[0]["kind"] == "expiry"
        assert daemon.ask("status").json["lists"]["national"]["withheld"] == {"expired": 2}
        assert daemon.ask("status").json["candidates"] == []


def test_what_ended_while_the_daemon_was_away_ends_at_its_start(tmp_path: Path) -> None:
    scene = Expiring(tmp_path)
    daemon = scene.daemon
    ends = soon(6)
    scene.list(a=None, b=ends)
    with daemon:
        token, secondary = scene.connected()
        assert scene.names(token) == {"a", "b"}
        assert secondary.refresh() == 1
        daemon.kill()
    daemon.wait_for(lambda: time.time() > ends.timestamp())
    (tmp_path / "list.csv").unlink()  # the hotline is away, too
    with daemon:
        daemon.wait_for(lambda: scene.version(token) == 2)
        assert scene.names(token) == {"a"}
        daemon.wait_for(lambda: secondary.refresh() == 2)


def test_a_record_with_a_date_that_is_not_one_is_rejected_and_its_line_is_named(tmp_path: Path) -> None:
    body = tmp_path / "list.ndjson"
    body.write_bytes(
        b"".join(orjson.dumps({"v": f"n{number}.example", "e": "2099-01-31"}) + b"\n" for number in range(200))
        + b'{"v":"b.example","e":"31.01.2099"}\n{"v":"c.example","e":4070908800}\n'
    )
    source = {
        "url": f"file:{body}",
        "format": "ndjson",
        "fields": {"value": "/v", "expires": "/e"},
        "options": {"timezone": "America/New_York"},
        "defaults": {"type": "domain"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    with Daemon(tmp_path, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}}) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        live = {
            (entry := orjson.loads(line))["value"]: entry for line in daemon.snapshot("national", token).splitlines()
        }
        assert len(live) == 201
        assert live["n0.example"]["expires"] == "2099-02-01T05:00:00Z"
        assert live["c.example"]["expires"] == "2099-01-01T00:00:00Z"
        shown = daemon.ask("source show", source="hotline").json
        assert shown["rejected"] == {"not-a-date": 1}
        assert shown["first_rejected"] == {"not-a-date": 201}

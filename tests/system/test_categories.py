"""A hotline renames a category that a zone selects: the zone keeps its rules until a person has looked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon import Daemon, free_port

ZONE = "rpz.blocklist.example"


class Hotline:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "list.ndjson"
        self.categories = dict.fromkeys((f"n{number:03}.test" for number in range(100)), "severe")
        self.categories |= dict.fromkeys((f"m{number:03}.test" for number in range(400)), "other")
        self.write()

    def write(self) -> None:
        records = [{"v": name, "c": category} for name, category in self.categories.items()]
        self.path.write_text("".join(json.dumps(record) + "\n" for record in records))

    def rename(self, old: str, new: str, most: int = 1000) -> None:
        for name in [name for name, found in self.categories.items() if found == old][:most]:
            self.categories[name] = new
        self.write()


@pytest.fixture
def hotline(tmp_path: Path) -> Hotline:
    return Hotline(tmp_path)


def daemon_of(folder: Path, hotline: Hotline, **guards: Any) -> Daemon:
    source = {
        "url": f"file:{hotline.path}",
        "format": "ndjson",
        "fields": {"value": "/v", "category": "/c"},
        "defaults": {"type": "host"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    config: dict[str, Any] = {
        "sources": {"hotline": source},
        "lists": {"national": {"sources": ["hotline"], "guards": guards}},
        "zones": {ZONE: {"list": "national", "categories": ["severe"]}},
        "dns": {"listen": [f"127.0.0.1:{free_port()}"]},
    }
    return Daemon(folder, config)


def records(daemon: Daemon) -> int:
    return int(daemon.ask("status").json["zones"][ZONE]["records"])


def test_a_renamed_category_is_held_although_no_entry_is_removed(tmp_path: Path, hotline: Hotline) -> None:
    with daemon_of(tmp_path, hotline) as daemon:
        daemon.first_pull("hotline")
        daemon.wait_for(lambda: records(daemon) == 100)
        hotline.rename("severe", "grave")
        pulled = daemon.pull("hotline")
        assert pulled["outcome"] == "held"
        (held,) = daemon.ask("status").json["candidates"]
        assert (held["added"], held["removed"], held["changed"]) == (0, 0, 100)
        assert [reason["guard"] for reason in held["reasons"]] == ["max_removed"]
        assert f"100.0% (100 of 100), of the entries that zone {ZONE} selects" in held["reasons"][0]["found"]
        assert records(daemon) == 100
        daemon.approve(held["id"])
        daemon.wait_for(lambda: records(daemon) == 0)


def test_entries_that_flood_a_selection_are_held_and_few_pass(tmp_path: Path, hotline: Hotline) -> None:
    with daemon_of(tmp_path, hotline) as daemon:
        daemon.first_pull("hotline")
        hotline.rename("other", "severe", 10)
        assert daemon.pull("hotline")["outcome"] != "held"
        daemon.wait_for(lambda: records(daemon) == 110)
        hotline.rename("other", "severe", 100)
        assert daemon.pull("hotline")["outcome"] == "held"
        (held,) = daemon.ask("status").json["candidates"]
        assert {reason["guard"] for reason in held["reasons"]} >= {"max_added"}
        assert records(daemon) == 110


def test_what_a_zone_does_not_select_may_be_renamed(tmp_path: Path, hotline: Hotline) -> None:
    with daemon_of(tmp_path, hotline) as daemon:
        daemon.first_pull("hotline")
        hotline.rename("other", "another")
        assert daemon.pull("hotline")["outcome"] != "held"
        assert records(daemon) == 100


def test_nine_percent_every_time_is_held_by_the_daily_sum(tmp_path: Path, hotline: Hotline) -> None:
    with daemon_of(tmp_path, hotline) as daemon:
        daemon.first_pull("hotline")
        outcomes = []
        for _ in range(3):
            hotline.rename("severe", "grave", 9)
            outcomes.append(daemon.pull("hotline")["outcome"])
        assert outcomes[-1] == "held"
        assert "held" not in outcomes[:-1]
        (held,) = daemon.ask("status").json["candidates"]
        assert "daily.max_removed" in {reason["guard"] for reason in held["reasons"]}

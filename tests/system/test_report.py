"""`list report` through the real daemon: each version counts once, also if the daemon is killed right after it."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.system.daemon import Daemon
from tests.system.test_categories import Hotline


def daemon_of(folder: Path, hotline: Hotline) -> Daemon:
    source: dict[str, Any] = {
        "url": f"file:{hotline.path}",
        "format": "ndjson",
        "fields": {"value": "/v", "category": "/c"},
        "defaults": {"type": "host"},
        "schedule": "every 1d",
        "verify": {"method": "none"},
    }
    return Daemon(folder, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})


def totals(daemon: Daemon) -> tuple[int, int, int] | None:
    """Added, removed and live entries of today; None before there are figures."""
    today = datetime.now(UTC).date().isoformat()
    found = daemon.ask("list report", list="national", **{"from": today, "to": today}).json.get("total")
    return found and (found["added"], found["removed"], found["live"])


def test_a_version_counts_once_even_if_the_daemon_is_killed_after_it(tmp_path: Path) -> None:
    hotline = Hotline(tmp_path)
    with daemon_of(tmp_path, hotline) as daemon:
        daemon.first_pull("hotline")
        daemon.wait_for(lambda: totals(daemon) == (500, 0, 500))
        for number in range(3):
            hotline.categories[f"new{number}.test"] = "severe"
            del hotline.categories[f"m{number:03}.test"]
            hotline.write()
            assert daemon.pull("hotline")["outcome"] == "published"
            daemon.kill()
            daemon.start()
        daemon.wait_for(lambda: totals(daemon) == (503, 3, 500))
        today = datetime.now(UTC).date().isoformat()
        asked = "list", "report", "national", "--from", today, "--to", today, "-c", str(daemon.path)
        made = json.loads(daemon.cli(*asked, "--json").stdout)
        assert {name: found["live"] for name, found in made["categories"].items()} == {"other": 397, "severe": 103}
        assert made["year_before"] is None
        rows = list(csv.DictReader(io.StringIO(daemon.cli(*asked, "--csv").stdout.decode())))
        assert [row["added"] for row in rows if row["group"] == "source"] == ["503"]
        assert ElementTree.fromstring(daemon.cli(*asked, "--svg").stdout).tag.endswith("svg")
        refused = daemon.cli(*asked, "--svg", "--csv", check=False)
        assert (refused.returncode, b"choose one of them" in refused.stderr) == (1, True)

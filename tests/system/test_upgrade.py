"""An upgrade from each earlier schema keeps all data: lists, decisions, subscribers, zones and keys."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.tsig
import pytest

from blocklistd.lines.delta import ENTRIES
from blocklistd.store.migrations import versions
from tests import stored
from tests.stored import FIRST, HELD, LIST, REJECTED, write
from tests.system.daemon import Daemon, free_port
from tests.system.test_zones import Secondary


@pytest.mark.parametrize("version", sorted(path.stem for path in stored.HERE.glob("*.json")))
def test_a_stored_state_is_upgraded(tmp_path: Path, version: str) -> None:
    right = stored.unpack(tmp_path, version)
    port = free_port()
    daemon = stored.daemon(tmp_path, port)
    write(tmp_path, HELD)
    token = right["token"]
    tsig = right["tsig"]
    secondary = Secondary(port, dns.tsig.Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"]))
    with daemon:
        status = daemon.get(f"/v1/lists/{LIST}", token).json
        assert {**status, "expires": None} == {**right["status"], "expires": None}
        snapshot = daemon.snapshot(LIST, token)
        assert hashlib.sha256(snapshot).hexdigest() == right["snapshot"]
        diff = daemon.get(f"/v1/lists/{LIST}/diffs/1-3", token).body
        assert hashlib.sha256(diff).hexdigest() == right["diff"]
        daemon.wait_for(lambda: daemon.ops("/readyz").status == 200)
        assert secondary.refresh("AXFR") == 3
        counted = wait_for_report(daemon)
        entries = len(snapshot.splitlines())
        made_today = right["status"]["published"][:10] == datetime.now(UTC).date().isoformat()
        assert counted["total"]["added"] - counted["total"]["removed"] == (entries if made_today else 0)
        assert counted["total"]["live"] == entries
        assert sum(found["live"] for found in counted["categories"].values()) == counted["total"]["live"]
        # the rejected and the held candidate
        write(tmp_path, REJECTED)
        outcome = daemon.pull("hotline")
        assert (outcome["outcome"], outcome["candidate"]) == ("failed", right["rejected"])
        write(tmp_path, HELD)
        held = daemon.pull("hotline")
        assert held["outcome"] == "held"
        shown = daemon.ask("candidate show", candidate=held["candidate"]).json
        assert {shown[key] == right["held"][key] for key in ("delta", "added", "removed", "reasons")} == {True}
        # the daemon makes the next version
        assert daemon.approve(held["candidate"])["released"]
        now = ids(daemon.snapshot(LIST, token).splitlines())
        assert now.keys() == set(HELD) < set(FIRST)
        removed = [line[len(ENTRIES.remove) : -1] for line in diff.splitlines() if line.startswith(ENTRIES.remove)]
        assert now.items() <= (ids(snapshot.splitlines()) | ids(removed)).items(), (
            "an entry that returns has the same id"
        )
        assert secondary.refresh() == 4
        daemon.wait_for(lambda: report_of_today(daemon)["total"]["live"] == len(HELD))
        counted = report_of_today(daemon)["total"]
        assert counted["added"] - counted["removed"] == len(HELD) - (0 if made_today else entries)
        assert secondary.rules == {rule for name in HELD for rule in (name, f"*.{name}")}
        assert daemon.get(f"/v1/lists/{LIST}", token).json["session"] == right["status"]["session"]
    daemon.cli("check-config", "-c", str(daemon.path))


def report_of_today(daemon: Daemon) -> Any:
    """The figures of today. The day may end meanwhile."""
    today = datetime.now(UTC).date().isoformat()
    return daemon.ask("list report", list=LIST, **{"from": today, "to": today}).json


def wait_for_report(daemon: Daemon) -> Any:
    """The first figures, which a job counts after the start."""
    daemon.wait_for(lambda: "total" in report_of_today(daemon))
    return report_of_today(daemon)


def ids(lines: Iterable[bytes]) -> dict[str, str]:
    """The id of each value."""
    return {entry["value"]: entry["id"] for entry in map(json.loads, lines)}


def test_every_schema_has_a_stored_state() -> None:
    """There is a stored state of each released version that changed the schema, except the newest."""
    migrations = sorted(Path(versions.__path__[0]).glob("m*.py"))
    of = [re.findall(r"of version ([\d.]+\d)", path.read_text().splitlines()[0]) for path in migrations]
    assert all(of), "a migration's first line contains `of version N`"
    released = {version for found in of[:-1] for version in found if version != of[-1][0]}
    assert released
    assert released <= {path.stem for path in stored.HERE.glob("*.json")}

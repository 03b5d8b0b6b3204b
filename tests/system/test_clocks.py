"""A wrong clock raises an alarm; nothing expires by it, and no signature is replaced by one that expires earlier."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.system.daemon import Daemon
from tests.system.test_signing import Fetcher, daemon_of, updater
from tests.system.test_zones import ZONE, Scene

TIMES = {
    "versions": ("time",),
    "tuf_metadata": ("signed",),
    "sources": ("last_pull", "last_accepted"),
    "audit": ("time",),
    "list_sources": ("time",),
}


def shift(state: Path, by: timedelta) -> None:
    """Moves all recorded times by `by`, as if the clock had been set back by that much since."""
    with contextlib.closing(sqlite3.connect(state / "blocklistd.sqlite")) as database:
        database.execute("DROP TRIGGER IF EXISTS audit_no_update")
        for table, columns in TIMES.items():
            for column in columns:
                rows = database.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
                for row, text in rows:
                    moved = (datetime.fromisoformat(text) + by).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                    database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (moved, row))
        database.commit()


def expires(daemon: Daemon, token: str) -> datetime:
    signed: dict[str, Any] = daemon.get("/v1/lists/one/metadata/timestamp.json", token).json["signed"]
    return datetime.fromisoformat(signed["expires"])


@pytest.mark.parametrize(
    ("by", "says"),
    [
        (timedelta(days=30), "behind the newest recorded time"),
        (timedelta(days=-400), "more than a year ahead of the newest recorded time"),
    ],
    ids=["behind", "ahead"],
)
def test_a_wrong_clock_raises_an_alarm_and_makes_nothing_expire(tmp_path: Path, by: timedelta, says: str) -> None:
    daemon = daemon_of(tmp_path)
    with daemon:
        daemon.first_pull("one")
        daemon.first_pull("two")
        token = daemon.subscriber("isp", "one")
        (tmp_path / "one").write_text("one.example\nanother.example\n")
        assert daemon.pull("one")["outcome"] == "published"
        before = expires(daemon, token)
    shift(tmp_path / "state", by)
    with daemon:
        daemon.wait_for(lambda: any(says in text for text in daemon.ask("status").json["alarms"]))
        assert daemon.logged(says) == 1
        assert 'blocklistd_alarms_active{alarm="clock"} 1.0' in daemon.ops("/metrics").body.decode()
        ready = daemon.ops("/readyz")
        assert (ready.status, says.encode() in ready.body) == (200, True)
        assert expires(daemon, token) >= before, "a better signature is not replaced by a worse one"
        updater(daemon, "one", tmp_path / "before", Fetcher(token)).refresh()  # valid by the right clock
        # new signatures are valid by either clock, and diffs are kept
        (tmp_path / "one").write_text("one.example\nanother.example\nthird.example\n")
        assert daemon.pull("one")["outcome"] == "published"
        assert expires(daemon, token) >= before
        client = updater(daemon, "one", tmp_path / "after", Fetcher(token))
        target = client.get_targetinfo("one.ndjson")
        assert target is not None
        assert target.custom["version"] == 3
        assert daemon.get("/v1/lists/one/diffs/1-3", token).status == 200
    shift(tmp_path / "state", -by)
    with daemon:  # as if the clock were right again
        daemon.wait_for(
            lambda: abs(expires(daemon, token) - datetime.now(UTC) - timedelta(days=1)) < timedelta(hours=1)
        )
        assert daemon.ask("status").json["alarms"] == []


def test_a_wrong_clock_keeps_no_secondary_out_and_start_above_clears_its_alarm(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    says = "if it is right, run `blocklistd start-above N`"
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        secondary = scene.secondary("resolver")
        daemon.wait_for(lambda: daemon.ask("status").json["zones"].get(ZONE) is not None)
        assert secondary.refresh("AXFR") == 1
    shift(tmp_path / "state", timedelta(days=30))
    with scene.daemon as daemon:
        assert says in str(daemon.ask("status").json["alarms"])
        assert secondary.refresh() == 1
        assert scene.secondary("another").refresh("AXFR") == 1
        daemon.cli("start-above", "1000", "-c", str(daemon.path))
        assert daemon.ask("status").json["alarms"] == []
        assert secondary.refresh() == 1001
    with scene.daemon as daemon:
        assert daemon.ask("status").json["alarms"] == []
        assert secondary.refresh() == 1001
    shift(tmp_path / "state", timedelta(days=30))
    with scene.daemon as daemon:
        assert says in str(daemon.ask("status").json["alarms"]), "times recorded after start-above count"

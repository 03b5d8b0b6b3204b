"""An upgrade from each earlier schema keeps all data: lists, decisions, subscribers, zones and keys."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dns.tsig
import pytest
from sqlalchemy import event

from blocklistd.lines.delta import ENTRIES
from blocklistd.store.database import NEWEST_MIGRATION, Database
from blocklistd.store.migrations import versions
from tests import stored
from tests.stored import FIRST, HELD, LIST, REJECTED, write
from tests.system.daemon import Daemon, free_port
from tests.system.test_zones import Secondary


@pytest.mark.parametrize("version", sorted(path.stem for path in stored.HERE.glob("*.json")))
def test_a_stored_state_is_upgraded(tmp_path: Path, version: str) -> None:
    right = stored.unpack(tmp_path, version)
    before = rows(tmp_path)
    assert before["versions"]
    assert before["zone_serials"]
    assert len(before["subscribers"]) == 2
    assert before["audit"] or version == "0.2.0", "the audit exists since 0.3.0"
    port = free_port()
    daemon = stored.daemon(tmp_path, port)
    write(tmp_path, HELD)
    token = right["token"]
    tsig = right["tsig"]
    secondary = Secondary(port, dns.tsig.Key(tsig["name"], base64.b64decode(tsig["secret"]), tsig["algorithm"]))
    with daemon:
        upgraded = rows(tmp_path)
        for table, found in before.items():
            assert upgraded[table][: len(found)] == found, table
        assert daemon.ask("audit verify").json["wrong"] is None
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


KEPT = {
    "versions": "list, version, sha256, entries, delta",
    "zone_serials": "zone, serial, list, version, rules",
    "subscribers": "id, token, created, created_by, revoked",
    "subscriber_lists": "subscriber, list",
    "subscriber_zones": "subscriber, zone",
    "tsig_keys": "name, subscriber, algorithm, secret",
    "audit": "number, time, actor, uid, action, object, detail, hash",
}
"""Columns that no upgrade changes, by table."""


def rows(folder: Path) -> dict[str, list[Any]]:
    """The rows of the tables of KEPT in their order; none of a table that does not exist yet."""
    with contextlib.closing(sqlite3.connect(folder / "state" / "blocklistd.sqlite")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            table: database.execute(f"SELECT {columns} FROM {table} ORDER BY {columns}").fetchall()
            if table in tables
            else []
            for table, columns in KEPT.items()
        }


class Killed(BaseException):
    """Ends a migration as a failure in its middle does."""


def migrate_until(path: Path, step: int, end: Callable[[], None]) -> None:
    """Migrates the database, and calls `end` right after the step has changed the schema and its number."""
    database, seen = Database(path), 0

    @event.listens_for(database.engine, "after_cursor_execute")
    def count(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        nonlocal seen
        if "alembic_version" in statement and statement.startswith(("INSERT", "UPDATE")):
            seen += 1
            if seen == step:
                end()

    try:
        database.migrate()
    finally:
        database.close()


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_migration_that_is_interrupted_at_any_step_is_taken_up_again(tmp_path: Path, how: str) -> None:
    """It is one transaction: after each interruption the database is as before."""
    stored.unpack(tmp_path, "0.2.0")
    path = tmp_path / "state" / "blocklistd.sqlite"
    before, steps = rows(tmp_path), int(NEWEST_MIGRATION) - 1
    for step in range(1, steps + 1):
        if how == "failed":
            with pytest.raises(Killed):
                migrate_until(path, step, raise_killed)
        else:
            pid = os.fork()
            if not pid:
                migrate_until(path, step, lambda: os.kill(os.getpid(), signal.SIGKILL))
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, step
        assert rows(tmp_path) == before
        with contextlib.closing(sqlite3.connect(path)) as found:
            assert found.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)], step
            assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database = Database(path)
    database.migrate()
    database.take_over()
    database.close()
    now = rows(tmp_path)
    for table, lines in before.items():
        assert not lines or now[table] == lines, table


def raise_killed() -> None:
    raise Killed


def test_a_newer_schema_is_refused_with_both_numbers_and_nothing_is_touched(tmp_path: Path) -> None:
    newest = max(path.stem for path in stored.HERE.glob("*.json"))
    stored.unpack(tmp_path, newest)
    daemon = stored.daemon(tmp_path, free_port())
    path = tmp_path / "state" / "blocklistd.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = rows(tmp_path)
    done = daemon.cli("serve", "-c", str(daemon.path), check=False)
    assert done.returncode == 1
    assert f"its schema is 9999, this program knows up to {NEWEST_MIGRATION}" in done.stderr.decode()
    assert rows(tmp_path) == before


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

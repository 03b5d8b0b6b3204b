"""Housekeeping that fails ends nothing that is served: it is an alarm, and is tried again."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from tests.system.daemon import Daemon
from tests.system.test_zones import ZONE, Scene, Secondary

DAMAGE = re.compile(rb"newest\s+backup\s+of\s+the\s+database|the database is damaged")


def damage_table(database: Path, table: str) -> None:
    """Overwrites the root page of a table, of a database that nobody has open."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with open(database, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


@pytest.mark.parametrize("table", ["sources", "candidates", "pulls", "audit"])
def test_a_damaged_page_of_one_table_ends_nothing_that_is_served(tmp_path: Path, table: str) -> None:
    scene = Scene(tmp_path)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        secondary = scene.secondary("resolver")
        daemon.wait_for(lambda: daemon.ask("status").json["zones"].get(ZONE) is not None)
        assert secondary.refresh("AXFR") == 1
        before = daemon.snapshot("national", token)
    damage_table(tmp_path / "state" / "blocklistd.sqlite", table)
    with scene.daemon as daemon:

        def alarms() -> list[str]:
            answer = daemon.ask("status")
            assert answer.status == 200, answer.body
            found: list[str] = answer.json["alarms"]
            return found

        daemon.wait_for(lambda: any("the database is damaged" in text for text in alarms()))
        daemon.wait_for(lambda: "schedule pulls" in str(alarms()) or table != "sources")
        assert daemon.snapshot("national", token) == before
        assert Secondary(scene.port, secondary.key).refresh("AXFR") == 1
        ready = daemon.ops("/readyz")
        assert ready.status == 200
        assert b"the database is damaged" in ready.body
        assert 'blocklistd_alarms_active{alarm="database"} 1.0' in daemon.ops("/metrics").body.decode()
        assert daemon.process is not None
        assert daemon.process.poll() is None


def test_a_database_in_order_is_no_alarm(tmp_path: Path) -> None:
    with Daemon(tmp_path, {}) as daemon:
        daemon.wait_for(lambda: "blocklistd_alarms_active" in daemon.ops("/metrics").body.decode())
        assert daemon.ask("status").json["alarms"] == []


def test_a_database_that_nothing_can_be_served_from_is_said_to_everybody_until_it_is_put_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        daemon.wait_for(lambda: daemon.ask("status").json["zones"].get(ZONE) is not None)
        before = daemon.snapshot("national", token)
    database = tmp_path / "state" / "blocklistd.sqlite"
    for what in ("subscribers", "lists", "meta", "the header"):
        good, head = database.read_bytes(), (tmp_path / "state" / "audit-head").read_bytes()
        if what == "the header":
            database.write_bytes(b"\xa5" * 100 + good[100:])
        else:
            damage_table(database, what)
        with scene.daemon as daemon:
            assert daemon.get("/v1/lists/national", token).status == 503, what
            halted = scene.ask(dns.message.make_query(ZONE, "SOA")).rcode() == dns.rcode.SERVFAIL
            assert halted or what == "lists", "without the lists, the zones are served"
            assert daemon.ops("/readyz").status == 503
            daemon.wait_for(lambda: DAMAGE.search(daemon.ops("/readyz").body) is not None)
            status = daemon.cli("status", "-c", str(daemon.path), check=False)
            assert DAMAGE.search(status.stdout + status.stderr), what
            refused = daemon.ask("source pull", source="hotline")
            assert refused.status == 500 or refused.json["outcome"] == "failed"
        for path in database.parent.glob("blocklistd.sqlite*"):
            path.unlink()
        database.write_bytes(good)
        (tmp_path / "state" / "audit-head").write_bytes(head)  # else the line of the pull that failed is missing
        with scene.daemon as daemon:
            assert daemon.snapshot("national", token) == before

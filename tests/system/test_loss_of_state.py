"""With an older state, or none, nothing is served and no number is made, until an operator begins anew above all."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import dns.message
import dns.rcode
import dns.xfr
import pytest

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from tests.system.daemon import Daemon
from tests.system.test_operations import values
from tests.system.test_zones import ORIGIN, ZONE, Scene, Secondary


class Lost:
    """A publisher with three versions, a subscriber that has the newest, and a secondary too; stopped."""

    def __init__(self, folder: Path) -> None:
        self.scene = Scene(folder)
        self.daemon: Daemon = self.scene.daemon
        self.state = folder / "state"
        with self.daemon as daemon:
            daemon.first_pull("hotline")
            (folder / "token").write_text(daemon.subscriber("isp", "national"))
            self.token = (folder / "token").read_text()
            self.secondary = self.scene.secondary("resolver")
            self.scene.publish("a.example", "b.example")
            daemon.stop()
            shutil.copytree(self.state, folder / "older")
            daemon.start()
            self.scene.publish("a.example", "b.example", "c.example")
            assert self.secondary.refresh("AXFR") == 3
            self.options = Options(
                url=f"http://127.0.0.1:{daemon.feed_port}",
                list="national",
                root=daemon.root,
                dir=folder / "isp",
                token_file=folder / "token",
            )
            assert self.sync() == 3

    def sync(self) -> int:
        return int(sync_once(self.options, lambda text: None).version)

    def check_that_nothing_is_served(self) -> None:
        daemon = self.daemon
        for token in (self.token, None, "unknown"):
            for path in ("/v1/lists", "/v1/lists/national", "/v1/lists/national/metadata/timestamp.json"):
                assert daemon.get(path, token).status == 503, path
        signed = dns.message.make_query(ORIGIN, "SOA")
        signed.use_tsig(self.secondary.key)
        for tcp in (False, True):
            plain = self.scene.ask(dns.message.make_query(ORIGIN, "SOA"), tcp=tcp)
            assert plain.rcode() == dns.rcode.SERVFAIL
        with pytest.raises((dns.xfr.TransferError, dns.exception.DNSException)):
            Secondary(self.scene.port, self.secondary.key).refresh("AXFR")
        ready = daemon.ops("/readyz")
        assert ready.status == 503
        assert b"blocklistd start-above N" in ready.body
        assert "start-above N" in daemon.ask("status").json["alarms"][0]
        refused = daemon.ask("source pull", source="hotline")
        assert refused.status == 500
        assert "start-above N" in refused.json["detail"]
        assert daemon.ask("subscriber add", id="another", lists=["national"]).status == 500

    def numbers(self) -> tuple[object, ...]:
        with contextlib.closing(sqlite3.connect(self.state / "blocklistd.sqlite")) as database:
            return tuple(
                database.execute(f"SELECT max({column}) FROM {table}").fetchone()[0]
                for column, table in (("version", "versions"), ("version", "tuf_metadata"), ("serial", "zone_serials"))
            )


@pytest.fixture
def lost(tmp_path: Path) -> Lost:
    return Lost(tmp_path)


def put_back(state: Path) -> None:
    """The whole state, but for the high-water file, which stands on another disk."""
    (state / "high-water").rename(state.parent / "kept")
    shutil.rmtree(state)
    shutil.copytree(state.parent / "older", state)
    (state.parent / "kept").replace(state / "high-water")


def put_database_back(state: Path) -> None:
    for name in ("", "-wal", "-shm"):
        (state / f"blocklistd.sqlite{name}").unlink(missing_ok=True)
    shutil.copy(state.parent / "older" / "blocklistd.sqlite", state)


@pytest.mark.parametrize("back", [put_back, put_database_back])
def test_an_older_state_is_not_served_and_begins_anew_above(lost: Lost, back: Callable[[Path], None]) -> None:
    back(lost.state)
    before = lost.numbers()
    with lost.daemon as daemon:
        lost.check_that_nothing_is_served()
        assert lost.numbers() == before, "nothing is minted"
        daemon.kill()
        daemon.start()
        lost.check_that_nothing_is_served()
        low = daemon.cli("start-above", "2", "-c", str(daemon.path), check=False)
        assert low.returncode == 1
        assert b"at least" in low.stderr
        lost.check_that_nothing_is_served()
        daemon.cli("start-above", "1000", "-c", str(daemon.path))
        daemon.wait_for(lambda: daemon.ops("/readyz").status == 200)
        daemon.wait_for(lambda: daemon.ask("status").json["zones"].get(ZONE, {}).get("serial", 0) > 1000)
        assert lost.sync() == 1001
        assert values(daemon.snapshot("national", lost.token)) == {"a.example", "b.example"}
        assert lost.secondary.refresh() > 1000
        assert lost.secondary.rules == {"a.example", "*.a.example", "b.example", "*.b.example"}
        assert daemon.pull("hotline")["outcome"] == "published"
        assert lost.sync() == 1002
        lost.secondary.refresh()
        assert "c.example" in lost.secondary.rules
        daemon.kill()
        daemon.start()
        assert lost.sync() == 1002


def test_a_log_of_the_database_that_is_lost_with_a_revocation_is_known_by_the_audit(lost: Lost) -> None:
    """No number is lost with it."""
    with lost.daemon as daemon:
        new = daemon.subscriber("another", "national")
        assert daemon.ask("subscriber revoke", id="isp").status == 200
        daemon.kill()
        for name in ("-wal", "-shm"):
            (lost.state / f"blocklistd.sqlite{name}").unlink()
        daemon.start()
        for token in (lost.token, new):
            assert daemon.get("/v1/lists", token).status == 503
        lost.check_that_nothing_is_served()
        assert b"the audit has line " in daemon.ops("/readyz").body
        daemon.cli("start-above", "1000", "-c", str(daemon.path))
        assert daemon.ask("subscriber revoke", id="isp").status == 200
        for _ in range(2):
            daemon.wait_for(lambda: daemon.ops("/readyz").status == 200)
            assert daemon.get("/v1/lists", lost.token).status == 401
            assert daemon.ask("audit verify").json["wrong"] is None
            assert daemon.log.count("the audit does not continue") == 1, "before it began anew"
            daemon.kill()
            daemon.start()


@pytest.mark.parametrize("high_water", [True, False], ids=["with the file", "without"])
def test_sealed_files_without_their_database_are_not_served(lost: Lost, high_water: bool) -> None:
    for name in ("", "-wal", "-shm"):
        (lost.state / f"blocklistd.sqlite{name}").unlink(missing_ok=True)
    if not high_water:
        (lost.state / "high-water").unlink()
    sealed = {path for path in (lost.state / "sealed").rglob("*") if path.is_file() and path.suffix == ""}
    with lost.daemon as daemon:
        lost.check_that_nothing_is_served()
        daemon.kill()
        daemon.start()
        lost.check_that_nothing_is_served()
        assert sealed <= {path for path in (lost.state / "sealed").rglob("*") if path.is_file()}, "nothing is swept"
        hotline = lost.daemon.folder / "list.ndjson"
        hotline.rename(hotline.with_name("away"))
        daemon.cli("start-above", "1000", "-c", str(daemon.path))
        roles = json.loads((lost.state / "high-water").read_bytes())["lists"]["national"]
        assert {roles[name] for name in ("targets", "snapshot", "timestamp")} == {1001}, "what is served is in the file"
        hotline.with_name("away").rename(hotline)
        daemon.pull("hotline")
        token = daemon.subscriber("isp", "national")
        (lost.daemon.folder / "token").write_text(token)
        assert lost.sync() == 1001
        daemon.wait_for(lambda: daemon.ask("status").json["zones"].get(ZONE, {}).get("serial") == 1001)


def test_a_high_water_file_that_is_gone_is_a_loss_and_one_that_was_moved_is_none(lost: Lost) -> None:
    disk = lost.state.parent / "disk"
    disk.mkdir()
    (lost.state / "high-water").rename(disk / "high-water")
    with lost.daemon as daemon:
        lost.check_that_nothing_is_served()
        assert f"{lost.state / 'high-water'} is missing" in daemon.ask("status").json["alarms"][0]
        daemon.stop()
        daemon.config["high_water"] = str(disk / "high-water")
        daemon.write_config()
        daemon.start()
        assert daemon.get("/v1/lists/national", lost.token).json["version"] == 3
        lost.scene.publish("d.example")
        daemon.stop()
        (disk / "high-water").rename(disk / "unmounted")
        shutil.rmtree(lost.state)
        shutil.copytree(lost.state.parent / "older", lost.state)
        daemon.start()
        lost.check_that_nothing_is_served()
        daemon.kill()
        daemon.start()
        lost.check_that_nothing_is_served()
        daemon.stop()
        (disk / "unmounted").rename(disk / "high-water")
        daemon.start()
        lost.check_that_nothing_is_served()
        assert "the database is older" in daemon.ask("status").json["alarms"][0]
        daemon.cli("start-above", "1000", "-c", str(daemon.path))
        assert lost.sync() == 1001


def test_what_can_not_be_written_to_the_high_water_file_is_not_served_after_a_restart_either(lost: Lost) -> None:
    with lost.daemon as daemon:
        daemon.wait_for(lambda: daemon.ops("/readyz").status == 200)
        marks = (lost.state / "high-water").read_bytes()
        (lost.state / ".high-water.new").mkdir()
        lost.scene.write("d.example")
        daemon.pull("hotline")
        for restarts in range(3):
            if restarts:
                daemon.kill()
                daemon.start()
            assert daemon.get("/v1/lists/national", lost.token).json["version"] == 3
            assert lost.sync() == 3
            assert lost.secondary.refresh() == 3
            assert any("high-water file can't be written" in text for text in daemon.ask("status").json["alarms"])
        assert (lost.state / "high-water").read_bytes() == marks
        (lost.state / ".high-water.new").rmdir()
        daemon.kill()
        daemon.start()
        assert daemon.get("/v1/lists/national", lost.token).json["version"] == 4


def test_a_client_that_knows_a_higher_number_raises_one_alarm(lost: Lost) -> None:
    shutil.rmtree(lost.state)
    shutil.copytree(lost.state.parent / "older", lost.state)  # nothing here shows it; those who have the numbers do
    with lost.daemon as daemon:
        for _ in range(2):
            assert daemon.get("/v1/lists/national/diffs/3-4", lost.token).status == 404
            assert daemon.get("/v1/lists/national/diffs/1-9", lost.token).status == 404
            assert daemon.get("/v1/lists/national/diffs/3-4", "unknown").status == 401
            with pytest.raises(dns.xfr.SerialWentBackwards):
                lost.secondary.refresh()
        alarms = daemon.ask("status").json["alarms"]
        assert [text.partition(",")[0] for text in alarms] == [
            "subscriber isp asks for a diff from version 3 of list national",
            f"a secondary of resolver has serial 3 of zone {ZONE}",
        ]
        for text in alarms:
            assert daemon.logged(text) == 1
        assert 'blocklistd_alarms_active{alarm="client_ahead"} 2.0' in daemon.ops("/metrics").body.decode()
        assert daemon.ops("/readyz").status == 200
        daemon.stop()
        daemon.start()
        assert daemon.ask("status").json["alarms"] == alarms, "a restart ends no alarm of a claim"

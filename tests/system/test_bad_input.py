"""Faults of hotlines, disks and administrators: each is reported in a clear line, and nothing live changes."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from blocklistd.limits import MIB, RESERVE
from blocklistd.store.upkeep import RESERVED
from tests.damage import fill, small_disk
from tests.sim.hotline import Fault, HotlineThread
from tests.system.daemon import Daemon

NAMES = [f"n{number}.example" for number in range(1500)]
LONG_NAME = ".".join(["abcdefgh"] * 31 + ["example"])  # 254 octets and more


@pytest.fixture
def hotline() -> Iterator[HotlineThread]:
    with HotlineThread() as simulator:
        simulator.publish(NAMES)
        yield simulator


def config(hotline: HotlineThread, folder: Path, **source: object) -> dict[str, object]:
    key = folder / "hotline.pub"
    key.write_text(hotline.public_key_text)
    return {
        "sources": {
            "hotline": {
                "url": hotline.url,
                "format": "text",
                "defaults": {"type": "domain"},
                "schedule": "every 1d",
                "timeout": "3s",
                "max_bytes": "1MiB",
                "verify": {"method": "minisign", "key": str(key), "signature": f"{hotline.url}.minisig"},
                **source,
            }
        },
        "lists": {"national": {"sources": ["hotline"]}},
    }


FAULTS = {
    Fault.TRUNCATED: ("failed", "cut short"),
    Fault.EMPTY: ("failed", "empty body"),
    Fault.HTML: ("failed", "HTML"),
    Fault.WRONG_SIGNATURE: ("failed", "key"),
    Fault.SIGNATURE_OF_OTHER_BODY: ("failed", "signature"),
    Fault.NO_SIGNATURE: ("failed", "404"),
    Fault.STALE: ("failed", "served again"),
    Fault.BOMB: ("failed", "bytes when decompressed"),
    Fault.SLOW: ("failed", "3 s"),
    Fault.UNASKED_304: ("failed", "304"),
    Fault.REDIRECT_CIRCLE: ("failed", "circle"),
    Fault.UNAVAILABLE: ("failed", "503"),
    Fault.WRONG_CODING: ("failed", "gzip"),
    Fault.UNKNOWN_CODING: ("failed", "coding|encoding"),
    Fault.SHRUNK: ("held", "max_removed"),
}


@pytest.mark.slow  # 17 faults, each between two publications; one of them is to be slow for 3 s
def test_each_fault_of_a_hotline_has_its_outcome_and_changes_nothing_live(
    tmp_path: Path, hotline: HotlineThread
) -> None:
    hotline.bomb_bytes = 256 * MIB
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        for round_, (fault, (outcome, says)) in enumerate(FAULTS.items(), 2):
            names = [*NAMES, *(f"round{n}.example" for n in range(round_))]
            hotline.publish(names)
            assert daemon.pull("hotline")["outcome"] == "published"
            hotline.publish([*names, "next.example"])
            if fault is Fault.STALE:  # what is served again has to be something that was superseded
                assert daemon.pull("hotline")["outcome"] == "published"
            live = daemon.snapshot("national", token)
            if fault is Fault.UNASKED_304:
                daemon.config["sources"]["hotline"]["url"] = hotline.url + "?other"  # no validators of another URL
                daemon.write_config()
                _reload(daemon)
            hotline.fault = fault
            pulled = daemon.pull("hotline")
            assert pulled["outcome"] == outcome, (fault, pulled)
            assert _matches(says, pulled["reason"]), (fault, pulled)
            assert "\n" not in pulled["reason"]
            assert daemon.snapshot("national", token) == live, fault
            shown = daemon.ask("status").json["sources"]["hotline"]
            assert (shown["outcome"], shown["reason"]) == (outcome, pulled["reason"])
            hotline.fault = None
            hotline.publish([*names, "after.example"])
            assert daemon.pull("hotline")["outcome"] == "published", fault
        kept = daemon.ask("source evidence", source="hotline").json
        assert {one["verdict"] for one in kept} == {"refused", "accepted", "held"}
        assert "Traceback" not in daemon.log


def test_a_decompression_bomb_fails_only_its_pull(tmp_path: Path, hotline: HotlineThread) -> None:
    """The pull fails, and uses no more disk than max_bytes."""
    body = tmp_path / "list.txt"
    body.write_text("".join(f"{name}\n" for name in NAMES))
    settings = {"url": f"file:{body}", "verify": {"method": "none"}, "max_bytes": "16MiB"}
    with Daemon(tmp_path, config(hotline, tmp_path, **settings)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        live = daemon.snapshot("national", token)
        body.write_bytes(gzip.compress(bytes(64 * MIB)) * 160)
        failed = daemon.pull("hotline")
        assert failed["outcome"] == "failed"
        assert f"more than {128 * MIB} bytes when decompressed" in failed["reason"]
        assert daemon.snapshot("national", token) == live
        assert not list((tmp_path / "state" / "work").iterdir())


def _matches(pattern: str, found: str) -> bool:
    import re

    return re.search(pattern, found) is not None


def _reload(daemon: Daemon) -> None:
    assert daemon.process is not None
    before = daemon.log.count("reloaded")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for(lambda: daemon.log.count("reloaded") > before)


def test_old_content_with_a_new_signature_is_accepted(tmp_path: Path, hotline: HotlineThread) -> None:
    """A hotline may publish old content again; only an old signature is a replay."""
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
        first = hotline.current
        hotline.publish([*NAMES, "new.example"])
        assert daemon.pull("hotline")["versions"] == {"national": 2}
        hotline.republish(first)
        refused = daemon.pull("hotline")
        assert refused["outcome"] == "failed"
        hotline.publish(NAMES)
        assert daemon.pull("hotline")["versions"] == {"national": 3}


def test_a_late_signature_is_fetched_once_more(tmp_path: Path, hotline: HotlineThread) -> None:
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
        hotline.publish([*NAMES, "new.example"])
        hotline.fault = Fault.SIGNATURE_LATE
        assert daemon.pull("hotline")["outcome"] == "published"


@pytest.mark.parametrize(
    "bad",
    [b"\xff\xfe.example", LONG_NAME.encode(), b"a" * 64 + b".example", b"*.example", b"192.0.2.1", b"a..example"],
    ids=["not-utf8", "name-over-253", "label-over-63", "wildcard", "address", "empty-label"],
)
def test_rejected_records_are_skipped_up_to_max_rejected(tmp_path: Path, hotline: HotlineThread, bad: bytes) -> None:
    """A few rejected records are counted and skipped; more than max_rejected hold the change. No reason repeats one."""
    body = "".join(f"{name}\n" for name in NAMES).encode()
    hotline.publish(body + b"one.example\n" + bad + b"\n")
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        live = daemon.snapshot("national", token)
        assert live.count(b"\n") == len(NAMES) + 1
        assert sum(daemon.ask("source show", source="hotline").json["rejected"].values()) == 1
        hotline.publish(body + (bad + b"\n") * 20)
        held = daemon.pull("hotline")
        assert held["outcome"] == "held"
        assert "max_rejected" in held["reason"]
        assert daemon.snapshot("national", token) == live
        hotline.publish((bad + b"\n") * 20)
        failed = daemon.pull("hotline")
        assert failed["outcome"] == "failed"
        assert "none of 20 records" in failed["reason"]
        assert daemon.snapshot("national", token) == live


def test_a_corrected_body_supersedes_a_candidate_held_for_rejected_records(
    tmp_path: Path, hotline: HotlineThread
) -> None:
    """A newer body with the same entries supersedes, too: it may no longer contain the rejected records."""
    body = "".join(f"{name}\n" for name in [*NAMES, "one.example"]).encode()
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
        hotline.publish(body + b"*.example\n" * 30)
        first = daemon.pull("hotline")
        assert "(30 of 1531)" in first["reason"]
        assert daemon.pull("hotline") == first
        hotline.publish(body + b"*.example\n" * 20)
        second = daemon.pull("hotline")
        assert (second["outcome"], "(20 of 1521)" in second["reason"]) == ("held", True)
        hotline.publish(body)
        assert daemon.pull("hotline")["versions"] == {"national": 2}
        assert daemon.ask("candidate list").json == []


def test_a_rejected_body_stays_rejected(tmp_path: Path, hotline: HotlineThread) -> None:
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
        hotline.publish(NAMES[:700])
        held = daemon.pull("hotline")
        assert daemon.pull("hotline") == held, "a 304 while one is held answers held"
        rejected = daemon.ask("candidate reject", candidate=held["candidate"], why="a mistake")
        assert rejected.status == 200
        assert daemon.pull("hotline")["outcome"] == "failed"
        hotline.publish(list(reversed(NAMES[:700])))  # signed again and in another order: the same content
        again = daemon.pull("hotline")
        assert again["outcome"] == "failed"
        assert "rejected" in again["reason"]
        assert daemon.ask("candidate approve", candidate=held["candidate"]).status == 409
        hotline.publish([*NAMES, "new.example"])
        assert daemon.pull("hotline")["versions"] == {"national": 2}


def test_a_newer_body_supersedes_a_held_candidate(tmp_path: Path, hotline: HotlineThread) -> None:
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
        hotline.publish(NAMES[:700])
        first = daemon.pull("hotline")["candidate"]
        hotline.publish(NAMES[:600])
        second = daemon.pull("hotline")["candidate"]
        assert [c["id"] for c in daemon.ask("candidate list").json] == [second]
        assert daemon.ask("candidate show", candidate=first).json["state"] == "superseded"
        assert daemon.ask("candidate approve", candidate=first).status == 409
        assert daemon.approve(second)["version"] == 2
        assert daemon.pull("hotline")["outcome"] == "unchanged"


def test_a_full_disk_changes_nothing_live(tmp_path: Path, hotline: HotlineThread) -> None:
    """The reason contains the remedy; with free space again the same pull succeeds."""
    with small_disk(tmp_path / "state", 6 * MIB) as state, Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.pull("hotline")
        token = daemon.subscriber("isp", "national")
        live = daemon.snapshot("national", token)
        daemon.wait_for(lambda: (state / RESERVED).exists() and (state / RESERVED).stat().st_size == RESERVE)
        fill(state, but=64 << 10)
        hotline.publish([*NAMES, "new.example"])
        failed = daemon.pull("hotline")
        assert failed["outcome"] == "failed"
        assert _matches("disk is full|No space left|full", failed["reason"]), failed
        assert daemon.snapshot("national", token) == live
        daemon.stop()
        fill(state)
        daemon.start()  # what can be made again makes room for it
        assert daemon.snapshot("national", token) == live
        (state / "ballast").unlink()
        assert daemon.pull("hotline")["versions"] == {"national": 2}


@pytest.mark.slow  # 40 pulls of 20,000 names
def test_a_short_disk_has_room_for_any_number_of_versions(tmp_path: Path, hotline: HotlineThread) -> None:
    """Superseded files are deleted at once: all versions together would not fit on the disk."""
    with small_disk(tmp_path / "state", 64 * MIB) as state, Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        names = [f"n{number}.example" for number in range(20_000)]
        hotline.publish(names)
        daemon.first_pull("hotline")
        for version in range(2, 42):
            hotline.publish([*names, f"m{version}.example"])
            assert daemon.pull("hotline")["versions"] == {"national": version}
        with sqlite3.connect(state / "blocklistd.sqlite") as database:
            (written,) = database.execute("SELECT sum(length) FROM versions").fetchone()
        assert written > 64 * MIB


# -- what an administrator gets wrong ------------------------------------------------------------------------------


def fails_to_start(daemon: Daemon) -> str:
    """The one line on stderr."""
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(30) in (1, 2)
    last = daemon.log.strip().splitlines()[-1]
    assert "Traceback" not in daemon.log
    return last


def test_a_second_daemon_on_one_state_dir_is_refused(tmp_path: Path, hotline: HotlineThread) -> None:
    with Daemon(tmp_path, config(hotline, tmp_path)) as first:
        assert first.process is not None
        other = tmp_path / "other"
        other.mkdir()
        second = Daemon(other, config(hotline, other) | {"state_dir": str(tmp_path / "state")})
        said = fails_to_start(second)
        assert "in use by another daemon" in said
        assert str(first.process.pid) in said
        assert first.ops("/readyz").status == 200


def test_a_wrong_key_file_is_an_error(tmp_path: Path, hotline: HotlineThread) -> None:
    daemon = Daemon(tmp_path, config(hotline, tmp_path))
    daemon.init_keys()
    online = tmp_path / "keys" / "online.pem"
    right = online.read_bytes()
    online.write_bytes((tmp_path / "root" / "root-1.pem").read_bytes())
    assert "another key" in fails_to_start(daemon)
    online.write_text("not a key\n")
    assert "found something else, expected a private key in PEM" in fails_to_start(daemon)
    online.unlink()
    assert "online.pem: No such file" in fails_to_start(daemon)
    online.write_bytes(right)
    shutil.rmtree(tmp_path / "state" / "root")
    assert "keys init" in fails_to_start(daemon)


def test_a_state_dir_of_a_newer_schema_is_refused(tmp_path: Path, hotline: HotlineThread) -> None:
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
    engine = create_engine(f"sqlite:///{tmp_path}/state/blocklistd.sqlite")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert "newer blocklistd" in fails_to_start(daemon)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_an_empty_read_only_state_dir_is_refused(tmp_path: Path, hotline: HotlineThread) -> None:
    daemon = Daemon(tmp_path, config(hotline, tmp_path))
    daemon.init_keys()
    with read_only(tmp_path / "state"):
        assert "read-only" in fails_to_start(daemon)
    with daemon:
        assert daemon.ops("/readyz").status == 200


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_a_read_only_state_dir_is_served(tmp_path: Path, hotline: HotlineThread, end: str) -> None:
    """With an alarm: nothing new can be published. A revocation still takes effect."""
    daemon = Daemon(tmp_path, config(hotline, tmp_path))
    client = Options(
        url=f"http://127.0.0.1:{daemon.feed_port}",
        list="national",
        root=daemon.root,
        dir=tmp_path / "client",
        token_file=tmp_path / "token",
    )
    with daemon:
        daemon.first_pull("hotline")
        token, leaver = daemon.subscriber("isp", "national"), daemon.subscriber("leaver", "national")
        (tmp_path / "token").write_text(token)
        assert sync_once(client, lambda text: None).version == 1
        for version in (2, 3):
            hotline.publish([*NAMES, f"n{version}.new.example"])
            assert daemon.pull("hotline")["versions"] == {"national": version}
        live = daemon.snapshot("national", token)
        neighbours = daemon.get("/v1/lists/national/diffs/2-3", token).body
        if end == "killed":
            daemon.kill()
    with read_only(tmp_path / "state"), daemon:
        daemon.wait_for(lambda: "the file system is read-only" in daemon.log)
        assert daemon.ops("/readyz").status == 200
        assert daemon.ask("status").json["lists"]["national"]["version"] == 3
        assert daemon.snapshot("national", token) == live
        assert daemon.get("/v1/lists/national/diffs/2-3", token).body == neighbours
        assert daemon.get("/v1/lists/national/diffs/1-3", token).status == 410
        synced = sync_once(client, lambda text: None)
        assert (synced.how, synced.version) == ("snapshot", 3)
        hotline.publish([*NAMES, "n4.new.example"])
        failed = daemon.pull("hotline")
        assert (failed["outcome"], "ead-only file system" in failed["reason"]) == ("failed", True)
        revoked = daemon.ask("subscriber revoke", id="leaver")
        assert revoked.status != 200
        assert b"is refused from now on" in revoked.body
        assert daemon.get("/v1/lists/national", leaver).status == 401
        assert daemon.get("/v1/lists/national", token).status == 200
        assert "Traceback" not in daemon.log
    with daemon:
        assert daemon.snapshot("national", token) == live
        assert daemon.pull("hotline")["versions"] == {"national": 4}


def test_a_port_in_use_is_an_error(tmp_path: Path, hotline: HotlineThread) -> None:
    import socket

    daemon = Daemon(tmp_path, config(hotline, tmp_path))
    daemon.init_keys()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", daemon.feed_port))
        taken.listen()
        said = fails_to_start(daemon)
    assert "feed.listen" in said
    assert "in use" in said


@pytest.mark.parametrize("column", ["body", "notes", "offered"])
def test_a_body_damaged_on_the_disk_is_not_a_base(tmp_path: Path, hotline: HotlineThread, column: str) -> None:
    with Daemon(tmp_path, config(hotline, tmp_path)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        hotline.publish([*NAMES, "second.example"])  # asserted stands as a patch now
        assert daemon.pull("hotline")["outcome"] == "published"
        daemon.stop()
        engine = create_engine(f"sqlite:///{tmp_path}/state/blocklistd.sqlite")
        with engine.connect() as connection:
            digest = connection.execute(text(f"SELECT {column} FROM sources")).scalar_one()
        engine.dispose()
        damaged = next((tmp_path / "state" / "sealed" / digest[:2]).glob(f"{digest}*"))
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        daemon.start()
        names = [*NAMES[:700], *NAMES[750:], "third.example"]
        hotline.publish(names)
        assert daemon.pull("hotline")["outcome"] == "published"
        assert "damaged or missing: the next one is read completely" in daemon.log
        listed = {line.split(b'"')[7].decode() for line in daemon.snapshot("national", token).splitlines()}
        assert listed == set(names)

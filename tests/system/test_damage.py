"""Files of the store that are damaged or gone: served as they were, made again, and said so."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import dns.xfr
import pytest
import zstandard

from tests.damage import flip_a_bit
from tests.system.daemon import Daemon
from tests.system.test_zones import Scene, Secondary

NAMES = tuple(f"n{number}.example" for number in range(300))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def named(state: Path, query: str) -> Path:
    """The sealed file that a row names."""
    with sqlite3.connect(state / "blocklistd.sqlite") as database:
        (digest,) = database.execute(query).fetchone()
    return state / "sealed" / str(digest)[:2] / str(digest)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """A list with its zone, after a few versions; the daemon is stopped."""
    scene = Scene(tmp_path)
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        scene.publish(*NAMES)
        scene.publish(*NAMES, "more.example")
    return scene


def whole(daemon: Daemon, scene: Scene) -> Secondary:
    secondary = scene.secondary("fresh")
    secondary.refresh("AXFR")
    return secondary


@pytest.mark.parametrize(
    ("column", "damage"),
    [("names", Path.unlink), ("names", cut_short), ("rules", flip_a_bit), ("wire", Path.unlink), ("wire", flip_a_bit)],
)
def test_a_zone_s_files_are_made_again(scene: Scene, column: str, damage) -> None:  # type: ignore[no-untyped-def]
    query = f"SELECT {column} FROM zone_serials ORDER BY serial DESC LIMIT 1"
    damage(named(scene.folder / "state", query))
    with scene.daemon as daemon:
        daemon.wait_for(lambda: daemon.ops("/readyz").status == 200)
        daemon.wait_for(lambda: named(scene.folder / "state", query).exists())
        follower = scene.secondary("follower")

        def has_it() -> bool:
            with contextlib.suppress(dns.xfr.TransferError):  # SERVFAIL, as long as the zone is damaged
                return follower.refresh("AXFR") == 3
            return False

        daemon.wait_for(has_it)
        assert follower.rules == {rule for name in (*NAMES, "more.example") for rule in (name, f"*.{name}")}
        scene.publish(*NAMES, "more.example", "another.example")
        follower.refresh()
        assert follower.serial == 4
        assert follower.zone == whole(daemon, scene).zone


def test_a_damaged_rendering_is_not_served_after_a_restart(scene: Scene) -> None:
    live = named(scene.folder / "state", "SELECT sha256 FROM versions ORDER BY version DESC LIMIT 1")
    flip_a_bit(live.with_name(f"{live.name}.zst"))
    with scene.daemon as daemon:
        token = daemon.subscriber("isp", "national")
        answer = daemon.get(f"/v1/lists/national/targets/{live.name}.national.ndjson", token, Accept_Encoding="zstd")
        assert answer.headers["content-encoding"] == "zstd"
        assert zstandard.ZstdDecompressor().decompressobj().decompress(answer.body) == live.read_bytes()


@pytest.mark.parametrize("damage", [Path.unlink, flip_a_bit, cut_short])
@pytest.mark.parametrize("what", ["patch", "base"])
def test_what_a_source_asserted_is_read_again(scene: Scene, what: str, damage) -> None:  # type: ignore[no-untyped-def]
    asserted = named(scene.folder / "state", "SELECT offered FROM sources")
    below = json.loads(asserted.read_bytes().partition(b"\n")[0])["base"]
    damage(asserted if what == "patch" else asserted.parents[1] / below[:2] / below)
    with scene.daemon as daemon:
        token = daemon.subscriber("isp", "national")
        scene.write(*NAMES, "another.example")
        pulled = daemon.pull("hotline")  # unless the pull that repairs has brought it already
        assert pulled["outcome"] in ("published", "unchanged"), pulled
        listed = {json.loads(line)["value"] for line in daemon.snapshot("national", token).splitlines()}
        assert listed == {*NAMES, "another.example"}


def test_what_was_rejected_stays_so_where_all_of_the_body_is_read_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    guards = {"min_entries": 0, "min_change": 5, "max_removed": "1%"}
    scene.daemon.config["lists"]["national"]["guards"] = guards
    scene.daemon.write_config()
    scene.write(*NAMES)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        scene.write(*NAMES[20:])
        held = daemon.pull("hotline")
        assert held["outcome"] == "held"
        assert daemon.ask("candidate reject", candidate=held["candidate"], why="a faulty list").status == 200
        assert "was rejected" in daemon.pull("hotline")["reason"]
    named(tmp_path / "state", "SELECT notes FROM sources").unlink()  # it is not synced: a power cut may take it
    with scene.daemon as daemon:
        scene.write(*NAMES[20:])
        assert "was rejected" in daemon.pull("hotline")["reason"]


def test_a_list_that_is_damaged_is_made_again_from_what_its_source_says(tmp_path: Path) -> None:
    """With its only version and what that was made of: the hotline's body makes both again, without a person."""
    scene = Scene(tmp_path)
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        before = daemon.snapshot("national", token)
    for query in ("SELECT sha256 FROM versions", "SELECT offered FROM sources"):
        flip_a_bit(named(tmp_path / "state", query))
    with scene.daemon as daemon:
        daemon.wait_for(lambda: daemon.ops("/readyz").status == 200)
        assert daemon.snapshot("national", token) == before
        assert daemon.pull("hotline")["outcome"] == "unchanged"


def test_a_version_is_made_again_from_an_older_one(scene: Scene) -> None:
    state = scene.folder / "state"
    live = named(state, "SELECT sha256 FROM versions ORDER BY version DESC LIMIT 1")
    before = live.read_bytes()
    live.unlink()
    asserted = named(state, "SELECT offered FROM sources")
    asserted.unlink()
    with scene.daemon as daemon:
        assert live.read_bytes() == before
        assert daemon.ops("/readyz").status == 200

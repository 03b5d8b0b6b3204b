"""Flips one bit in each kind of file of the store, while the daemon runs and while it is stopped: no wrong byte is
sent, and after the next pull or start everything is repaired."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.rcode
import dns.xfr
import pytest
import zstandard

from tests.damage import flip_a_bit
from tests.system.daemon import Answer
from tests.system.test_zones import ZONE, Scene, Secondary

FIRST = tuple(f"n{number}.example" for number in range(1_200))
SECOND = (*FIRST[1:], "second.example")
THIRD = (*FIRST[1:], "second.example", "third.example")
HELD = tuple(f"held{number}.example" for number in range(1_200))
"""So many changes (more than 2,000 and a sixteenth of the list) that the whole list is composed, and a snapshot is
written for the candidate."""


class Store:
    """A daemon with a list, its zone, three versions, a held candidate and all renderings; and correct responses."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.scene = Scene(folder)
        self.daemon = self.scene.daemon
        self.state = folder / "state"
        guards = {"min_entries": 0, "min_change": 10, "max_added": "1%", "max_removed": "1%"}
        self.daemon.config["lists"]["national"]["guards"] = guards
        self.daemon.write_config()
        self.scene.write(*FIRST)
        with self.daemon as daemon:
            daemon.first_pull("hotline")
            self.token = daemon.subscriber("isp", "national")
            self.key = self.scene.key(self.scene.subscriber("secondary"))
            daemon.wait_for(lambda: ZONE in daemon.ask("status").json["zones"])
            self.followers = {1: self.full_transfer()}
            self.scene.publish(*SECOND)
            self.followers[2] = self.full_transfer()
            self.scene.publish(*THIRD)
            self.scene.write(*HELD)
            self.candidate = daemon.pull("hotline")["candidate"]
            self.zone = self.full_transfer().rules
            daemon.wait_for(lambda: self._ask_for_all()["zstd"].headers.get("content-encoding") == "zstd")
            self.right = {name: decoded(answer) for name, answer in self._ask_for_all().items()}
            self.follow()

    def file(self, query: str) -> Path:
        with sqlite3.connect(self.state / "blocklistd.sqlite") as database:
            (digest,) = database.execute(query).fetchone()
        return self.state / "sealed" / str(digest)[:2] / str(digest)

    def full_transfer(self) -> Secondary:
        secondary = Secondary(self.scene.port, self.key)
        secondary.refresh("AXFR")
        return secondary

    def follow(self) -> None:
        """Each follower requests the difference from its serial to the newest one."""
        for serial, follower in self.followers.items():
            copy = Secondary(self.scene.port, self.key)
            copy.zone.nodes = dict(follower.zone.nodes)  # a transfer replaces the nodes that it changes
            copy.refresh()
            assert copy.serial == 3, serial
            assert copy.rules == self.zone, serial

    def _ask_for_all(self) -> dict[str, Answer]:
        status = self.daemon.get("/v1/lists/national", self.token).json
        target = f"/v1/lists/national/targets/{status['sha256']}.national.ndjson"
        with sqlite3.connect(self.state / "blocklistd.sqlite") as database:
            (older,) = database.execute("SELECT sha256 FROM versions WHERE version = 2").fetchone()
        asked = {"identity": (target, "identity"), "zstd": (target, "zstd"), "gzip": (target, "gzip")}
        asked["older"] = f"/v1/lists/national/targets/{older}.national.ndjson", "identity"
        asked |= {f"diff {pair}": (f"/v1/lists/national/diffs/{pair}", "identity") for pair in ("2-3", "1-3", "3-2")}
        return {
            name: self.daemon.get(path, self.token, Accept_Encoding=coding) for name, (path, coding) in asked.items()
        }

    def check_nothing_wrong(self) -> None:
        """Checks that every response is correct or refused (503, SERVFAIL)."""
        for name, answer in self._ask_for_all().items():
            assert answer.status == 503 or (answer.status, decoded(answer)) == (200, self.right[name]), name
        try:
            self.follow()
            assert self.full_transfer().rules == self.zone
        except dns.xfr.TransferError as error:  # while the zone is repaired
            if error.rcode != dns.rcode.SERVFAIL:
                raise

    def check_all(self) -> None:
        """Checks that everything is served and correct."""
        self.daemon.wait_for(lambda: self.daemon.ops("/readyz").status == 200)
        for name, answer in self._ask_for_all().items():
            assert (answer.status, decoded(answer)) == (200, self.right[name]), name
        self.follow()
        assert self.full_transfer().rules == self.zone

    def check_that_it_stays_held(self) -> None:
        outcome = self.daemon.pull("hotline")
        assert (outcome["outcome"], outcome["candidate"]) == ("held", self.candidate), outcome

    def approve(self) -> None:
        """Checks that the candidate held before the damage is released unchanged."""
        assert self.daemon.approve(self.candidate)["released"]
        listed = {json.loads(line)["value"] for line in self.daemon.snapshot("national", self.token).splitlines()}
        assert listed == set(HELD)
        assert self.full_transfer().rules == {rule for name in HELD for rule in (name, f"*.{name}")}


def decoded(answer: Answer) -> bytes:
    match answer.headers.get("content-encoding"):
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(answer.body)
        case "gzip":
            return gzip.decompress(answer.body)
        case _:
            return answer.body


def sealed(query: str) -> Callable[[Store], list[Path]]:
    return lambda store: [store.file(query)]


def beside(query: str, suffix: str) -> Callable[[Store], list[Path]]:
    def find(store: Store) -> list[Path]:
        path = store.file(query)
        return [path.with_name(path.name + suffix)]

    return find


def base_of_patch(store: Store) -> list[Path]:
    patch = store.file("SELECT accepted FROM list_sources")
    below = json.loads(patch.read_bytes().partition(b"\n")[0])["base"]
    return [patch.parents[1] / below[:2] / below]


LIVE = "SELECT sha256 FROM versions ORDER BY version DESC LIMIT 1"
REPAIRED: dict[str, Callable[[Store], list[Path]]] = {
    "the live snapshot": sealed(LIVE),
    "an older snapshot": sealed("SELECT sha256 FROM versions WHERE version = 2"),
    "the delta of a version": sealed("SELECT delta FROM versions WHERE version = 3"),
    "a candidate's delta": sealed("SELECT delta FROM candidates WHERE state = 'held'"),
    "a candidate's snapshot": sealed("SELECT snapshot FROM candidates WHERE state = 'held'"),
    "the entries that a source offers": sealed("SELECT offered FROM sources"),
    "the last body": sealed("SELECT body FROM sources"),
    "the notes on a body": sealed("SELECT notes FROM sources"),
    "a zone's names": sealed("SELECT names FROM zone_serials ORDER BY serial DESC LIMIT 1"),
    "a zone's rules": sealed("SELECT rules FROM zone_serials ORDER BY serial DESC LIMIT 1"),
    "a zone's compiled messages": sealed("SELECT wire FROM zone_serials ORDER BY serial DESC LIMIT 1"),
}
RENDERINGS: dict[str, Callable[[Store], list[Path]]] = {
    "a zstd rendering": beside(LIVE, ".zst"),
    "a gzip rendering": beside(LIVE, ".gz"),
    "a diff over several versions": lambda store: list(store.state.glob("diffs/*/[!.]*")),
    "a difference of a zone": lambda store: list(store.state.glob("ixfr/*/[!.]*")),
}
DROPPED: dict[str, Callable[[Store], list[Path]]] = {
    # not repaired: the next release or a full transfer works without it
    "the accepted entries of a source": sealed("SELECT accepted FROM list_sources"),
    "the base of a patch": base_of_patch,
    "a zone's delta": sealed("SELECT delta FROM zone_serials ORDER BY serial DESC LIMIT 1"),
}


def all_renderings(store: Store) -> list[Path]:
    return [path for find in RENDERINGS.values() for path in find(store)]


WHILE_STOPPED = REPAIRED | {"every rendering": all_renderings} | DROPPED
WHILE_RUNNING = REPAIRED | RENDERINGS | DROPPED


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A stopped daemon's store, with a copy beside it."""
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder / "daemon")
    shutil.copytree(store.state, folder / "copy")
    return store


def restore(store: Store) -> None:
    shutil.rmtree(store.state)
    shutil.copytree(store.state.parents[1] / "copy", store.state)


@pytest.fixture
def stopped(prepared: Store) -> Store:
    restore(prepared)
    return prepared


@pytest.mark.parametrize("kind", WHILE_STOPPED)
def test_a_bit_flipped_while_the_daemon_is_stopped_is_repaired(stopped: Store, kind: str) -> None:
    paths = WHILE_STOPPED[kind](stopped)
    assert paths
    for path in paths:
        flip_a_bit(path)
    with stopped.daemon:
        stopped.check_nothing_wrong()
        stopped.check_that_it_stays_held()
        stopped.check_all()
        stopped.approve()


@pytest.fixture(scope="module")
def running(prepared: Store) -> Iterator[Store]:
    """One running daemon for all kinds of files: after each test all is repaired."""
    restore(prepared)
    with prepared.daemon as daemon:
        prepared.check_all()
        # the start judges the candidate again
        daemon.wait_for(lambda: 'blocklistd_job_seconds_count{job="commit"}' in daemon.ops("/metrics").body.decode())
        yield prepared


@pytest.mark.parametrize("kind", WHILE_RUNNING)
def test_a_bit_flipped_while_the_daemon_runs_is_repaired(running: Store, kind: str) -> None:
    running.check_that_it_stays_held()  # after the last repair: no job reads a file while its bit is flipped
    paths = WHILE_RUNNING[kind](running)
    assert paths
    before = {path: path.read_bytes() for path in paths}
    for path in paths:
        flip_a_bit(path)
    running.check_nothing_wrong()
    running.check_that_it_stays_held()
    running.check_all()
    for path in paths:
        assert kind in DROPPED or path.read_bytes() == before[path]

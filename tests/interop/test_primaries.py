"""A zone is transferred from real primaries: complete, then as differences, with and without TSIG."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.interop.primaries import KEY, ZONE, Relay, Start, knot, named, nsd
from tests.system.daemon import Daemon
from tests.system.test_zones import ZONE as ZONE_OF_SCENE
from tests.system.test_zones import Scene

MANY = [f"n{number}.example CNAME ." for number in range(5000)]


def source(port: int, tsig: bool = False, **more: Any) -> dict[str, Any]:
    made = {"url": f"axfr://127.0.0.1:{port}/{ZONE}", "schedule": "every 1d", "verify": {"method": "none"}, **more}
    if tsig:
        made |= {"verify": {"method": "tsig"}}
        made |= {"auth": {"tsig": {"name": KEY[0], "algorithm": KEY[1], "secret": {"file": "secret"}}}}
    return made


def daemon_of(folder: Path, source: dict[str, Any]) -> Daemon:
    (folder / "secret").write_text(KEY[2])
    (folder / "secret").chmod(0o600)
    guards = {"max_added": "100%", "max_removed": "100%", "daily": "off", "min_change": 1000000}
    return Daemon(
        folder, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"], "guards": guards}}}
    )


def pull_until_killed(daemon: Daemon) -> None:
    with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AssertionError):
        daemon.pull("hotline")


class Live:
    """The live list, as a subscriber gets it, and the bytes that the source's pulls have fetched."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.token = daemon.subscriber("isp", "national")

    def __call__(self) -> set[tuple[str, str]]:
        lines = self.daemon.snapshot("national", self.token).splitlines()
        return {(entry["type"], entry["value"]) for entry in map(json.loads, lines)}

    @property
    def fetched(self) -> float:
        name = 'blocklistd_source_fetched_bytes_total{source="hotline"} '
        lines = self.daemon.ops("/metrics").body.decode().splitlines()
        return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@pytest.mark.parametrize("tsig", [False, True], ids=["unsigned", "tsig"])
@pytest.mark.parametrize(("start", "has_differences"), [(named, True), (knot, True), (nsd, False)])
def test_a_zone_follows_its_primary(tmp_path: Path, start: Start, has_differences: bool, tsig: bool) -> None:
    first, last = 2**32 - 2, 1  # the serial wraps around (RFC 1982)
    with (
        start(
            tmp_path, first, *MANY, "a.example CNAME .", "*.a.example CNAME .", "b.example TXT x", tsig=tsig
        ) as primary,
        daemon_of(tmp_path, source(primary.port, tsig)) as daemon,
    ):
        daemon.first_pull("hotline")
        live = Live(daemon)
        many = {("host", f"n{number}.example") for number in range(5000)}
        assert live() == many | {("domain", "a.example"), ("host", "b.example")}
        complete = live.fetched
        assert daemon.pull("hotline")["outcome"] == "unchanged"
        assert live.fetched == complete
        primary.write(first + 1, *MANY, "a.example CNAME .", "c.example A 127.0.0.1", "c.example CAA 0 issue x")
        assert daemon.pull("hotline")["outcome"] == "published"
        assert live() == many | {("host", "a.example"), ("host", "c.example")}
        primary.write(last, *MANY[1:], "c.example A 127.0.0.1", "*.c.example CNAME rpz-drop.")
        assert daemon.pull("hotline")["outcome"] == "published"
        assert live() == many - {("host", "n0.example")} | {("domain", "c.example")}
        spent = live.fetched - complete
        assert (spent < complete / 10) is has_differences, spent
        if has_differences:
            assert "IXFR" in primary.log
        shown = daemon.ask("source show", source="hotline").json
        assert shown["rejected"] == {}


def test_a_serial_that_goes_back_is_a_complete_zone(tmp_path: Path) -> None:
    with nsd(tmp_path, 7, "a.example CNAME .") as primary, daemon_of(tmp_path, source(primary.port)) as daemon:
        daemon.first_pull("hotline")
        live = Live(daemon)
        primary.write(5, "b.example CNAME .")
        assert daemon.pull("hotline")["outcome"] == "published"
        assert live() == {("host", "b.example")}
        primary.write(6, "c.example CNAME .")
        assert daemon.pull("hotline")["outcome"] == "published"
        assert live() == {("host", "c.example")}


def test_after_a_restart_only_the_differences_are_fetched(tmp_path: Path) -> None:
    with named(tmp_path, 1, *MANY) as primary:
        daemon = daemon_of(tmp_path, source(primary.port))
        with daemon:
            daemon.first_pull("hotline")
        with daemon:
            live = Live(daemon)
            primary.write(2, *MANY, "a.example CNAME .")
            assert daemon.pull("hotline")["outcome"] == "published"
            assert live.fetched < 1000
            assert ("host", "a.example") in live()


def test_a_damaged_list_is_transferred_completely(tmp_path: Path) -> None:
    with named(tmp_path, 1, *MANY) as primary, daemon_of(tmp_path, source(primary.port)) as daemon:
        daemon.first_pull("hotline")
        live = Live(daemon)
        before = live.fetched
        found = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and path.read_bytes()[:2] == b"!\t"]
        assert len(found) == 1
        found[0].write_bytes(found[0].read_bytes().replace(b"n7.example", b"n7.exampla", 1))
        primary.write(2, *MANY, "a.example CNAME .")
        assert daemon.pull("hotline")["outcome"] == "published"
        assert live.fetched - before > before / 2
        assert len(live()) == 5001


def test_differences_that_do_not_fit_lead_to_the_complete_zone(tmp_path: Path) -> None:
    with named(tmp_path, 1, *MANY) as primary:
        daemon = daemon_of(tmp_path, source(primary.port))
        with daemon:
            daemon.first_pull("hotline")
    (tmp_path / "bind" / "journal").unlink(missing_ok=True)
    with named(tmp_path, 1, *MANY, "other.example CNAME .", port=primary.port) as primary, daemon:
        live = Live(daemon)
        primary.write(2, *MANY, "a.example CNAME .")
        assert daemon.pull("hotline")["outcome"] == "published"
        assert len(live()) == 5001
        assert live.fetched > 50_000
        assert primary.log.count("IXFR started") == 1
        assert primary.log.count("AXFR started") == 1


CHANGED = [f"x{number}.example CNAME ." for number in range(1500)]


@pytest.mark.parametrize("differences", [False, True], ids=["complete", "differences"])
def test_a_connection_that_is_closed_in_the_middle_changes_nothing(tmp_path: Path, differences: bool) -> None:
    with (
        named(tmp_path, 1, "a.example CNAME .") as primary,
        Relay(primary.port) as relay,
        daemon_of(tmp_path, source(relay.port)) as daemon,
    ):
        daemon.first_pull("hotline")
        live = Live(daemon)
        primary.write(2, "a.example CNAME .", *CHANGED)
        if not differences:
            (tmp_path / "bind" / "journal").unlink()
        relay.limit = 10_000
        pulled = daemon.pull("hotline")
        assert pulled["outcome"] == "failed"
        assert "closed before the end of the transfer" in pulled["reason"]
        assert live() == {("host", "a.example")}
        relay.limit = 10**9
        assert daemon.pull("hotline")["outcome"] == "published"
        assert len(live()) == 1501


@pytest.mark.parametrize("differences", [False, True], ids=["complete", "differences"])
def test_a_daemon_that_is_killed_in_the_middle_goes_on(tmp_path: Path, differences: bool) -> None:
    with named(tmp_path, 1, "a.example CNAME .") as primary, Relay(primary.port) as relay:
        daemon = daemon_of(tmp_path, source(relay.port))
        with daemon:
            daemon.first_pull("hotline")
            live = Live(daemon)
            primary.write(2, "a.example CNAME .", *CHANGED)
            if not differences:
                (tmp_path / "bind" / "journal").unlink()
            relay.limit, relay.holds = 10_000, True
            pull = threading.Thread(target=pull_until_killed, args=(daemon,))
            pull.start()
            assert relay.reached.wait(30)
            daemon.kill()
            pull.join()
        relay.limit = 10**9
        with daemon:
            assert daemon.pull("hotline")["outcome"] in (
                "published",
                "unchanged",
            )  # perhaps pulled at the start already
            assert len(live()) == 1501


def test_killed_at_random_moments_the_list_is_that_of_the_primary(tmp_path: Path) -> None:
    chance = random.Random(2026)
    rules = list(MANY)
    with named(tmp_path, 1, *rules) as primary:
        daemon = daemon_of(tmp_path, source(primary.port))
        with daemon:
            daemon.first_pull("hotline")
            live = Live(daemon)
        for serial in range(2, 10):
            rules = [*rules[50:], *(f"s{serial}n{number}.example CNAME ." for number in range(50))]
            with daemon:
                primary.write(serial, *rules)
                pull = threading.Thread(target=pull_until_killed, args=(daemon,))
                pull.start()
                threading.Event().wait(chance.uniform(0, 0.7))
                daemon.kill()
                pull.join()
        with daemon:
            daemon.pull("hotline")
            assert live() == {("host", rule.partition(" ")[0]) for rule in rules}


def test_another_blocklistd_is_a_primary(tmp_path: Path) -> None:
    (tmp_path / "national").mkdir()
    scene = Scene(tmp_path / "national")
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        scene.publish("a.example", "b.example", hosts=("host.example",))
        tsig = scene.subscriber("isp")["tsig"]
        found = source(scene.port) | {"url": f"axfr://localhost:{scene.port}/{ZONE_OF_SCENE.upper()}."}
        key = {"name": tsig["name"], "algorithm": tsig["algorithm"], "secret": {"file": "secret"}}
        found |= {"auth": {"tsig": key}, "verify": {"method": "tsig"}}
        daemon = daemon_of(tmp_path, found)
        (tmp_path / "secret").write_text(tsig["secret"] + "\n")
        with daemon:
            daemon.first_pull("hotline")
            live = Live(daemon)
            assert live() == {("domain", "a.example"), ("domain", "b.example"), ("host", "host.example")}
            assert daemon.pull("hotline")["outcome"] == "unchanged"
            scene.publish("b.example", "c.example", hosts=("a.example",))
            assert daemon.pull("hotline")["outcome"] == "published"
            assert live() == {("host", "a.example"), ("domain", "b.example"), ("domain", "c.example")}
            assert daemon.ask("source show", source="hotline").json["rejected"] == {}
            scene.publish()  # an empty zone fails the pull, and the last list stays
            pulled = daemon.pull("hotline")
            assert pulled["outcome"] == "failed"
            assert "min_entries" in pulled["reason"]
            assert len(live()) == 3


def test_the_configuration_in_the_guide_works(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "operator.md").read_text()
    block = next(block for block in re.findall(r"(?:^    .*\n)+", guide, re.M) if "axfr://" in block)
    sources = yaml.safe_load(textwrap.dedent(block))["sources"]
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "hotline-a.tsig").write_text(KEY[2])
    (tmp_path / "secrets" / "hotline-a.tsig").chmod(0o600)
    (tmp_path / "domains_rpz.db").write_text(
        "$TTL 30\n@ SOA rpz.register.example. hostmaster.register.example. 2026112801 60 30 600 60\n"
        "  NS localhost.\na.example CNAME .\n*.a.example CNAME .\nb.example CNAME .\n*.b.example CNAME .\n"
    )
    with named(tmp_path, 1, "c.example CNAME .", tsig=True) as primary:
        assert sources["hotline-a"]["url"] == f"axfr://ns.hotline.example/{ZONE}"
        sources["hotline-a"]["url"] = f"axfr://127.0.0.1:{primary.port}/{ZONE}"
        sources["register-b"]["url"] = f"file:{tmp_path}/domains_rpz.db"
        config = {"sources": sources, "lists": {"national": {"sources": list(sources), "guards": {"min_change": 9}}}}
        with Daemon(tmp_path, config) as daemon:
            for name in sources:
                daemon.first_pull(name)
            live = Live(daemon)
            daemon.wait_for(lambda: len(live()) == 3)
            assert live() == {("domain", "a.example"), ("domain", "b.example"), ("host", "c.example")}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"secret": "YW5vdGhlciBzZWNyZXQ="}, "BADSIG"),
        ({"name": "unknown.example"}, "BADKEY"),
        ({"zone": "unknown.example"}, "NOTAUTH"),
        ({"auth": None}, "REFUSED"),
    ],
)
def test_what_a_primary_refuses_is_named_and_the_last_list_stays(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with named(tmp_path, 1, "a.example CNAME .", tsig=True) as primary:
        daemon = daemon_of(tmp_path, source(primary.port, tsig=True))
        with daemon:
            daemon.first_pull("hotline")
            live = Live(daemon)
            found = daemon.config["sources"]["hotline"]
            if "secret" in change:
                (tmp_path / "secret").write_text(change["secret"])
            elif "name" in change:
                found["auth"]["tsig"]["name"] = change["name"]
            elif "zone" in change:
                found["url"] = found["url"].replace(ZONE, change["zone"])
            else:
                del found["auth"]
                found["verify"] = {"method": "none"}
            daemon.write_config()
            assert daemon.ask("reload").status == 200
            primary.write(2, "b.example CNAME .")
            pulled = daemon.pull("hotline")
            assert pulled["outcome"] == "failed"
            assert says in pulled["reason"]
            assert "axfr://127.0.0.1" in pulled["reason"]
            assert live() == {("host", "a.example")}
            assert KEY[2] not in daemon.log

"""What the pages in docs/dns/ tell people to paste, to run and to look for, with the real programs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import dns.rcode
import pytest

from blocklistd.daemon.profiles.request import OWN_SECONDARY
from tests.interop.absent import Absent
from tests.interop.guides import says
from tests.interop.programs import Peers, Resolver
from tests.interop.stub import Stub
from tests.interop.test_resolvers import each_resolver, extended_errors, hasty
from tests.interop.test_secondaries import OWN, asked
from tests.system.daemon import free_port
from tests.system.test_zones import ZONE, Scene


@pytest.fixture
def scene(tmp_path: Path, peers: Peers) -> Iterator[Scene]:
    made = Scene(tmp_path, soa=peers.soa("powerdns"))
    with made.daemon:
        made.daemon.first_pull("hotline")
        yield made


def test_unbound_with_a_damaged_copy_logs_the_guides_lines(scene: Scene, stub: Stub, peers: Peers) -> None:
    port = free_port()
    text = peers.printed(scene, "unbound", port)
    file = scene.folder / "unbound" / f"{ZONE}.zone"
    with peers.start("unbound", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
    file.write_text("half of a li")
    with peers.start("unbound", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: "error parsing zonefile" in resolver.log.read_text())
        if peers.release.versions["unbound"] == "1.17":
            resolver.wait(lambda: "auth_zones could not be setup" in resolver.log.read_text())
        else:
            resolver.wait(lambda: resolver.blocked("a.example"))
    for said in ("error parsing zonefile", "auth_zones could not be setup"):
        says("unbound", f"`{said}`")
    file.unlink(missing_ok=True)
    with peers.start("unbound", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_recursor_without_its_copy_logs_the_guides_lines(scene: Scene, stub: Stub, peers: Peers, damage: str) -> None:
    port = free_port()
    text = peers.printed(scene, "powerdns", port)
    file = scene.folder / "powerdns" / f"{ZONE}.zone"
    with peers.start("powerdns", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
    scene.daemon.stop()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:40])
    with peers.start("powerdns", scene.folder, stub, port, text) as resolver:
        for said in ("Unable to load RPZ zone, will retry", *LOADS[peers.release.versions["powerdns"]]):
            says("powerdns", f"`{said}`")
            resolver.wait(lambda said=said: said in resolver.log.read_text())  # type: ignore[misc]
        resolver.wait(lambda: not resolver.blocked("a.example"))
        scene.daemon.start()
        resolver.wait(lambda: resolver.blocked("a.example"))
        assert says("powerdns", "RPZ load completed") in resolver.log.read_text()


LOADS = {"4.8": ["Exception while pre-loadin RPZ zone"], "5.2": []}
"""What a recursor says of a missing or damaged copy, beside that it can't load the zone."""


def trial(software: str, text: str) -> str:
    """The printed configuration with what the guide adds to try a zone first."""
    changes = {
        "bind": [(POLICY, f"{POLICY} {says('bind', 'policy disabled')}")],
        "unbound": [("rpz:\n", "rpz:\n" + says("unbound", UNBOUND_TRIAL))],
        "powerdns": [
            ("  refresh =", f"  {says('powerdns', 'defpol = Policy.NoAction,')}\n  refresh ="),
            ("      refresh:", f"      {says('powerdns', 'defpol: NoAction')}\n      refresh:"),
        ],
    }
    changed = text
    for before, after in changes[software]:
        changed = changed.replace(before, after)
    assert changed != text
    if software == "powerdns":
        says("powerdns", "remove `seedFile`, `dumpFile` and the extended error")
        changed = re.sub(r" *(?:seedFile|dumpFile|extendedError).*\n", "", changed)
    return changed


POLICY = f'response-policy {{ zone "{ZONE}"'
UNBOUND_TRIAL = """\
      rpz-action-override: disabled
      rpz-log: yes
      rpz-log-name: blocklist
"""


@each_resolver
def test_a_resolver_on_trial_blocks_nothing_and_shows_what_it_would(
    scene: Scene, stub: Stub, peers: Peers, software: str
) -> None:
    port = free_port()
    text = peers.printed(scene, software, port)
    shown = {
        "bind": "disabled rpz QNAME NXDOMAIN rewrite a.example/",
        "unbound": "rpz: applied [blocklist] a.example. rpz-disabled",
    }
    with peers.start(software, scene.folder, stub, port, trial(software, text)) as resolver:

        def would_block() -> bool:
            assert not resolver.blocked("a.example")
            if software == "powerdns":
                return int(resolver.run(says("powerdns", "rec_control get policy-result-noaction"))) > 0
            return shown[software] in resolver.log.read_text()

        resolver.wait(would_block)
        assert extended_errors(resolver, "a.example") == []
        assert "other.example/" not in resolver.log.read_text()
    with peers.start(software, scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))


@each_resolver
def test_the_policy_is_out_at_once_and_the_publisher_goes_back(
    scene: Scene, stub: Stub, peers: Peers, software: str
) -> None:
    port = free_port()
    text = peers.printed(scene, software, port)
    with peers.start(software, scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        scene.publish("a.example", "needed.example")
        resolver.wait(lambda: resolver.blocked("needed.example"))
        take_out(software, resolver, scene)
        resolver.wait(lambda: not resolver.blocked("needed.example") and not resolver.blocked("a.example"), AT_ONCE)
        assert scene.daemon.ask("list freeze", list="national", why="wrong").status == 200
        assert scene.daemon.ask("list rollback", list="national", version=1, why="wrong").status == 200
        put_back(software, resolver, scene)
        resolver.wait(lambda: resolver.blocked("a.example") and not resolver.blocked("needed.example"))


AT_ONCE = 2.0  # seconds


def edit(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after))


def take_out(software: str, resolver: Resolver, scene: Scene) -> None:
    if software == "bind":
        edit(scene.folder / "bind" / "named.conf", POLICY, f"{POLICY} policy disabled")
        resolver.run(says("bind", "rndc reconfig"))
    elif software == "unbound":
        resolver.run(says("unbound", f"unbound-control rpz_disable {ZONE}"))
    else:
        file = recursors_file(scene)
        file.write_text(commented(file.read_text()))
        resolver.run(says("powerdns", "rec_control reload-lua-config"))
        assert "wiped" in resolver.run(says("powerdns", "rec_control wipe-cache '.$'"))


def recursors_file(scene: Scene) -> Path:
    """The file with the text pasted for PowerDNS Recursor."""
    (file,) = (*scene.folder.glob("powerdns/rpz.lua"), *scene.folder.glob("powerdns/recursor.d/*.yml"))
    return file


def commented(text: str) -> str:
    """The text pasted for PowerDNS Recursor, Lua or YAML, with each line made a comment."""
    return re.sub("(?m)^(?=.)", "--" if "rpzPrimary" in text else "#", text)


def put_back(software: str, resolver: Resolver, scene: Scene) -> None:
    if software == "bind":
        resolver.wait(lambda: "serial: 3" in resolver.run(says("bind", f"rndc zonestatus {ZONE}")))
        edit(scene.folder / "bind" / "named.conf", f"{POLICY} policy disabled", POLICY)
        resolver.run("rndc reconfig")
    elif software == "unbound":
        resolver.wait(lambda: "serial 3" in resolver.run(says("unbound", "unbound-control list_auth_zones")))
        resolver.run(says("unbound", f"unbound-control rpz_enable {ZONE}"))
    else:
        file = recursors_file(scene)
        file.write_text(re.sub("(?m)^(--|#)", "", file.read_text()))
        resolver.run("rec_control reload-lua-config")


def test_a_recursor_that_starts_without_the_policy_needs_a_restart_in_yaml(
    scene: Scene, stub: Stub, peers: Peers
) -> None:
    port = free_port()
    text = peers.printed(scene, "powerdns", port)
    with peers.start("powerdns", scene.folder, stub, port, commented(text)) as resolver:
        resolver.wait(lambda: not resolver.blocked("a.example"))
        recursors_file(scene).write_text(text)
        said = resolver.run("rec_control reload-lua-config")
        if "rpzPrimary" in text:
            resolver.wait(lambda: resolver.blocked("a.example"))
        else:
            assert says("powerdns", "No Lua or corresponding YAML configuration active") in said
    with peers.start("powerdns", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))


@each_resolver
def test_an_expired_zone_does_what_the_guide_says(tmp_path: Path, stub: Stub, peers: Peers, software: str) -> None:
    """BIND blocks nothing then; the others block on. So they do after a restart. BIND has lower minimum times than
    printed, since with its own it notices after eight minutes."""
    scene, port = Scene(tmp_path, soa={"refresh": "1s", "retry": "1s", "expire": "3s"}), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = hasty(peers.printed(scene, software, port))
        with peers.start(software, scene.folder, stub, port, text) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example"))
            scene.daemon.stop()
            with Absent(scene.port) as publisher:
                if software == "bind":
                    says("bind", "When the zone expires, BIND blocks nothing (`policies unloaded` in its log)")
                    resolver.wait(lambda: "policies unloaded" in resolver.log.read_text())
                else:
                    says(software, "It keeps blocking after the zone has expired, also after a restart.")
                    end = time.monotonic() + 5
                    resolver.wait(lambda: time.monotonic() > end and publisher.requests > 0)
                assert resolver.blocked("a.example") is (software != "bind")
        with peers.start(software, scene.folder, stub, port, text) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example") is (software != "bind"))
            scene.daemon.start()
            resolver.wait(lambda: resolver.blocked("a.example"))


def test_bind_logs_no_queries_where_it_is_told_so(scene: Scene, stub: Stub, peers: Peers) -> None:
    port = free_port()
    quiet = peers.printed(scene, "bind", port).replace(POLICY, f"{POLICY} {says('bind', 'log no')}")
    with peers.start("bind", scene.folder, stub, port, quiet) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        assert "rewrite" not in resolver.log.read_text()


def test_bind_polls_as_seldom_as_the_guide_says(tmp_path: Path, stub: Stub, peers: Peers) -> None:
    says("bind", "It polls every 300 s at most (`min-refresh-time`), also if the zone's SOA has a shorter refresh.")
    scene, port = Scene(tmp_path, soa={"refresh": "1s", "retry": "1s"}), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        with peers.start("bind", scene.folder, stub, port, peers.printed(scene, "bind", port)) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example"))
            (text,) = re.findall("next refresh: (.*)", resolver.run(f"rndc zonestatus {ZONE}"))
            after = parsedate_to_datetime(text) - datetime.now(UTC)
            assert 200 < after.total_seconds() <= 300, "up to a quarter earlier"


def test_unbound_takes_changes_by_ixfr_and_from_1_26_each_sixth_by_axfr(scene: Scene, stub: Stub, peers: Peers) -> None:
    says("unbound", "Unbound 1.26 takes the whole zone again after five changes by IXFR")
    says("unbound", "Unbound 1.17 takes all changes by IXFR.")
    port = free_port()
    with peers.start("unbound", scene.folder, stub, port, peers.printed(scene, "unbound", port)) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        for number in range(8):
            scene.publish("a.example", f"n{number}.example")
            resolver.wait(partial(resolver.blocked, f"n{number}.example"))
        again = 0 if peers.release.versions["unbound"] == "1.17" else 1
        assert (scene.sent("AXFR"), scene.sent("IXFR")) == (1 + again, 8 - again)


def test_the_policy_of_unbound_stays_out_until_a_restart(scene: Scene, stub: Stub, peers: Peers) -> None:
    says("unbound", "The policy stays out for versions that arrive later and over a reload, but not over a restart.")
    port = free_port()
    text = peers.printed(scene, "unbound", port)
    with peers.start("unbound", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        resolver.run(f"unbound-control rpz_disable {ZONE}")
        scene.publish("a.example", "b.example")
        resolver.wait(lambda: "serial 2" in resolver.run("unbound-control list_auth_zones"))
        assert not resolver.blocked("a.example")
        assert not resolver.blocked("b.example")
        resolver.run("unbound-control reload")
        resolver.wait(lambda: not resolver.blocked("a.example") and not resolver.blocked("b.example"))
    with peers.start("unbound", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("b.example"))


def test_unbound_sees_a_changed_clause_at_a_restart(scene: Scene, stub: Stub, peers: Peers) -> None:
    says("unbound", "Unbound 1.17 does not see a change of the zone's clause at a reload: restart it.")
    port = free_port()
    text = peers.printed(scene, "unbound", port)
    with peers.start("unbound", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        edit(scene.folder / "unbound" / "unbound.conf", "rpz:\n", "rpz:\n" + UNBOUND_TRIAL)
        resolver.run("unbound-control reload")
        old = peers.release.versions["unbound"] == "1.17"
        resolver.wait(lambda: resolver.blocked("a.example") is old)
    with peers.start("unbound", scene.folder, stub, port, trial("unbound", text)) as resolver:
        resolver.wait(lambda: not resolver.blocked("a.example"))


@pytest.mark.parametrize("software", ["knot", "nsd"])
def test_a_distribution_secondary_with_an_expired_zone_serves_none(tmp_path: Path, peers: Peers, software: str) -> None:
    name = {"knot": "Knot", "nsd": "NSD"}[software]
    says(software, f"When the zone expires, {name} answers SERVFAIL for it, also after a restart, until it reaches the")
    scene, port = Scene(tmp_path, soa={"refresh": "1s", "retry": "1s", "expire": "3s"}), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = peers.printed(scene, software, port).replace(OWN_SECONDARY, OWN)

        def answers(rcode: dns.rcode.Rcode) -> bool:
            return asked(port, ZONE, "SOA", OWN).rcode() == rcode

        with peers.start(software, scene.folder, None, port, text) as secondary:
            secondary.wait(lambda: answers(dns.rcode.NOERROR))
            scene.daemon.stop()
            secondary.wait(lambda: answers(dns.rcode.SERVFAIL))
        with Absent(scene.port) as publisher, peers.start(software, scene.folder, None, port, text) as secondary:
            secondary.wait(lambda: publisher.requests > 0 and answers(dns.rcode.SERVFAIL))
        with peers.start(software, scene.folder, None, port, text) as secondary:
            secondary.wait(lambda: answers(dns.rcode.SERVFAIL))
            scene.daemon.start()
            secondary.wait(lambda: answers(dns.rcode.NOERROR))


@pytest.mark.parametrize(
    ("software", "status", "refresh"),
    [
        ("knot", f"knotc zone-status {ZONE}", f"knotc zone-refresh {ZONE}"),
        ("nsd", f"nsd-control zonestatus {ZONE}", f"nsd-control transfer {ZONE}"),
    ],
)
def test_a_distribution_secondary_shows_the_serial_and_fetches_at_once(
    scene: Scene, peers: Peers, software: str, status: str, refresh: str
) -> None:
    port = free_port()
    with peers.start(software, scene.folder, None, port, peers.printed(scene, software, port)) as secondary:
        for serial in (1, 2):
            shown = re.compile(rf"serial: \"?{serial}\b")
            secondary.wait(lambda shown=shown: bool(shown.search(secondary.run(says(software, status)))))  # type: ignore[misc]
            secondary.run(says(software, refresh))
            scene.publish("a.example", f"n{serial}.example")

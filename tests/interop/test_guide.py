"""What docs/dns.md tells people to paste, to run and to look for, with the real resolvers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import dns.rcode
import pytest

from tests.interop.absent import Absent
from tests.interop.programs import Peers, Resolver
from tests.interop.stub import Stub
from tests.interop.test_resolvers import each_resolver, extended_errors, hasty
from tests.interop.test_secondaries import OWN, asked
from tests.system.daemon import free_port
from tests.system.test_zones import ZONE, Scene

GUIDE = Path(__file__).parents[2] / "docs" / "dns.md"


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
        assert f"`{said}`" in GUIDE.read_text()
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
    guide = GUIDE.read_text()
    with peers.start("powerdns", scene.folder, stub, port, text) as resolver:
        for said in ("Unable to load RPZ zone, will retry", *LOADS[peers.release.versions["powerdns"]]):
            assert f"`{said}`" in guide
            resolver.wait(lambda said=said: said in resolver.log.read_text())  # type: ignore[misc]
        resolver.wait(lambda: not resolver.blocked("a.example"))
        scene.daemon.start()
        resolver.wait(lambda: resolver.blocked("a.example"))
        assert "`RPZ load completed`" in guide
        assert "RPZ load completed" in resolver.log.read_text()


LOADS = {"4.8": ["Exception while pre-loadin RPZ zone"], "5.2": []}
"""What a recursor says of a missing or damaged copy, beside that it can't load the zone."""


def guides(text: str) -> str:
    """The text, which the guide contains."""
    assert text in GUIDE.read_text()
    return text


def trial(software: str, text: str) -> str:
    """The printed configuration with what the guide adds to try a zone first."""
    changes = {
        "bind": [(POLICY, f"{POLICY} {guides('policy disabled')}")],
        "unbound": [("rpz:\n", "rpz:\n" + guides(UNBOUND_TRIAL))],
        "powerdns": [
            ("  refresh =", f"  {guides('defpol = Policy.NoAction,')}\n  refresh ="),
            ("      refresh:", f"      {guides('defpol: NoAction')}\n      refresh:"),
        ],
    }
    changed = text
    for before, after in changes[software]:
        changed = changed.replace(before, after)
    assert changed != text
    if software == "powerdns":
        guides("remove `seedFile`, `dumpFile` and the extended error")
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
                return int(resolver.run(guides("rec_control get policy-result-noaction"))) > 0
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
        resolver.run(guides("rndc reconfig"))
    elif software == "unbound":
        resolver.run(guides(f"unbound-control rpz_disable {ZONE}"))
    else:
        file = recursors_file(scene)
        file.write_text(commented(file.read_text()))
        resolver.run(guides("rec_control reload-lua-config"))
        assert "wiped" in resolver.run(guides("rec_control wipe-cache '.$'"))


def recursors_file(scene: Scene) -> Path:
    """The file with the text pasted for PowerDNS Recursor."""
    (file,) = (*scene.folder.glob("powerdns/rpz.lua"), *scene.folder.glob("powerdns/recursor.d/*.yml"))
    return file


def commented(text: str) -> str:
    """The text pasted for PowerDNS Recursor, Lua or YAML, with each line made a comment."""
    return re.sub("(?m)^(?=.)", "--" if "rpzPrimary" in text else "#", text)


def put_back(software: str, resolver: Resolver, scene: Scene) -> None:
    if software == "bind":
        resolver.wait(lambda: "serial: 3" in resolver.run(guides(f"rndc zonestatus {ZONE}")))
        edit(scene.folder / "bind" / "named.conf", f"{POLICY} policy disabled", POLICY)
        resolver.run("rndc reconfig")
    elif software == "unbound":
        resolver.wait(lambda: "serial 3" in resolver.run(guides("unbound-control list_auth_zones")))
        resolver.run(guides(f"unbound-control rpz_enable {ZONE}"))
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
            assert guides("No Lua or corresponding YAML configuration active") in said
    with peers.start("powerdns", scene.folder, stub, port, text) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))


@each_resolver
def test_an_expired_zone_does_what_the_guide_says(tmp_path: Path, stub: Stub, peers: Peers, software: str) -> None:
    """BIND blocks nothing then; the others block on. So they do after a restart."""
    scene, port = Scene(tmp_path, soa={"refresh": "1s", "retry": "1s", "expire": "3s"}), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = hasty(peers.printed(scene, software, port))
        with peers.start(software, scene.folder, stub, port, text) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example"))
            scene.daemon.stop()
            with Absent(scene.port) as publisher:
                if software == "bind":
                    resolver.wait(lambda: guides("policies unloaded") in resolver.log.read_text())
                else:
                    guides("It keeps blocking after the zone has expired, also after a restart.")
                    end = time.monotonic() + 5
                    resolver.wait(lambda: time.monotonic() > end and publisher.requests > 0)
                assert resolver.blocked("a.example") is (software != "bind")
        with peers.start(software, scene.folder, stub, port, text) as resolver:
            resolver.wait(lambda: resolver.blocked("a.example") is (software != "bind"))
            scene.daemon.start()
            resolver.wait(lambda: resolver.blocked("a.example"))


def test_bind_logs_no_queries_where_it_is_told_so(scene: Scene, stub: Stub, peers: Peers) -> None:
    port = free_port()
    quiet = peers.printed(scene, "bind", port).replace(POLICY, f"{POLICY} {guides('log no')}")
    with peers.start("bind", scene.folder, stub, port, quiet) as resolver:
        resolver.wait(lambda: resolver.blocked("a.example"))
        assert "rewrite" not in resolver.log.read_text()


@pytest.mark.parametrize("software", ["knot", "nsd"])
def test_a_distribution_secondary_with_an_expired_zone_serves_none(tmp_path: Path, peers: Peers, software: str) -> None:
    scene, port = Scene(tmp_path, soa={"refresh": "1s", "retry": "1s", "expire": "3s"}), free_port()
    with scene.daemon:
        scene.daemon.first_pull("hotline")
        text = peers.printed(scene, software, port).replace("192.0.2.60", OWN)
        with peers.start(software, scene.folder, None, port, text) as secondary:
            secondary.wait(lambda: asked(port, ZONE, "SOA", OWN).rcode() == dns.rcode.NOERROR)
            scene.daemon.stop()
            secondary.wait(lambda: asked(port, ZONE, "SOA", OWN).rcode() == dns.rcode.SERVFAIL)
            scene.daemon.start()
            secondary.wait(lambda: asked(port, ZONE, "SOA", OWN).rcode() == dns.rcode.NOERROR)

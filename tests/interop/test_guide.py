"""What docs/dns.md tells people to paste, to run and to look for, with the real resolvers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.programs import Peers
from tests.interop.stub import Stub
from tests.system.daemon import free_port
from tests.system.test_zones import ZONE, Scene

GUIDE = Path(__file__).parents[2] / "docs" / "resolvers.md"


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

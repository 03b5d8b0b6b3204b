"""When a catalog gets a new serial, and what is served if it can't be written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from blocklistd.errors import StoreError
from blocklistd.jobs.runner import Jobs
from blocklistd.pipeline.catalogs import CatalogPublisher
from blocklistd.pipeline.resources import Resources
from blocklistd.rpz.wire import Apex, wire_name
from blocklistd.serve.dns.zones import Peer, Zones, ZoneView
from blocklistd.store.numbers import numbers, start_above
from blocklistd.store.verified import Verified
from blocklistd.store.zones import ZonePlan
from blocklistd.telemetry import Telemetry
from tests.versions_of import LIST, NOW, Versions

CATALOG = "catalog.example"
A, B = "a.rpz.example", "b.rpz.example"


def view(name: str, serial: int = 1) -> ZoneView:
    apex = Apex(name, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",))
    return ZoneView(ZonePlan(name, LIST, (), ".", 60, apex, 1), serial, 1, 0, 0, 0, 1, memoryview(b""))


class Scene:
    """The configured zones A and B, and a publisher of catalogs. `told`: the subscribers and serials of each NOTIFY."""

    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder)
        self.told: list[tuple[str, int]] = []
        self.zones = Zones()
        self.name: str | None = CATALOG
        self.configured = [A, B]
        self.start()

    def start(self) -> None:
        """Begins anew, as after a restart, with the zones served."""
        self.zones = Zones()
        self.zones.configure([view(name).plan for name in self.configured])
        resources = Resources(
            *(self.versions.store, self.versions.database, Jobs(), Verified(self.versions.store.sealed)),
            *(lambda: NOW, Telemetry()),
        )
        self.publisher = CatalogPublisher(
            *(resources, self.zones, lambda: self.name, lambda: self.configured),
            lambda found, subscriber: self.told.append((subscriber, found.serial)),
        )

    def update(self, **granted: tuple[str, ...]) -> dict[str, tuple[int, int]]:
        """The serial and the number of records of each subscriber's catalog after an update."""
        if granted:
            peers = [Peer(who, frozenset(map(wire_name, zones)), (), (), ()) for who, zones in granted.items()]
            self.zones.replace_peers(peers)
        asyncio.run(self.publisher.update())
        return self.shown()

    def shown(self) -> dict[str, tuple[int, int]]:
        return {who: (found.serial, found.records) for who, found in self.zones.catalogs().items()}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_serial_rises_with_the_members_and_never_else(scene: Scene) -> None:
    scene.zones.publish(view(A))
    scene.zones.publish(view(B))
    assert scene.update(isp=(A,), other=(A, B), feed=()) == {"isp": (1, 2), "other": (1, 3)}
    assert scene.told == [("isp", 1), ("other", 1)]
    assert scene.update(isp=(A,), other=(A, B)) == {"isp": (1, 2), "other": (1, 3)}
    assert scene.update(isp=(A, B), other=(A, B)) == {"isp": (2, 3), "other": (1, 3)}
    assert scene.told[2:] == [("isp", 2)]
    scene.configured = [A]
    assert scene.update() == {"isp": (3, 2), "other": (3, 2)}
    assert scene.update(isp=(A,)) == {"isp": (3, 2)}, "the other subscriber is revoked"
    assert scene.update(isp=(A,), other=(A,)) == {"isp": (3, 2), "other": (3, 2)}
    with scene.versions.database.read() as connection:
        assert numbers(connection).zones == {CATALOG: 3}, "the high-water file is compared with it"
    scene.name = None
    assert scene.update() == {}
    assert wire_name(CATALOG) not in scene.zones
    scene.versions.close()


def test_a_zone_is_a_member_from_its_first_serial_on(scene: Scene) -> None:
    assert scene.update(isp=(A, B)) == {}
    assert scene.zones.view_for(wire_name(CATALOG), "isp") is None, "an empty catalog would delete zones"
    scene.zones.publish(view(A))
    assert scene.publisher.lacks(view(A))
    assert scene.update() == {"isp": (1, 2)}
    assert not scene.publisher.lacks(view(A))
    scene.start()  # A can't be loaded
    assert scene.update(isp=(A, B)) == {"isp": (1, 2)}, "a zone that is not loaded stays: a secondary would delete it"
    scene.versions.close()


def test_what_can_not_be_written_is_served_as_before(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.zones.publish(view(A))
    scene.zones.publish(view(B))
    scene.update(isp=(A,))
    with monkeypatch.context() as patched:
        patched.setattr("blocklistd.store.catalogs.save", _fail)
        with pytest.raises(StoreError):
            scene.update(isp=(A, B), new=(A,))
    assert scene.shown() == {"isp": (1, 2)}
    assert scene.update() == {"isp": (2, 3), "new": (2, 2)}
    scene.versions.close()


def _fail(*arguments: object) -> None:
    raise StoreError("no room")


def test_serials_are_above_the_number_of_start_above(scene: Scene) -> None:
    scene.zones.publish(view(A))
    scene.update(isp=(A,))
    with scene.versions.database.write() as connection:
        start_above(connection, 500, 0, NOW, "root")
    assert scene.update() == {"isp": (501, 2)}
    scene.versions.close()

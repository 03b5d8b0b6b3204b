"""/readyz is 503 if and only if a list or zone that has a version is not served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blocklistd.change import VersionInfo
from blocklistd.config import Config
from blocklistd.daemon import plans
from blocklistd.daemon.readiness import Readiness, readiness
from blocklistd.model import ListId, Version
from blocklistd.serve.dns.zones import Zones, ZoneView
from blocklistd.serve.http.live_lists import Document, ListView, LiveLists
from tests.unit.configuring import VALID, read
from tests.unit.test_ops_collectors import ZONES
from tests.versions_of import LIST, NOW, Versions

ZONE = "rpz.example"


class Scene:
    """A list and its zone, both at version 1 and served."""

    def __init__(self, folder: Path) -> None:
        versions = Versions(folder / "state")
        versions.publish(versions.seal(["a.example"]))
        self.live = versions.state.live
        versions.close()
        self.config: Config = read(folder, VALID + ZONES)
        self.live_lists, self.served = LiveLists(), Zones()
        self.publisher: Any = SimpleNamespace(stored={LIST: Version(1)}, damaged=set())
        self.zones: Any = SimpleNamespace(damaged={}, unloaded={}, behind=set())
        self.serve(self.live)
        self.serve_zone(unchanged=True)

    def serve(self, live: VersionInfo | None) -> None:
        self.live_lists.publish(ListView(LIST, "", live, Version(0), Document.of(b""), {}, {}, NOW))

    def serve_zone(self, *, unchanged: bool) -> None:
        plan = plans.zone_plans(self.config)[ZONE]
        file: Any = SimpleNamespace(is_unchanged=lambda: unchanged)
        self.served.configure([plan])
        self.served.publish(ZoneView(plan, 7, 1, 2, 0, 0, 7, memoryview(b""), file))

    def look(self) -> Readiness:
        return readiness(self.config, self.live_lists, self.publisher, self.served, self.zones)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_a_daemon_that_serves_everything_is_ready(scene: Scene) -> None:
    assert scene.look() == Readiness([], [])


@pytest.mark.parametrize("stored", [1, None])  # None: the store could not be read
def test_a_list_with_a_version_that_is_not_served_is_down(scene: Scene, stored: Version | None) -> None:
    scene.live_lists.withdraw(LIST)
    scene.publisher.stored = {LIST: stored} if stored else {}
    assert [line.partition(":")[0] for line in scene.look().down] == [f"list {LIST} is not served"]


def test_a_first_version_that_can_not_be_signed_is_down(scene: Scene) -> None:
    scene.serve(None)
    assert [line.partition(":")[0] for line in scene.look().down] == [f"list {LIST}"]


def test_a_list_without_a_version_is_not_down(scene: Scene) -> None:
    scene.live_lists.withdraw(LIST)
    scene.publisher.stored = {LIST: Version(0)}
    found = scene.look()
    assert (found.down, len(found.wrong)) == ([], 1)


def test_a_new_version_that_can_not_be_signed_is_not_down_while_the_last_is_served(scene: Scene) -> None:
    scene.publisher.stored[LIST] = Version(2)
    assert scene.look() == Readiness([], [f"list {LIST}: version 2 can't be signed; version 1 is served: see the log"])


def test_a_damaged_snapshot_is_down(scene: Scene) -> None:
    scene.publisher.damaged = {LIST}
    assert len(scene.look().down) == 1


def test_a_zone_without_a_serial_is_not_down(scene: Scene) -> None:
    scene.served.configure([])
    found = scene.look()
    assert found == Readiness([], [f"zone {ZONE} has no serial yet"])


def test_a_zone_with_a_serial_that_is_not_served_is_down(scene: Scene) -> None:
    scene.served.configure([])
    scene.zones.unloaded = {ZONE: "its file is damaged"}
    assert scene.look() == Readiness([f"zone {ZONE} is not served: its file is damaged"], [])


@pytest.mark.parametrize("sent", [True, False])
def test_a_damaged_zone_is_down_only_if_its_file_is_not_sent(scene: Scene, sent: bool) -> None:
    scene.serve_zone(unchanged=sent)
    scene.zones.damaged, scene.zones.behind = {ZONE: "a sealed file is damaged"}, {ZONE}
    line = f"zone {ZONE}: a sealed file is damaged"
    assert scene.look() == (Readiness([], [line]) if sent else Readiness([line], []))


def test_a_zone_behind_its_list_is_not_down(scene: Scene) -> None:
    scene.zones.behind = {ZONE}
    assert scene.look() == Readiness([], [f"zone {ZONE} keeps serial 7: its next one can't be made: see the log"])


def test_a_list_that_is_not_configured_is_ignored(scene: Scene) -> None:
    scene.live_lists.withdraw(LIST)
    scene.config = replace(scene.config, lists={}, zones={})
    assert scene.look() == Readiness([], [])
    assert ListId(LIST) not in scene.config.lists

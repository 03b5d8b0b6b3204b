"""Which serial a secondary holds: what it asks from, and what its polls confirm."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from blocklistd.limits import POLL_TO_TRANSFER, SECONDARY_KNOWN
from blocklistd.ops import status
from blocklistd.pipeline.secondaries import Secondaries
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.query import SecondaryRequest
from blocklistd.serve.dns.zones import Peer, Zones
from blocklistd.store.zones import add_serial
from tests.versions_of import NOW, Versions

ZONE = "rpz.example"
NAME = wire_name(ZONE)
PEER = Peer("isp", frozenset({NAME}), (), (), ())
ADDRESS = "192.0.2.1"


class Scene:
    """One subscriber's secondaries, and a zone at `current`."""

    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder)
        self.now = NOW
        self.current = 0
        zones = Zones()
        zones.replace_peers([PEER])
        self.secondaries = Secondaries(zones, self.clock)

    def clock(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def publish(self) -> None:
        self.current += 1
        row: dict[str, Any] = {
            **{"zone": ZONE, "serial": self.current, "session": "", "version": self.current, "record_settings": ""},
            **{"apex_settings": "", "rules": "", "wire": "", "added": 0, "removed": 0, "records": 0, "covered": 0},
            **{"omitted": [], "time": self.now},
        }
        with self.versions.database.write() as connection:
            add_serial(connection, row)

    def seen(self, serial: int | None = None, *, poll: bool = False, address: str = ADDRESS) -> SecondaryRequest:
        return SecondaryRequest(PEER, NAME, address, serial, self.current, poll)

    def polls(self, address: str = ADDRESS) -> None:
        self.secondaries.saw(self.seen(poll=True, address=address))

    def asks(self, serial: int | None = None, address: str = ADDRESS) -> None:
        """For a transfer, which does not come to its end."""
        self.secondaries.saw(self.seen(serial, address=address))

    def transfers(self, serial: int | None = None, address: str = ADDRESS) -> None:
        self.asks(serial, address)
        self.secondaries.sent(self.seen(serial, address=address), self.current)

    @property
    def shown(self) -> dict[str, Any]:
        """Its zone in `status`."""
        who: Any = type("Who", (), {"id": "isp"})
        publisher: Any = type("Publisher", (), {"secondaries": self.secondaries})
        with self.versions.database.read() as connection:
            return status._zone(who, ZONE, connection, publisher, ())

    @property
    def held(self) -> int | None:
        return self.secondaries.lowest("isp", ZONE)

    @property
    def metric(self) -> float:
        with self.versions.database.read() as connection:
            return self.secondaries.furthest(connection, [ZONE])[ZONE]


@pytest.fixture
def scene(tmp_path: Path) -> Any:
    made = Scene(tmp_path)
    made.publish()
    yield made
    made.versions.close()


def test_what_was_sent_is_not_held_until_a_poll_that_no_transfer_follows(scene: Scene) -> None:
    scene.transfers()
    assert scene.held is None
    assert scene.shown["secondaries"][0]["sent"] == 1
    scene.passes(3600)
    assert scene.held is None, "time alone confirms nothing"
    scene.polls()
    assert scene.held is None, "a transfer could follow"
    scene.passes(POLL_TO_TRANSFER)
    assert scene.held == 1
    assert scene.shown["lag"] == scene.metric == 0.0


def test_polls_in_a_short_refresh_confirm_as_well(scene: Scene) -> None:
    scene.transfers()
    for _ in range(4):
        scene.polls()
        scene.passes(POLL_TO_TRANSFER / 4)
    assert scene.held == 1


def test_a_poll_that_a_transfer_follows_confirms_nothing(scene: Scene) -> None:
    """Whoever asks for all of what it was sent has thrown that away, or was started again without it."""
    scene.transfers()
    for wait in (0, POLL_TO_TRANSFER, 600):
        scene.polls()
        scene.passes(wait)
        scene.asks()
        assert scene.held is None
        scene.passes(600)
        assert scene.held is None
        scene.secondaries.sent(scene.seen(), 1)


def test_a_poll_confirms_no_serial_that_was_not_transferred_to_its_end(scene: Scene) -> None:
    """UDP passes, TCP is blocked: the polls go on for ever."""
    scene.polls()
    scene.passes(600)
    assert scene.held is None, "nothing was transferred since we started"
    scene.transfers()
    scene.polls()
    scene.passes(600)
    scene.publish()
    for _ in range(3):
        scene.passes(600)
        scene.polls()
    assert scene.shown["serial"] == scene.shown["secondaries"][0]["sent"] == 1
    scene.asks(1)  # and breaks off
    scene.polls()
    scene.passes(600)
    assert scene.held == 1
    assert scene.shown["lag"] == scene.metric == 2400.0


def test_a_secondary_that_asks_from_a_lower_serial_than_it_was_sent_holds_the_lower_one(scene: Scene) -> None:
    scene.transfers()
    scene.publish()
    scene.transfers(1)
    scene.asks(1)
    scene.polls()
    scene.passes(600)
    assert (scene.held, scene.shown["secondaries"][0]["sent"]) == (1, 2)


def test_a_full_transfer_of_a_newer_serial_keeps_the_confirmed_one(scene: Scene) -> None:
    """Unbound asks for the whole zone after five differences."""
    scene.transfers()
    scene.polls()
    scene.passes(60)
    scene.publish()
    scene.polls()
    scene.transfers()
    assert scene.held == 1
    scene.passes(60)
    scene.polls()
    scene.passes(60)
    assert scene.held == 2


def test_an_ixfr_request_confirms_the_serial_that_it_names(scene: Scene) -> None:
    scene.publish()
    scene.asks(1)
    assert scene.held == 1
    scene.asks(2)
    assert (scene.held, scene.metric) == (2, 0.0)


def test_status_and_metric_agree(scene: Scene) -> None:
    for address, serial in ((ADDRESS, 1), ("192.0.2.2", 1), ("2001:db8::1", 1)):
        scene.asks(serial, address)
    scene.passes(100)
    scene.publish()
    scene.passes(50)
    scene.asks(2, ADDRESS)
    assert scene.shown["lag"] == scene.metric == 50.0
    for address in ("192.0.2.2", "2001:db8::1"):
        scene.asks(2, address)
    assert scene.shown["lag"] == scene.metric == 0.0
    scene.passes(100)
    scene.publish()
    scene.asks(3, ADDRESS)
    scene.passes(SECONDARY_KNOWN - 101)
    assert scene.shown["lag"] == scene.metric == SECONDARY_KNOWN - 101
    scene.polls(ADDRESS)
    scene.passes(1)
    assert (scene.shown["serial"], scene.shown["lag"], scene.metric) == (3, 0.0, 0.0), "silent for a day: not counted"
    assert len(scene.shown["secondaries"]) == 3, "and shown all the same"

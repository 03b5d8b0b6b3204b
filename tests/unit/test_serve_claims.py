"""Claims of clients to hold a number above the newest one: an alarm that ends, and that nobody can keep active."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from blocklistd.limits import CLAIM_ALARM_HOURS, CLAIM_DAYS
from blocklistd.serve.claims import Claims
from blocklistd.store import client_claims
from blocklistd.telemetry import ActiveAlarms
from tests.versions_of import NOW, Versions

LIST = "list national"
HOUR = timedelta(hours=1)


class Scene:
    def __init__(self) -> None:
        self.now = NOW
        self.alarms = ActiveAlarms()
        self.claims = Claims(self.alarms, self.clock)

    def clock(self) -> datetime:
        return self.now

    def claim(self, subscriber: str = "isp", subject: str = LIST) -> None:
        self.claims.claim(subscriber, subject, f"{subscriber} has version 9 of {subject}", 4)

    def passes(self, time: timedelta) -> set[str]:
        """The subjects of the active alarms after this time."""
        self.now += time
        self.claims.refresh()
        return self.alarms.subjects("client_ahead")


def test_an_alarm_ends_by_itself_and_is_not_raised_again_by_the_same_subscriber() -> None:
    scene = Scene()
    scene.claim()
    (text,) = scene.alarms.texts()
    assert text.startswith("isp has version 9 of list national, but the newest here is 4: either the claim is false")
    raised = 0
    for _ in range(CLAIM_DAYS * 24 - 1):
        scene.claim()
        raised += scene.passes(HOUR) == {LIST}
    assert raised == CLAIM_ALARM_HOURS - 1
    assert scene.passes(HOUR) == set()
    scene.claim()
    assert scene.passes(HOUR) == {LIST}, "long after the first one, it counts again"


def test_others_and_other_lists_count() -> None:
    scene = Scene()
    scene.claim()
    assert scene.passes(23 * HOUR) == {LIST}
    scene.claim("second")
    scene.claim(subject="zone rpz.example")
    assert scene.passes(2 * HOUR) == {LIST, "zone rpz.example"}
    assert scene.alarms.active()["client_ahead", LIST].startswith("second has")
    assert scene.passes(24 * HOUR) == set()


def test_a_restart_neither_ends_an_alarm_nor_begins_one_again(tmp_path: Path) -> None:
    versions, scene = Versions(tmp_path), Scene()
    scene.claim()
    assert scene.claims.changed
    with versions.database.write() as connection:
        client_claims.replace(connection, scene.claims.rows)
    for hours, active in ((1, {LIST}), (CLAIM_ALARM_HOURS, set())):
        again = Scene()
        again.now = NOW + hours * HOUR
        with versions.database.read() as connection:
            again.claims.load(client_claims.load(connection))
        again.claim()
        assert again.alarms.subjects("client_ahead") == active
        assert not again.claims.changed
    versions.close()


def test_numbers_above_all_others_end_all_alarms() -> None:
    scene = Scene()
    scene.claim()
    scene.claims.changed = False
    scene.claims.forget_all()
    assert scene.alarms.subjects("client_ahead") == set()
    assert (scene.claims.rows, scene.claims.changed) == ([], True)


def test_a_claim_from_the_future_is_forgotten() -> None:
    scene = Scene()
    scene.claim()
    assert scene.passes(-2 * HOUR) == set()
    scene.claim()
    assert scene.passes(HOUR) == {LIST}

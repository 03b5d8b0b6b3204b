"""The receipts of an edge: which version of its source each node has, and what is withheld from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from blocklistd.model import Outcome, SourceId, SubscriberId, Validators
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.pipeline.source_receipts import SourceReceipt, node_name, receipts_of
from blocklistd.receipts import Copied, JudgedNode, Node, NodePlace, Receipt
from blocklistd.sources.transports.transport import Request
from blocklistd.store import source_versions
from blocklistd.store.pulls import accept_body, record_pull
from blocklistd.store.schema import lists
from blocklistd.store.zones import add_serial
from tests.versions_of import LIST, NOW, Versions, report

SESSION = "00000000-0000-4000-8000-000000000000"
SOURCE = SourceId("hotline")
ZONE = "rpz.example"
PLAN = SourcePlan(
    SOURCE,
    lambda known: Request("tuf+https://feed.example/national", None, 1, 1, validators=known),
    *("entries", {}, {}, "none", ()),
    lists=(LIST,),
    quarantine=False,
    receipts="edge-1",
)


class Edge:
    """An edge with one list; its zone has a serial for each version of the list."""

    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder)
        self.now = NOW
        self.nodes: list[JudgedNode] = []

    def pulls(self, version: int, *names: str, held: bool = False, session: str = SESSION) -> None:
        """A version of the source with these names; a guard holds it with `held`."""
        self.now += timedelta(hours=1)
        sealed = self.versions.seal(names)
        with self.versions.database.write() as connection:
            accept_body(connection, SOURCE, report(sealed), PLAN.settings)
        made = None if held else self.versions.publish(sealed, now=self.now)
        outcome = Outcome.HELD if held else Outcome.PUBLISHED if made else Outcome.UNCHANGED
        with self.versions.database.write() as connection:
            record_pull(
                *(connection, SOURCE),
                outcome=outcome,
                reason=None,
                candidate=None,
                began=self.now,
                ended=self.now,
                report=None,
                validators=Validators(None, None, f"{session} {version}"),
                settings=PLAN.settings,
            )
        if made is not None:
            self.serves(made)

    def serves(self, version: int) -> None:
        with self.versions.database.write() as connection:
            row: dict[str, Any] = {
                **{"zone": ZONE, "list": LIST, "serial": version, "session": "", "version": version},
                **{"record_settings": "", "apex_settings": "", "rules": "", "wire": "", "added": 0, "removed": 0},
                **{"records": 0, "covered": 0, "omitted": [], "time": self.now},
            }
            add_serial(connection, row)

    def holds(self, serial: int, address: str = "192.0.2.1", zone: str = ZONE, *, silent: bool = False) -> None:
        place = NodePlace(SubscriberId("resolver"), Copied.ZONE, zone, address)
        node = Node.of(Receipt(serial, "applied", None, self.now + timedelta(minutes=1)), self.now)
        self.nodes = [one for one in self.nodes if one.place != place]
        self.nodes.append(JudgedNode(place, node, 0.0, late=False, silent=silent))

    @property
    def receipts(self) -> list[SourceReceipt]:
        with self.versions.database.write() as connection:
            source_versions.note(connection, SOURCE, PLAN.settings, LIST, self.now)
        with self.versions.database.read() as connection:
            return receipts_of(connection, PLAN, self.nodes)

    @property
    def said(self) -> dict[str, tuple[int, str]]:
        return {one.node: (one.version, one.state) for one in self.receipts}


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    made = Edge(tmp_path)
    yield made
    made.versions.close()


RESOLVER = "edge-1-resolver-192.0.2.1"


def test_each_node_has_a_version_of_the_source(edge: Edge) -> None:
    assert edge.receipts == []
    edge.pulls(7, "a.example")
    edge.holds(1)
    assert edge.said == {"edge-1": (7, "applied"), RESOLVER: (7, "applied")}
    edge.pulls(9, "a.example", "b.example")
    assert edge.said == {"edge-1": (9, "applied"), RESOLVER: (7, "applied")}
    first = {one.node: one.applied_at for one in edge.receipts}
    edge.holds(2)
    assert edge.said[RESOLVER] == (9, "applied")
    assert edge.receipts[0].applied_at == first["edge-1"], "the same receipt is not made again with another time"
    assert edge.receipts[1].applied_at == edge.now + timedelta(minutes=1)


def test_a_version_that_changes_nothing_here_is_there_at_once(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    edge.holds(1)
    assert edge.said[RESOLVER] == (7, "applied")
    edge.pulls(8, "a.example")
    assert edge.said == {"edge-1": (8, "applied"), RESOLVER: (8, "applied")}
    assert {one.applied_at for one in edge.receipts} == {edge.now}, "not before the version was pulled"


def test_a_version_that_a_guard_holds_has_failed_here(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    edge.holds(1)
    assert edge.said["edge-1"] == (7, "applied")
    edge.pulls(8, "b.example", held=True)
    assert edge.said == {"edge-1": (8, "failed"), RESOLVER: (7, "applied")}
    assert edge.receipts[0].document() == {
        "session": SESSION,
        "version": 8,
        "node": "edge-1",
        "state": "failed",
        "reason": "a guard of the edge holds it for review",
        "applied_at": "2026-11-20T14:00:00.000Z",
        "probe": None,
    }


def test_what_is_withheld_is_counted(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    edge.holds(1)
    with edge.versions.database.write() as connection:
        connection.execute(update(lists).values(withheld={"exception": 2, "type": 3}))
    reasons = {one.reason for one in edge.receipts}
    assert reasons == {"2 entries are withheld by local exceptions, 3 entries are withheld by other rules of the edge"}
    assert {state for _, state in edge.said.values()} == {"partial"}


def test_nothing_is_said_of_a_list_that_has_older_content_again(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    assert edge.said
    with edge.versions.database.write() as connection:
        connection.execute(update(lists).values(basis="0" * 64))
    assert edge.receipts == []
    with edge.versions.database.write() as connection:
        connection.execute(update(lists).values(basis=None))
    assert edge.said == {"edge-1": (7, "applied")}


def test_a_new_session_of_the_publisher_takes_the_place_of_the_old_one(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    assert edge.said == {"edge-1": (7, "applied")}
    edge.pulls(3, "b.example", session="other")
    assert [(one.session, one.version) for one in edge.receipts] == [("other", 3)]


def test_a_silent_secondary_and_one_of_another_zone_send_nothing(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    edge.holds(1, silent=True)
    edge.holds(1, "192.0.2.2", "other.example")
    edge.holds(99, "192.0.2.3")
    assert edge.said == {"edge-1": (7, "applied")}


def test_a_secondary_of_several_zones_has_the_lowest_version_of_them(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    edge.holds(1)
    assert edge.said
    edge.pulls(8, "b.example")
    with edge.versions.database.write() as connection:
        row = {"zone": "second.example", "list": LIST, "serial": 1, "session": "", "version": 2, "omitted": ["e-0"]}
        numbers = {"added": 0, "removed": 0, "records": 0, "covered": 0}
        texts = {"record_settings": "", "apex_settings": "", "rules": "", "wire": "", "time": edge.now}
        add_serial(connection, {**row, **numbers, **texts})
    edge.holds(1, zone="second.example")
    assert edge.said[RESOLVER] == (7, "partial")
    edge.holds(2)
    assert edge.said[RESOLVER] == (8, "partial")


def test_names_of_nodes_are_those_that_receipts_may_have() -> None:
    place = NodePlace(SubscriberId("resolver"), Copied.ZONE, ZONE, "2001:db8::1")
    assert node_name("edge-1", place) == "edge-1-resolver-2001-db8--1"
    long = replace_subscriber(place, "x" * 60), replace_subscriber(place, "x" * 61)
    names = {node_name("edge-1", one) for one in long}
    assert {len(name) for name in names} == {64}
    assert len(names) == 2


def replace_subscriber(place: NodePlace, name: str) -> NodePlace:
    return place._replace(subscriber=SubscriberId(name))


def test_old_rows_are_removed(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    assert edge.said
    edge.now += timedelta(days=91)
    edge.pulls(8, "b.example")
    assert edge.said
    with edge.versions.database.read() as connection:
        assert source_versions.held(connection, SOURCE, LIST, 1) is None
        assert source_versions.held(connection, SOURCE, LIST, 2) == (SESSION, 8, edge.now)


def test_a_body_that_was_read_with_other_settings_says_nothing(edge: Edge) -> None:
    edge.pulls(7, "a.example")
    other = replace(PLAN, format="text")
    with edge.versions.database.write() as connection:
        source_versions.note(connection, SOURCE, other.settings, LIST, datetime.now(NOW.tzinfo))
        assert receipts_of(connection, other, []) == []


def test_of_two_receipts_for_one_version_the_second_has_the_later_time() -> None:
    first = SourceReceipt("edge-1", SESSION, 7, "applied", None, NOW)
    second, later = replace(first, state="partial"), NOW + timedelta(minutes=1)
    assert first.repeats(replace(first, applied_at=later))
    assert not second.repeats(first)
    assert second.after(first, later).applied_at == later
    assert replace(second, version=8).after(first, later).applied_at == NOW
    assert first.after(None, later) == first

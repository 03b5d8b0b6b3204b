"""The laws of receipts: in whatever order they arrive, and however often, the state is that of the newest of each node;
the times until versions are live equal those of a plain model."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.model import SubscriberId
from blocklistd.receipts import Copied, NodePlace, Published, Receipt, Reported, times_to_live
from blocklistd.store import receipts, subscribers
from blocklistd.store.receipts import ReceivedReceipt
from blocklistd.store.subscribers import Registration
from tests.examples import examples
from tests.versions_of import LIST, NOW, Versions

VERSIONS = 4
RECEIVED = NOW + timedelta(days=1)
times = st.integers(0, 5).map(lambda hours: NOW + timedelta(hours=hours))
sent = st.builds(
    Receipt,
    st.integers(1, VERSIONS),
    st.sampled_from(["applied", "partial", "failed"]),
    st.sampled_from([None, "the disk is full"]),
    times,
    st.sampled_from([None, "blocked", "resolves"]),
)
by_node = st.tuples(st.sampled_from(["edge-1", "edge-2"]), sent)


def place(node: str) -> NodePlace:
    return NodePlace(SubscriberId("isp"), Copied.LIST, LIST, node)


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_the_order_of_arrival_changes_nothing(data: st.DataObject) -> None:
    arrived = data.draw(st.lists(by_node, min_size=1, max_size=12))
    again = data.draw(st.permutations([*arrived, *data.draw(st.lists(st.sampled_from(arrived), max_size=4))]))
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=len(again), max_size=len(again)))
    with tempfile.TemporaryDirectory() as folder:
        versions = Versions(Path(folder))
        try:
            for number in range(VERSIONS):
                versions.publish(versions.seal([f"n{number}.example"]))
            with versions.database.write() as connection:
                asked = Registration("isp", (LIST,))
                subscribers.add(connection, asked, lists=[LIST], zones=[], now=NOW, created_by="alice")
            waiting, number = list(again), 0
            while waiting:
                batch, waiting = waiting[: sizes[number]], waiting[sizes[number] :]
                number += 1
                with versions.database.write() as connection:
                    done = receipts.record(
                        connection, [ReceivedReceipt(place(node), one, RECEIVED) for node, one in batch]
                    )
                assert not done.missing
            with versions.database.read() as connection:
                nodes = receipts.load_nodes(connection)
                reported = receipts.reported_since(connection, "isp", Copied.LIST, LIST, 1)
        finally:
            versions.close()
    assert nodes.keys() == {place(node) for node, _ in arrived}
    for name in {node for node, _ in arrived}:
        mine = [one for node, one in arrived if node == name]
        found, live = nodes[place(name)], [one.version for one in mine if one.state != "failed"]
        assert found.newest == max(mine, key=lambda one: one.order)
        assert found.version == max(live, default=None)
        probes = [(one.version, one.applied_at, one.probe) for one in mine if one.probe]
        assert found.probed == max(probes, default=None)
        assert reported[name] == {number: plain(mine, number) for number in {one.version for one in mine}}


def plain(mine: list[Receipt], version: int) -> Reported:
    of = [one for one in mine if one.version == version]
    live = [one.applied_at for one in of if one.state != "failed"]
    return Reported(max(of, key=lambda one: one.order), min(live, default=None))


hours = st.integers(0, 30).map(lambda number: NOW + timedelta(hours=number))


@settings(max_examples=examples(200))
@given(
    st.lists(hours, max_size=8).map(sorted),
    st.dictionaries(st.integers(1, 10), st.one_of(st.none(), hours), max_size=8),
    hours,
)
def test_the_times_until_versions_are_live_are_those_of_a_plain_model(
    published: list[datetime], live: dict[int, datetime | None], since: datetime
) -> None:
    versions = [Published(number, time) for number, time in enumerate(published, 1)]
    model: dict[int, float | None] = {}
    for version, time in versions:
        if version not in live and time < since:
            continue
        reached = [at for number, at in live.items() if number >= version and at is not None]
        model[version] = max(0.0, (min(reached) - time).total_seconds()) if reached else None
    assert times_to_live(versions, live, since) == model

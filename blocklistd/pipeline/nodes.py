"""The subscribers' nodes, judged (receipts.judge): those that send receipts, and the secondaries of zones.

The receipts of secondaries are made from what secondaries.py knows, which is in memory only: `record_secondaries`,
called once a minute, writes the serial that each one holds. So a restart forgets no secondary, and one that falls
silent is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from blocklistd.limits import MAX_RECEIPTS, RECEIPT_DAYS, USE_RECORDED
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.secondaries import Secondaries, Sighting
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.receipts import Bounds, Copied, JudgedNode, Node, NodePlace, Receipt, judge
from blocklistd.store import receipts
from blocklistd.store.receipts import ReceivedReceipt
from blocklistd.store.subscribers import Subscriber, load

_REMEMBERED: Final = timedelta(days=RECEIPT_DAYS)


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """How many nodes a subscriber has, and how many of them are late, are silent, or failed their last probe. `lag`:
    the longest in seconds, without the silent ones."""

    nodes: int
    late: int
    silent: int
    failed_probes: int
    lag: float

    @classmethod
    def of(cls, nodes: Sequence[JudgedNode]) -> NodeCounts:
        """The counts of a subscriber's nodes. A node that has several lists counts once."""

        def names(found: Sequence[JudgedNode]) -> int:
            return len({(one.place.copied, one.place.node) for one in found})

        return cls(
            names(nodes),
            names([one for one in nodes if one.late]),
            names([one for one in nodes if one.silent]),
            names([one for one in nodes if one.failed_probe]),
            max((one.lag for one in nodes if not one.silent), default=0.0),
        )


class Nodes:
    """Judges the nodes, and records the serials of secondaries."""

    def __init__(self, resources: Resources, zones: ZonePublisher, forgotten: Callable[[], None]) -> None:
        """`forgotten` is called after nodes were removed."""
        self._forgotten = forgotten
        self._resources = resources
        self._zones = zones
        self._listening = resources.clock()
        self._recorded: dict[NodePlace, tuple[int, datetime]] = {}
        """By secondary: the serial, and the time when it was seen, that were written last."""

    @property
    def _secondaries(self) -> Secondaries:
        return self._zones.secondaries

    def judged(self, connection: Connection) -> dict[str, list[JudgedNode]]:
        """The nodes of each subscriber that is not revoked, of the lists and zones that it may have."""
        now, stored = self._resources.clock(), receipts.load_nodes(connection)
        of: dict[str, dict[NodePlace, Node]] = {}
        for place, node in stored.items():
            of.setdefault(place.subscriber, {})[place] = node
        lacking: dict[tuple[Copied, str, int], datetime | None] = {}
        found = dict[str, list[JudgedNode]]()
        for who in load(connection).values():
            if who.revoked is not None:
                continue
            nodes, rows = self._present(who, of.get(who.id, {})), list[JudgedNode]()
            for place, node in nodes.items():
                key = place.copied, place.subject, node.lacks_after
                if key not in lacking:
                    lacking[key] = receipts.lacking_since(connection, *key)
                rows.append(judge(place, node, lacking[key], Bounds(who.objective, self._listening), now))
            found[who.id] = rows
        return found

    def _present(self, who: Subscriber, stored: dict[NodePlace, Node]) -> dict[NodePlace, Node]:
        """The nodes of a subscriber: the stored ones of what it may have, with what is known of its secondaries."""
        zones = {name for zone in who.zones for name in self._zones.names_of(zone)}
        subjects = {Copied.LIST: who.lists, Copied.ZONE: zones}
        found = {place: node for place, node in stored.items() if place.subject in subjects[place.copied]}
        for place, sighting in self._sightings(who):
            known, now = found.get(place), self._resources.clock()
            serial, since = sighting.confirmed(now), sighting.held_since(now)
            if known is None and serial is not None:
                known = Node.of(Receipt(serial, "applied", None, since or sighting.seen), sighting.seen)
            if known is not None:
                version = known.version if serial is None else serial
                found[place] = replace(known, version=version, seen=max(known.seen, sighting.seen))
        return found

    def _sightings(self, who: Subscriber) -> Iterator[tuple[NodePlace, Sighting]]:
        for zone in sorted(who.zones):
            for name in self._zones.names_of(zone):
                for address, sighting in self._secondaries.known(who.id, name).items():
                    yield NodePlace(who.id, Copied.ZONE, name, address), sighting

    def forget(self, subscriber: str, names: Collection[str] | None = None) -> None:
        """Forgets the secondaries of a subscriber with these addresses; None: all. Their rows are removed before."""
        self._secondaries.forget(subscriber, names)
        self._forgotten()

    async def record_secondaries(self) -> None:
        """Records the serials that secondaries hold, and when they were last seen. Raises StoreError."""
        database = self._resources.database
        if database.read_only or database.halted is not None:
            return
        known, now = await database.reading(load), self._resources.clock()
        arrived, seen = list[ReceivedReceipt](), dict[NodePlace, datetime]()
        written: dict[NodePlace, tuple[int, datetime]] = {}
        for who in known.values():
            for place, sighting in self._sightings(who) if who.revoked is None else ():
                serial, since = sighting.confirmed(now), sighting.held_since(now)
                if serial is None or since is None:
                    continue
                before = self._recorded.get(place)
                if before is None or before[0] != serial:
                    arrived.append(ReceivedReceipt(place, Receipt(serial, "applied", None, since), sighting.seen))
                elif (sighting.seen - before[1]).total_seconds() >= USE_RECORDED:
                    seen[place] = sighting.seen
                else:
                    written[place] = before
                    continue
                written[place] = serial, sighting.seen

        def write(connection: Connection) -> None:
            receipts.record(connection, arrived)
            receipts.see(connection, seen)

        if arrived or seen:
            await database.writing(write)
        self._recorded = written

    async def expire(self) -> None:
        """Removes old receipts, and the nodes that have been silent for RECEIPT_DAYS. Raises StoreError."""
        database, now = self._resources.database, self._resources.clock()
        judged = await database.reading(self.judged)
        silent = [one for nodes in judged.values() for one in nodes if one.silent]
        expired = [one.place for one in silent if now - one.node.seen > _REMEMBERED]

        def remove(connection: Connection) -> None:
            receipts.expire(connection, now, RECEIPT_DAYS, MAX_RECEIPTS)
            receipts.forget(connection, expired)

        await database.writing(remove)
        self._forgotten()

"""Receipts and nodes in the database (receipts.py has what they mean).

A row of `nodes` for each node and list or zone, and a row of `receipts` for each of its versions. `record` writes many
receipts in one transaction. `expire` removes old rows, `forget_nodes` a node that is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Column, Connection, Row, Table, delete, func, select, tuple_

from blocklistd.model import ListId, SubscriberId
from blocklistd.receipts import Copied, Node, NodePlace, Probe, Published, Receipt, Reported
from blocklistd.store.backends.backend import upsert
from blocklistd.store.schema import versions
from blocklistd.store.schema_served import nodes, receipts, zone_serials

_PLACE: Final = ("subscriber", "copied", "subject", "node")
_LOOKED_UP: Final = 200  # keys in one statement


@dataclass(frozen=True, slots=True)
class ReceivedReceipt:
    """A receipt that has arrived, as the node sent it, and when it was received."""

    place: NodePlace
    receipt: Receipt
    received: datetime

    @property
    def version(self) -> CopiedVersion:
        """What the receipt is for."""
        return CopiedVersion(self.place.copied, self.place.subject, self.receipt.version)


class CopiedVersion(NamedTuple):
    """A version of a list, or a serial of a zone."""

    copied: Copied
    subject: str
    version: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome for each of the receipts, in their order: `missing` has the numbers of those whose version was never
    published, `repeated` of those that said nothing new."""

    missing: frozenset[int]
    repeated: frozenset[int]


def record(connection: Connection, arrived: list[ReceivedReceipt]) -> Recorded:
    """Records receipts. One that says nothing new, or whose version was never published, changes nothing."""
    exist = _existing(connection, {one.version for one in arrived})
    known = load_nodes(connection, {one.place for one in arrived})
    of_versions = _load_reported(connection, {(*one.place, one.receipt.version) for one in arrived})
    missing, repeated = set[int](), set[int]()
    changed_nodes, changed_versions = set[NodePlace](), dict[tuple[Any, ...], datetime]()
    for number, one in enumerate(arrived):
        place, key, published_at = one.place, (*one.place, one.receipt.version), exist.get(one.version)
        if published_at is None:
            missing.add(number)
            continue
        receipt = one.receipt.arrived(published_at, one.received)
        is_corrected = receipt.applied_at != one.receipt.applied_at  # perhaps to the time of arrival
        before, node = of_versions.get(key), known.get(place)
        if before is not None and receipt.repeats(before.newest) and (is_corrected or receipt == before.newest):
            repeated.add(number)
            continue
        of_versions[key] = before.with_receipt(receipt) if before is not None else Reported.of(receipt)
        known[place] = node.with_receipt(receipt, one.received) if node is not None else Node.of(receipt, one.received)
        changed_versions[key] = max(one.received, changed_versions.get(key, one.received))
        changed_nodes.add(place)
    upsert(connection, nodes, [_node_values(place, known[place]) for place in changed_nodes])
    rows = [_reported_values(key, of_versions[key], received) for key, received in changed_versions.items()]
    upsert(connection, receipts, rows)
    return Recorded(frozenset(missing), frozenset(repeated))


def see(connection: Connection, seen: Mapping[NodePlace, datetime]) -> None:
    """Records when known nodes were last seen."""
    for place, time in seen.items():
        connection.execute(nodes.update().where(_at(nodes, place), nodes.c.seen < time).values(seen=time))


def load_nodes(connection: Connection, places: Collection[NodePlace] | None = None) -> dict[NodePlace, Node]:
    """The nodes at these places; None: all."""
    query = select(nodes).order_by(nodes.c.subject, nodes.c.node)
    if places is None:
        rows: Iterable[Row[Any]] = connection.execute(query)
    else:
        rows = _where_in(connection, query, [nodes.c[name] for name in _PLACE], places)
    return {_place(row): _node(row) for row in rows}


def names_of_nodes(connection: Connection) -> dict[SubscriberId, set[str]]:
    """The names of each subscriber's nodes that send receipts."""
    found: dict[SubscriberId, set[str]] = {}
    mine = nodes.c.copied == Copied.LIST
    for subscriber, name in connection.execute(select(nodes.c.subscriber, nodes.c.node).where(mine).distinct()):
        found.setdefault(subscriber, set()).add(name)
    return found


def lacking_since(connection: Connection, copied: Copied, subject: str, after: int) -> datetime | None:
    """When the first version (serial) above `after` was published; None if there is none."""
    table, name, number = _TABLES[copied]
    later = select(table.c.time).where(name == subject, number > after).order_by(number).limit(1)
    time: datetime | None = connection.execute(later).scalar()
    return time


def published(connection: Connection, copied: Copied, subject: str, start: datetime, end: datetime) -> list[Published]:
    """The versions (serials) that were published from `start` until before `end`."""
    table, name, number = _TABLES[copied]
    inside = select(number, table.c.time).where(name == subject, table.c.time >= start, table.c.time < end)
    return [Published(*row) for row in connection.execute(inside.order_by(number))]


def reported_since(
    connection: Connection, subscriber: str, copied: Copied, subject: str, lowest: int
) -> dict[str, dict[int, Reported]]:
    """What each node reported of the version `lowest` and of later ones."""
    mine = receipts.c.subscriber == subscriber, receipts.c.copied == copied, receipts.c.subject == subject
    found: dict[str, dict[int, Reported]] = {}
    for row in connection.execute(select(receipts).where(*mine, receipts.c.version >= lowest)):
        found.setdefault(row.node, {})[row.version] = _reported(row)
    return found


def forget_nodes(connection: Connection, subscriber: str, name: str) -> bool:
    """Removes a node of a subscriber from all lists and zones, with its receipts. Returns whether there was one."""
    connection.execute(delete(receipts).where(receipts.c.subscriber == subscriber, receipts.c.node == name))
    removed = connection.execute(delete(nodes).where(nodes.c.subscriber == subscriber, nodes.c.node == name))
    return bool(removed.rowcount)


def forget(connection: Connection, places: Iterable[NodePlace]) -> None:
    """Removes nodes with their receipts."""
    for place in places:
        for table in (receipts, nodes):
            connection.execute(delete(table).where(_at(table, place)))


def expire(connection: Connection, now: datetime, days: int, most: int) -> int:
    """Removes the receipts that are older than `days`, and of each subscriber all but the newest `most`. Returns how
    many."""
    old = receipts.c.received < now - timedelta(days=days)
    removed = connection.execute(delete(receipts).where(old)).rowcount
    counted = select(receipts.c.subscriber).group_by(receipts.c.subscriber).having(func.count() > most)
    for subscriber in connection.execute(counted).scalars().all():
        mine = receipts.c.subscriber == subscriber
        newest = select(receipts.c.received).where(mine).order_by(receipts.c.received.desc()).offset(most).limit(1)
        last = connection.execute(newest).scalar()
        removed += connection.execute(delete(receipts).where(mine, receipts.c.received <= last)).rowcount
    return removed


def oldest(connection: Connection) -> datetime | None:
    """When the oldest kept receipt arrived; None without any."""
    return connection.execute(select(func.min(receipts.c.received))).scalar()


class TimeToLive(NamedTuple):
    """A report of a version: the list, and the seconds from the version until it was live at the node."""

    list: ListId
    seconds: float


def times_to_live(connection: Connection, start: datetime, end: datetime, most: int) -> list[TimeToLive]:
    """What nodes reported from `start` until before `end`, at most the first `most` reports of lists, and of zones."""
    found = []
    for copied, (table, name, number) in _TABLES.items():
        here = receipts.c.copied == copied, receipts.c.subject == name, receipts.c.version == number
        live = receipts.c.received >= start, receipts.c.received < end, receipts.c.live.is_not(None)
        columns = table.c.list, table.c.time, receipts.c.live
        for row in connection.execute(select(*columns).where(*here, *live).order_by(receipts.c.received).limit(most)):
            if row.list is not None:
                found.append(TimeToLive(row.list, max(0.0, (row.live - row.time).total_seconds())))
    return found


_TABLES: Final[Mapping[Copied, tuple[Table, Column[Any], Column[Any]]]] = {
    Copied.LIST: (versions, versions.c.list, versions.c.version),
    Copied.ZONE: (zone_serials, zone_serials.c.zone, zone_serials.c.serial),
}
"""The tables of what is published, each with the columns of name and number."""


def _existing(connection: Connection, requested: set[CopiedVersion]) -> dict[CopiedVersion, datetime]:
    """Those of the versions that were published, and when."""
    found = dict[CopiedVersion, datetime]()
    for copied, (table, name, number) in _TABLES.items():
        keys = [(subject, version) for kind, subject, version in requested if kind is copied]
        rows = _where_in(connection, select(name, number, table.c.time), [name, number], keys)
        found |= {CopiedVersion(copied, subject, version): time for subject, version, time in map(tuple, rows)}
    return found


def _load_reported(connection: Connection, keys: Collection[tuple[Any, ...]]) -> dict[tuple[Any, ...], Reported]:
    columns = [receipts.c[name] for name in (*_PLACE, "version")]
    rows = _where_in(connection, select(receipts), columns, keys)
    return {(*_place(row), row.version): _reported(row) for row in rows}


def _where_in(
    connection: Connection, query: Any, columns: list[Column[Any]], keys: Collection[tuple[Any, ...]]
) -> Iterable[Row[Any]]:
    listed = list(keys)
    for start in range(0, len(listed), _LOOKED_UP):
        yield from connection.execute(query.where(tuple_(*columns).in_(listed[start : start + _LOOKED_UP])))


def _at(table: Table, place: NodePlace) -> Any:
    return tuple_(*(table.c[name] for name in _PLACE)) == tuple_(*place)


def _place(row: Row[Any]) -> NodePlace:
    return NodePlace(row.subscriber, Copied(row.copied), row.subject, row.node)


def _place_values(place: NodePlace) -> dict[str, Any]:
    return dict(zip(_PLACE, place, strict=True))


def _node(row: Row[Any]) -> Node:
    probed = Probe(row.probed_version, row.probed_at, row.probed) if row.probed is not None else None
    newest = Receipt(row.reported, row.state, row.reason, row.applied_at, row.probe, row.clock)
    return Node(row.since, row.seen, newest, row.version, probed)


def _node_values(place: NodePlace, node: Node) -> dict[str, Any]:
    newest, probed = node.newest, node.probed
    return _place_values(place) | {
        "since": node.since,
        "seen": node.seen,
        "version": node.version,
        "reported": newest.version,
        **_said(newest),
        "clock": newest.clock,
        "probed_version": probed.version if probed else None,
        "probed_at": probed.time if probed else None,
        "probed": probed.answer if probed else None,
    }


def _said(receipt: Receipt) -> dict[str, Any]:
    return {name: getattr(receipt, name) for name in ("state", "reason", "applied_at", "probe")}


def _reported(row: Row[Any]) -> Reported:
    return Reported(Receipt(row.version, row.state, row.reason, row.applied_at, row.probe), row.live)


def _reported_values(key: tuple[Any, ...], found: Reported, received: datetime) -> dict[str, Any]:
    place = _place_values(NodePlace(*key[:4]))
    return place | {"version": key[4], **_said(found.newest), "live": found.live, "received": received}

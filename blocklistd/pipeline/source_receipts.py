"""The receipts of an edge, for the publishers of its sources that are lists of another blocklistd.

A source with `receipts` gets one for each node here, with the version of the source's own list that the node has:

- the edge itself: the lowest version that one of the source's lists has live. The newest version of the source counts
  as failed there while a guard holds it.
- each secondary of a zone of such a list, as long as it is not silent: the lowest version of its zones. Their serials
  are recorded by nodes.py; store/source_versions.py has the version that a version of a list stands for.

A receipt is `partial` if entries are withheld here, or don't fit into the zone; its reason has the counts, as of now.
`send` sends those that were not taken before. What was taken is in memory only: after a restart each node's last one is
sent again, which changes nothing at the publisher.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError
from blocklistd.events import Event
from blocklistd.limits import MAX_NODE_NAME, RECEIPTS_AT_ONCE
from blocklistd.lines.exceptions import EXCEPTION
from blocklistd.model import ListId, Outcome, SourceId, Validators
from blocklistd.pipeline.nodes import Nodes
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.receipts import Copied, JudgedNode, NodePlace
from blocklistd.sources.transports.tuf_receipts import NO_RECEIPTS, REFUSED, is_final, send
from blocklistd.store import source_versions
from blocklistd.store.lists import version_rows
from blocklistd.store.pulls import source_state
from blocklistd.store.source_versions import SourceVersion
from blocklistd.store.withheld import of_lists
from blocklistd.store.zones import zone_at
from blocklistd.times import rfc3339_precise

log: Final = logging.getLogger(__name__)
_NAME_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class SourceReceipt:
    """A receipt for the publisher of a source. `version`: of the source's own list, in its `session`."""

    node: str
    session: str
    version: int
    state: str
    reason: str | None
    applied_at: datetime

    def repeats(self, before: SourceReceipt) -> bool:
        """Whether it says the same as an earlier one, perhaps with another time."""
        return replace(self, applied_at=before.applied_at) == before

    def after(self, before: SourceReceipt | None, now: datetime) -> SourceReceipt:
        """With a later time than the earlier one, if both are for one version: of two, the later one counts."""
        is_later = before is None or before.version != self.version or before.applied_at < self.applied_at
        return self if is_later else replace(self, applied_at=now)

    def document(self) -> dict[str, Any]:
        """The JSON that is sent (docs/feed.md)."""
        return {
            "session": self.session,
            "version": self.version,
            "node": self.node,
            "state": self.state,
            "reason": self.reason,
            "applied_at": rfc3339_precise(self.applied_at),
            "probe": None,
        }


@dataclass(frozen=True, slots=True)
class _Held:
    """The version of a source that a node has, and since when. `omitted`: rules that do not fit into its zone."""

    version: SourceVersion
    since: datetime
    omitted: int = 0


class SourceReceipts:
    """Makes and sends the receipts of the sources. `sources` returns the plans of all configured sources."""

    def __init__(
        self, resources: Resources, nodes: Nodes, sources: Callable[[], Mapping[SourceId, SourcePlan]]
    ) -> None:
        self._resources = resources
        self._nodes = nodes
        self._sources = sources
        self._ended: dict[tuple[SourceId, str], SourceReceipt] = {}
        """By source and node: the last receipt that was taken, or refused for good."""
        self._sending = asyncio.Lock()
        self._failures: dict[SourceId, str] = {}
        """Why the receipts of a source can't be sent: logged once."""

    async def send(self) -> None:
        """Sends the receipts that are due. A publisher that can't be reached gets them later. Raises StoreError."""
        async with self._sending:
            await self._send_due()

    async def _send_due(self) -> None:
        database = self._resources.database
        plans = [plan for plan in self._sources().values() if plan.receipts and not plan.unusable]
        if not plans or database.read_only or database.halted is not None:
            return
        await self._nodes.record_secondaries()
        now = self._resources.clock()

        def note(connection: Connection) -> None:
            for plan in plans:
                for name in plan.lists:
                    source_versions.note(connection, plan.id, plan.settings, name, now)

        def made(connection: Connection) -> dict[SourceId, list[SourceReceipt]]:
            nodes = [one for found in self._nodes.judged(connection).values() for one in found]
            return {plan.id: receipts_of(connection, plan, nodes) for plan in plans}

        await database.writing(note)
        found = await database.reading(made)
        for plan in plans:
            due = list[SourceReceipt]()
            for one in found[plan.id]:
                before = self._ended.get((plan.id, one.node))
                if before is None or not one.repeats(before):
                    due.append(one.after(before, now))
            while due and await self._send(plan, due[:RECEIPTS_AT_ONCE]):
                due = due[RECEIPTS_AT_ONCE:]
        known = {(source, one.node) for source, receipts in found.items() for one in receipts}
        self._ended = {key: one for key, one in self._ended.items() if key in known}

    async def _send(self, plan: SourcePlan, due: list[SourceReceipt]) -> bool:
        """Sends these receipts. Returns whether all of them have ended."""
        try:
            statuses = await send(plan.request(Validators()), [one.document() for one in due], self._resources.jobs)
        except BlocklistError as error:
            self._failed(plan.id, str(error))
            return False
        for one, status in zip(due, statuses, strict=False):
            if is_final(status):
                self._ended[plan.id, one.node] = one
            if status in REFUSED:
                Event.SOURCE_RECEIPT_REFUSED.log(log, source=plan.id, node=one.node, version=one.version, status=status)
        if len(statuses) == len(due) and is_final(statuses[-1]):
            self._failures.pop(plan.id, None)
            return not set(statuses) <= set(NO_RECEIPTS)
        self._failed(plan.id, f"the publisher answered {statuses[-1]}" if statuses else "no answer arrived")
        return False

    def _failed(self, source: SourceId, reason: str) -> None:
        if self._failures.get(source) != reason:
            self._failures[source] = reason
            Event.SOURCE_RECEIPTS_NOT_SENT.log(log, source=source, reason=reason)


def receipts_of(connection: Connection, plan: SourcePlan, nodes: Iterable[JudgedNode]) -> list[SourceReceipt]:
    """The receipts that a source's publisher is to have now. `nodes`: of all subscribers."""
    counts = of_lists(connection, {name: [plan.id] for name in plan.lists}).values()
    excepted = sum(found.get(EXCEPTION, 0) for found in counts)
    others = sum(sum(found.values()) for found in counts) - excepted

    def receipt(node: str, held: _Held) -> SourceReceipt:
        reasons = [
            f"{count} {what}"
            for count, what in (
                (excepted, "entries are withheld by local exceptions"),
                (others, "entries are withheld by other rules of the edge"),
                (held.omitted, "entries do not fit into the zone"),
            )
            if count
        ]
        state, reason = ("partial", ", ".join(reasons)) if reasons else ("applied", None)
        return SourceReceipt(node, held.version.session, held.version.version, state, reason, held.since)

    made = list[SourceReceipt]()
    own = _lowest(_live(connection, plan, name) for name in plan.lists)
    newest, state = source_versions.newest(connection, plan.id, plan.settings), source_state(connection, plan.id)
    is_newer = newest is not None and (own is None or own.version[:2] != newest[:2])
    if newest is not None and is_newer and state.outcome is Outcome.HELD:
        why = "a guard of the edge holds it for review"
        made.append(SourceReceipt(plan.receipts, newest.session, newest.version, "failed", why, newest.time))
    elif own is not None:
        made.append(receipt(plan.receipts, own))
    of_node: dict[str, list[_Held | None]] = {}
    for one in nodes:
        held = _of_secondary(connection, plan, one)
        if held is not None:
            of_node.setdefault(node_name(plan.receipts, one.place), []).append(held.known)
    lowest = {name: _lowest(found) for name, found in of_node.items()}
    return made + [receipt(name, held) for name, held in sorted(lowest.items()) if held is not None]


def node_name(edge: str, place: NodePlace) -> str:
    """The name of a secondary in receipts: the edge's, its subscriber's, and its address, shortened if need be."""
    name = f"{edge}-{place.subscriber}-{place.node}".replace(":", "-")
    if len(name) <= MAX_NODE_NAME:
        return name
    return f"{name[: MAX_NODE_NAME - _NAME_DIGITS - 1]}-{hashlib.sha256(name.encode()).hexdigest()[:_NAME_DIGITS]}"


def _live(connection: Connection, plan: SourcePlan, name: ListId) -> _Held | None:
    """What the live version of a list has."""
    live = next(version_rows(connection, name, newest=1), None)
    found = source_versions.held(connection, plan.id, name, live.version) if live is not None else None
    if found is None or live is None:
        return None
    return _Held(found, max(found.time, live.time))


@dataclass(frozen=True, slots=True)
class _OfZone:
    """What a secondary has by one of its zones; `known` is None if that can't be said."""

    known: _Held | None


def _of_secondary(connection: Connection, plan: SourcePlan, one: JudgedNode) -> _OfZone | None:
    """What a secondary has by this zone; None if it is no zone of the source, or the secondary is silent."""
    if one.place.copied is not Copied.ZONE or one.node.version is None or one.silent:
        return None
    serial = zone_at(connection, one.place.subject, one.node.version)
    if serial is None or serial.list not in plan.lists:
        return None
    found = source_versions.held(connection, plan.id, serial.list, serial.version)
    if found is None:
        return _OfZone(None)
    newest = one.node.newest
    since = newest.applied_at if newest.version == one.node.version else one.node.seen
    return _OfZone(_Held(found, max(since, found.time), len(serial.omitted)))


def _lowest(found: Iterable[_Held | None]) -> _Held | None:
    """The one with the lowest version, and since when all are there; None if one is not known."""
    known = list[_Held]()
    for one in found:
        if one is None:
            return None
        known.append(one)
    if len({one.version.session for one in known}) != 1:
        return None
    lowest = min(known, key=lambda one: one.version.version)
    same = [one for one in known if one.version.version == lowest.version.version]
    return _Held(lowest.version, max(one.since for one in same), sum(one.omitted for one in known))

"""The report of a subscriber's nodes: how long each version took to be live at each of them.

Receipts are kept for RECEIPT_DAYS. What is said of single versions at single nodes is in the document if there are at
most MAX_REPORT_DETAILS of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import Connection

from blocklistd.daemon.commands.command import Document
from blocklistd.errors import RefusedError
from blocklistd.limits import MAX_REPORT_CELLS, MAX_REPORT_DETAILS, RECEIPT_DAYS
from blocklistd.pipeline.nodes import Nodes
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.receipts import Copied, JudgedNode, Published, Reported, is_late, spread, times_to_live
from blocklistd.store import receipts
from blocklistd.store.subscribers import Subscriber, load
from blocklistd.times import rfc3339


@dataclass(frozen=True, slots=True)
class _NodeTimes:
    """A node, what it reported by version, and the seconds until each version was live there."""

    judged: JudgedNode
    reported: Mapping[int, Reported]
    seconds: Mapping[int, float | None]


class NodeReportOperations:
    """The effect of `subscriber report`."""

    def __init__(self, resources: Resources, zones: ZonePublisher, nodes: Nodes) -> None:
        self._database = resources.database
        self._clock = resources.clock
        self._zones = zones
        self._nodes = nodes

    async def report(self, subscriber: str, start: str, end: str) -> Document:
        """The report for the days from `start` to `end`. Raises RefusedError."""
        first, last, today = date.fromisoformat(start), date.fromisoformat(end), self._clock().date()
        if first > last:
            raise RefusedError(f"--from {start} is after --to {end}: give the earlier date first")
        if last > today:
            raise RefusedError(f"--to {end} is in the future: give {today} (today in UTC), or an earlier date")
        await self._nodes.record_secondaries()
        return await self._database.reading(lambda connection: self._report(connection, subscriber, first, last))

    def _report(self, connection: Connection, subscriber: str, first: date, last: date) -> Document:
        who = next((one for one in load(connection).values() if one.id == subscriber), None)
        if who is None:
            raise RefusedError("there is no such subscriber: run `blocklistd subscriber list`")
        judged = self._nodes.judged(connection).get(who.id, [])
        begin, end = (datetime.combine(day, time(), UTC) for day in (first, last + timedelta(days=1)))
        subjects: list[tuple[Copied, str]] = [(Copied.LIST, name) for name in sorted(who.lists)]
        subjects += [(Copied.ZONE, name) for zone in sorted(who.zones) for name in self._zones.names_of(zone)]
        published = {key: receipts.published(connection, *key, begin, end) for key in subjects}
        of = {key: [one for one in judged if one.place[1:3] == key] for key in subjects}
        cells = sum(len(published[key]) * len(of[key]) for key in subjects)
        if cells > MAX_REPORT_CELLS:
            raise RefusedError(
                f"the period has {cells} versions at nodes, of which a report has at most {MAX_REPORT_CELLS}: choose a "
                f"shorter period"
            )
        shown: dict[Copied, Document] = {Copied.LIST: {}, Copied.ZONE: {}}
        now = self._clock()
        for key in subjects:
            times = _times(connection, who, published[key], of[key])
            shown[key[0]][key[1]] = _subject(who, published[key], times, now, details=cells <= MAX_REPORT_DETAILS)
        return {
            "id": who.id,
            "from": first.isoformat(),
            "to": last.isoformat(),
            "objective": who.objective.total_seconds() if who.objective else None,
            "kept_since": rfc3339(now - timedelta(days=RECEIPT_DAYS)),
            "lists": shown[Copied.LIST],
            "zones": shown[Copied.ZONE],
            "late": [_named(one) | {"lag": one.lag} for one in judged if one.late],
            "silent": [_named(one) | {"seen": rfc3339(one.node.seen)} for one in judged if one.silent],
            "failed_probes": [_named(one) | _probe(one) for one in judged if one.failed_probe],
        }


def _times(
    connection: Connection, who: Subscriber, versions: Sequence[Published], nodes: Sequence[JudgedNode]
) -> list[_NodeTimes]:
    if not versions or not nodes:
        return [_NodeTimes(one, {}, {}) for one in nodes]
    _, copied, subject, _ = nodes[0].place
    reported = receipts.reported_since(connection, who.id, copied, subject, versions[0].version)
    made = []
    for one in nodes:
        mine = reported.get(one.place.node, {})
        live = {version: found.live for version, found in mine.items()}
        made.append(_NodeTimes(one, mine, times_to_live(versions, live, one.node.since)))
    return made


def _subject(
    who: Subscriber, versions: Sequence[Published], times: Sequence[_NodeTimes], now: datetime, *, details: bool
) -> Document:
    """A list or a zone: each version, the newest first, and each node."""
    rows = []
    late = Counter[str]()
    for version, published in reversed(versions):
        at = {found.judged.place.node: found for found in times if version in found.seconds}
        seconds = {node: found.seconds[version] for node, found in at.items()}
        behind = {node for node, took in seconds.items() if is_late(took, published, who.objective, now)}
        late.update(behind)
        row = {"version": version, "published": rfc3339(published), **_figures(list(seconds.values()))}
        row |= {"late": len(behind), "slowest_node": _slowest(seconds)}
        if details:
            row["nodes"] = {node: _cell(found, version, node in behind) for node, found in sorted(at.items())}
        rows.append(row)
    return {"versions": rows, "nodes": [_node(found, late[found.judged.place.node]) for found in times]}


def _figures(seconds: Sequence[float | None]) -> dict[str, Any]:
    """The spread of the times, and at how many nodes (or, of how many versions) there is one, or none."""
    return {**spread(seconds)._asdict(), "live": sum(s is not None for s in seconds), "missing": seconds.count(None)}


def _slowest(seconds: Mapping[str, float | None]) -> str | None:
    """The node that took longest: one where the version is not live, if there is one."""
    return max(seconds, key=lambda node: float("inf") if (took := seconds[node]) is None else took, default=None)


def _cell(found: _NodeTimes, version: int, late: bool) -> dict[str, Any]:
    """A version at a node. `state`, `reason` and `probe` are null if the node sent no receipt for it."""
    reported = found.reported.get(version)
    newest = reported.newest if reported else None
    return {
        "seconds": found.seconds[version],
        "late": late,
        "state": newest.state if newest else None,
        "reason": newest.reason if newest else None,
        "probe": newest.probe if newest else None,
    }


def _node(found: _NodeTimes, late: int) -> dict[str, Any]:
    one, probes = found.judged, Counter(r.newest.probe for r in found.reported.values() if r.newest.probe)
    return {
        "node": one.place.node,
        "version": one.node.version,
        "seen": rfc3339(one.node.seen),
        **_figures(list(found.seconds.values())),
        "late": late,
        "blocked": probes["blocked"],
        "resolves": probes["resolves"],
        "late_now": one.late,
        "silent": one.silent,
        "failed_probe": one.failed_probe,
    }


def _named(one: JudgedNode) -> dict[str, Any]:
    return {"node": one.place.node, one.place.copied.value: one.place.subject, "version": one.node.version}


def _probe(one: JudgedNode) -> dict[str, Any]:
    probed = one.node.probed
    return {} if probed is None else {"version": probed.version, "time": rfc3339(probed.time)}

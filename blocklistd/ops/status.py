"""JSON documents of the state, for the commands `status`, `source`, `candidate`, `list` and `subscriber`.

None contains an entry: candidates and versions are described by counts. Times are RFC 3339 in UTC, durations seconds;
null: unknown or none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.change import Freeze, VersionInfo
from blocklistd.config import Config, SourceSettings
from blocklistd.model import ListId, SourceId, SubscriberId
from blocklistd.pipeline import approvals
from blocklistd.pipeline.due_counts import DueCount
from blocklistd.pipeline.policies import RejectedPolicy
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.receipts import Copied, JudgedNode
from blocklistd.serve.dns.zones import ZoneView
from blocklistd.serve.http.live_lists import LiveLists
from blocklistd.store import candidates
from blocklistd.store.candidates import Case
from blocklistd.store.lists import version_rows
from blocklistd.store.pulls import SourceState, newest_pulls
from blocklistd.store.subscribers import Subscriber, is_wide, load
from blocklistd.store.withheld import of_candidate, of_lists
from blocklistd.times import rfc3339

Document = dict[str, Any]
TREND: Final = 30
"""Newest versions of the list that a candidate is shown with."""


def lists(live_lists: LiveLists) -> Document:
    """By id: each served list. `version` is 0 and `sha256` null where it has no version."""
    return {
        view.id: {
            "version": view.version,
            "entries": view.live.entries if view.live else 0,
            "session": view.session,
            "sha256": view.live.sha256 if view.live else None,
            "published": rfc3339(view.live.time) if view.live else None,
            "expires": rfc3339(view.expires),
        }
        for view in live_lists
    }


def freeze(found: Freeze | None) -> Document | None:
    """A freeze of a list; null if it is not frozen."""
    return {"user": found.user, "since": found.time, "why": found.why} if found is not None else None


def rejected_policy(found: RejectedPolicy | None) -> Document | None:
    """The configured policy of a list that is not in force, as a reviewer rejected it; null if there is none."""
    if found is None:
        return None
    shown = {"candidate": found.candidate, "user": found.user, "time": rfc3339(found.time)}
    return shown | {"why": found.why, "keys": list(found.keys)}


def due(found: DueCount | None) -> Document | None:
    """How many entries of a list are due, and since when the first one is; null without a lifetime, and before the
    first count."""
    return {"total": found.total, "since": _time(found.since)} if found is not None else None


def withheld(connection: Connection, config: Config, names: Collection[ListId]) -> dict[ListId, dict[str, int]]:
    """By list and rule: the number of entries that the live version withholds."""
    return of_lists(connection, {name: taken for name, taken in config.active_sources.items() if name in names})


def source(state: SourceState, found: SourceSettings, now: datetime, due: datetime | None = None) -> Document:
    """A source's last pull and its next one, `due`. `age`: seconds since the time of its newest list."""
    age = (now - state.content_time).total_seconds() if state.content_time else None
    report = state.report
    return {
        "outcome": state.outcome.value if state.outcome else None,
        "reason": state.reason,
        "candidate": state.candidate,
        "last_pull": rfc3339(state.last_pull) if state.last_pull else None,
        "last_accepted": rfc3339(state.last_accepted) if state.last_accepted else None,
        "next_pull": rfc3339(due) if due else None,
        "next_in": round(max(0.0, (due - now).total_seconds()), 3) if due else None,
        "age": round(age, 3) if age is not None else None,
        "signed": rfc3339(state.signed) if state.signed else None,
        "overdue": state.is_overdue(found.max_age, now),
        "unchanged_since": rfc3339(state.unchanged_since) if state.unchanged_since else None,
        "frozen": state.is_frozen(found.max_unchanged, now),
        "key": report.key if report and report.signature else None,
        "verify": found.verify.method,
        "quarantine": found.quarantine,
        "entries": report.entries if report else None,
        "types": report.types if report else {},
        "rejected": report.rejected if report else {},
        "withheld": report.withheld if report else {},
        "first_rejected": report.first_rejected if report else {},
        "dropped_attributes": report.dropped_attributes if report else 0,
    }


def history(connection: Connection, source_id: SourceId, newest: int = 20) -> list[Document]:
    """The last pulls of a source, the newest first. `seconds`: the duration of each."""
    return [
        {
            "time": rfc3339(row.time),
            "seconds": row.milliseconds / 1000,
            "outcome": row.outcome,
            "reason": row.reason,
            "records": row.report["records"] if row.report else None,
        }
        for row in newest_pulls(connection, source_id, newest)
    ]


Releases = Mapping[ListId, str]
"""The release rule of each configured list."""


def releases(config: Config) -> Releases:
    """The release rules of a configuration."""
    return {name: found.release for name, found in config.lists.items()}


def candidate(case: Case, rules: Releases, all_held: Sequence[Case]) -> Document:
    """A candidate for a table: its change in counts, the guards that hold it, the users who approved it, and how many
    approvals are missing. `same_change`: the others of `all_held` that make the same difference of the list: with a
    quorum, what two sources withdraw together is held once for each of them."""
    found = case.candidate
    return {
        "id": found.id,
        "list": found.list,
        "kind": found.change.kind.value,
        "cause": found.change.cause,
        "source": found.change.source,
        "base": found.base,
        "delta": found.delta,
        "created": rfc3339(found.created),
        "added": found.added,
        "removed": found.removed,
        "changed": found.changed,
        "entries": found.entries,
        "reasons": [{"guard": r.guard, "limit": r.limit, "found": r.found} for r in found.reasons],
        "approvals": [decision.user for decision in approvals.counted(case, rules.get(found.list, ""))],
        "missing": approvals.missing(case, rules.get(found.list, "")) if case.state == "held" else 0,
        "brought_by": found.change.actor or None,
        "state": case.state,
        "same_change": [
            other.candidate.id
            for other in all_held
            if other.candidate.id != found.id
            and (other.candidate.list, other.candidate.delta) == (found.list, found.delta)
        ],
    }


def candidate_in_full(connection: Connection, case: Case, rules: Releases) -> Document:
    """`candidate`, with the changes counted by last label, category and source, the newest versions of its list, the
    withheld entries by rule, the ids of those that hit names, and the decisions."""
    found = case.candidate
    return candidate(case, rules, candidates.held(connection, found.list)) | {
        "suffixes": found.suffixes,
        "categories": found.categories,
        "by_source": found.by_source,
        "trend": [
            {"version": one.version, "time": rfc3339(one.time), "entries": one.entries}
            for one in reversed(list(version_rows(connection, found.list, newest=TREND)))
        ],
        "withheld": of_candidate(connection, found),
        "hits": found.hits,
        "decisions": [
            {"user": d.user, "uid": d.uid, "time": rfc3339(d.time), "approve": d.approve}
            | {"excepted": list(d.excepted)}
            for d in case.decisions
        ],
        "why": case.why,
        "version": case.version,
    }


def held(connection: Connection, rules: Releases) -> list[Document]:
    """The held candidates."""
    found = candidates.held(connection)
    return [candidate(case, rules, found) for case in found]


def version(made: VersionInfo) -> Document:
    """A version of a list, with its cause and who released it."""
    return {
        "version": made.version,
        "time": rfc3339(made.time),
        "entries": made.entries,
        "added": made.added,
        "removed": made.removed,
        "sha256": made.sha256,
        "kind": made.kind.value,
        "cause": made.cause,
        "released_by": made.released_by,
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the subscribers' requests. `requests`: the time of each one's last request to the feed. `uses`:
    the last use of each key (by name) and replaced token (by digest). `users`: the addresses of the secondaries that
    use a key and no newer one, by the key's name."""

    requests: Mapping[SubscriberId, datetime] = field(default_factory=dict)
    uses: Mapping[str, datetime] = field(default_factory=dict)
    users: Mapping[str, Sequence[str]] = field(default_factory=dict)


def subscriber(
    who: Subscriber,
    connection: Connection,
    zones: ZonePublisher,
    catalog: ZoneView | None,
    last: Seen,
    nodes: Sequence[JudgedNode] = (),
) -> Document:
    """A subscriber and the state of its copies. `seen`: its last request to the feed or of one of its secondaries.
    `catalog`: its catalog zone, null without one. `nodes`: of the lists and zones that it may have.

    `old_tokens`, `old_keys`: those that a rotation has replaced, until when they are valid, and their last use.
    `lists`: version and lag of the node with the lowest version, null if no node has sent a receipt. `zones`: serial
    and lag of the secondary with the lowest serial.
    """
    lists = sorted(who.lists)
    served = [name for zone in sorted(who.zones) for name in zones.names_of(zone)]
    known = (zones.secondaries.known(who.id, name) for name in served)
    times = [sighting.seen for secondaries in known for sighting in secondaries.values()]
    seen = max(filter(None, [last.requests.get(who.id), *times]), default=None)
    return {
        "seen": rfc3339(seen) if seen else None,
        "objective": who.objective.total_seconds() if who.objective else None,
        "lists": {name: _lowest([one for one in nodes if one.place[1:3] == (Copied.LIST, name)]) for name in lists},
        "zones": {name: _zone(who, name, connection, zones, nodes) for name in served},
        "catalog": {"name": catalog.plan.name, "serial": _wire_serial(catalog.serial)} if catalog else None,
        "nodes": [_node(one) for one in nodes if one.place.copied is Copied.LIST],
        "unsigned": list(who.addresses),
        "wide": [prefix for prefix in who.addresses if is_wide(prefix)],
        "notify": list(who.notify),
        "own_names": list(who.own_names),
        "keys": [key.name for key in who.keys],
        "old_keys": [
            {"name": key.name, "until": rfc3339(key.expires), "used": _time(last.uses.get(key.name))}
            | {"secondaries": list(last.users.get(key.name, ()))}
            for key in who.keys
            if key.expires is not None
        ],
        "old_tokens": [
            {"until": rfc3339(old.expires), "used": _time(last.uses.get(old.token))} for old in who.old_tokens
        ],
        "certs": [f"sha256:{one}" for one in who.certificates],
        "software": who.software,
        "created": rfc3339(who.created),
        "created_by": who.created_by,
        "revoked": rfc3339(who.revoked) if who.revoked else None,
    }


def _lowest(nodes: Sequence[JudgedNode]) -> Document:
    """The lowest version of the nodes of a list, and the longest time for which one has lacked a newer version."""
    versions = [one.node.version for one in nodes]
    known = [version for version in versions if version is not None]
    return {
        "version": (0 if len(known) < len(versions) else min(known)) if versions else None,
        "lag": max((one.lag for one in nodes), default=None),
    }


def _node(one: JudgedNode) -> Document:
    """A node of a list. `version`: the highest that is live there; `reported`, `state`, `reason`, `applied_at`, `clock`
    (receipts.CLOCKS): of its newest receipt. `probe`: its last one, and `probed`: when that was sent."""
    newest, probed = one.node.newest, one.node.probed
    return {
        "node": one.place.node,
        "list": one.place.subject,
        "version": one.node.version,
        "seen": rfc3339(one.node.seen),
        "lag": one.lag,
        "reported": newest.version,
        "state": newest.state,
        "reason": newest.reason,
        "applied_at": rfc3339(newest.applied_at),
        "clock": newest.clock,
        "probe": probed.answer if probed else None,
        "probed": rfc3339(probed.time) if probed else None,
        "late": one.late,
        "silent": one.silent,
    }


def _zone(
    who: Subscriber, name: str, connection: Connection, zones: ZonePublisher, nodes: Sequence[JudgedNode]
) -> Document:
    tracked = zones.secondaries
    judged = {one.place.node: one for one in nodes if one.place[1:3] == (Copied.ZONE, name)}
    rows: list[Document] = []
    for address, sighting in sorted(tracked.known(who.id, name).items()):
        serial = tracked.confirmed(sighting)
        rows.append(
            {
                "address": address,
                "serial": _wire_serial(serial),
                "sent": _wire_serial(sighting.sent),
                "lag": tracked.lag(connection, name, serial),
                "seen": rfc3339(sighting.seen),
                "late": address in judged and judged[address].late,
                "silent": address in judged and judged[address].silent,
            }
        )
    for address, one in sorted(judged.items()):
        if address not in tracked.known(who.id, name):  # not seen since the start
            serial = _wire_serial(one.node.version)
            seen = {"lag": one.lag, "seen": rfc3339(one.node.seen), "late": one.late, "silent": one.silent}
            rows.append({"address": address, "serial": serial, "sent": None, **seen})
    lowest = tracked.lowest(who.id, name)
    return {
        "serial": _wire_serial(lowest),
        "lag": tracked.lag(connection, name, lowest),
        "secondaries": rows,
    }


def _time(found: datetime | None) -> str | None:
    return rfc3339(found) if found is not None else None


def _wire_serial(serial: int | None) -> int | None:
    return None if serial is None else serial % 2**32


def subscribers(
    connection: Connection,
    zones: ZonePublisher,
    catalogs: Mapping[str, ZoneView],
    last: Seen,
    nodes: Mapping[str, Sequence[JudgedNode]],
) -> Document:
    """By id: each subscriber, the revoked ones included. `catalogs`, `nodes`: by subscriber."""
    known = load(connection).values()
    return {
        who.id: subscriber(who, connection, zones, catalogs.get(who.id), last, nodes.get(who.id, ())) for who in known
    }

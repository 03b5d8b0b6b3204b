"""Receipts of the subscribers' nodes, and what follows from them. Pure: `now` is an argument.

A *node* is a machine that applies a list and sends a receipt for each version, or a secondary name server, whose
requests are its receipts. The serial of a secondary's zone counts as a version. These definitions are the only ones:

- *live*, of a version at a node: the node reported it, or a later one, as applied or partial (a format that the node
  uses can't express all entries).
- *late*, of a node: a version that is older than the subscriber's objective is not live there.
- *silent*, of a node: it was not heard of for SILENT_AFTER, although it had something to say. A secondary always has,
  since it polls; another node has while it lacks a version. No node is silent until LISTENED after a start.
- *failed probe*, of a node: its last probe of a test entry answered `resolves`.

The state of a node does not depend on the order in which its receipts arrive: of two receipts, the one with the higher
version is newer, then the one with the later `applied_at`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Final, NamedTuple

from blocklistd.limits import LISTENED_MINUTES, MAX_NODE_NAME, NODE_CLOCK_SLACK, SILENT_HOURS
from blocklistd.model import SubscriberId

SILENT_AFTER: Final = timedelta(hours=SILENT_HOURS)
LISTENED: Final = timedelta(minutes=LISTENED_MINUTES)
STATES: Final = ("failed", "partial", "applied")
"""The states of receipts. Of two receipts of one second, the one with the later state here is newer."""
PROBES: Final = ("blocked", "resolves")
CLOCKS: Final = ("behind", "ahead")
"""The errors of a node's clock."""
CLOCK_SLACK: Final = timedelta(seconds=NODE_CLOCK_SLACK)
NODE: Final = re.compile(f"[A-Za-z0-9._-]{{1,{MAX_NODE_NAME}}}")
"""Names of nodes in receipts."""
MAX_VERSION: Final = 10**18 - 1


class Copied(StrEnum):
    """What a node has a copy of."""

    LIST = "list"
    ZONE = "zone"


class Taken(StrEnum):
    """The outcome of a receipt; the words of the metric."""

    TAKEN = "taken"
    REPEATED = "repeated"
    NEVER_PUBLISHED = "never_published"
    TOO_MANY_NODES = "too_many_nodes"
    NAMES_ENTRY = "names_entry"
    BUSY = "busy"


class NodePlace(NamedTuple):
    """A node, and the list or zone that it has. `subject`: the list's id, or the zone's name. `node`: the name that the
    node gives itself, or the address of a secondary."""

    subscriber: SubscriberId
    copied: Copied
    subject: str
    node: str


class Order(NamedTuple):
    """The place of a receipt among those of its node. `state`: its number in STATES."""

    version: int
    time: datetime
    state: int
    probe: str
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a node reports of a version. `applied_at`: by the node's clock until `arrived`, then by the publisher's.
    `probe`: what a test entry answered on the node's own resolver; None if it was not asked. `clock`: the error of the
    node's clock, one of CLOCKS; None if there is none, or before `arrived`."""

    version: int
    state: str
    reason: str | None
    applied_at: datetime
    probe: str | None = None
    clock: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether the version is live at the node."""
        return self.state != "failed"

    @property
    def probed(self) -> Probe | None:
        """Its probe; None if it has none."""
        return None if self.probe is None else Probe(self.version, self.applied_at, self.probe)

    @property
    def order(self) -> Order:
        """The newer of two receipts has the higher order. Two with the same order are the same."""
        return Order(self.version, self.applied_at, STATES.index(self.state), self.probe or "", self.reason or "")

    def repeats(self, before: Receipt) -> bool:
        """Whether it says the same as an earlier one of the version."""
        mine, other = ((one.version, one.state, one.reason, one.probe) for one in (self, before))
        return mine == other

    def arrived(self, published: datetime, received: datetime) -> Receipt:
        """The receipt by the publisher's clock: a version is applied after it was published, and before its receipt is
        received. A time that is further outside than CLOCK_SLACK is not believed: the time of arrival counts instead.
        """
        if self.applied_at < published - CLOCK_SLACK:
            return replace(self, applied_at=received, clock="behind")
        if self.applied_at > received + CLOCK_SLACK:
            return replace(self, applied_at=received, clock="ahead")
        return replace(self, applied_at=min(max(self.applied_at, published), received))


class Probe(NamedTuple):
    """What a test entry answered on a node's own resolver. The newer of two probes is the higher one."""

    version: int
    time: datetime
    answer: str


@dataclass(frozen=True, slots=True)
class Reported:
    """All that a node reported of one version. `newest`: the newest receipt. `live`: since when the version is live
    there; None if it is not."""

    newest: Receipt
    live: datetime | None

    @classmethod
    def of(cls, receipt: Receipt) -> Reported:
        """What one receipt reports."""
        return cls(receipt, receipt.applied_at if receipt.is_live else None)

    def with_receipt(self, receipt: Receipt) -> Reported:
        """With one more receipt of the version."""
        times = [time for time in (self.live, Reported.of(receipt).live) if time is not None]
        return Reported(max(self.newest, receipt, key=lambda one: one.order), min(times, default=None))


@dataclass(frozen=True, slots=True)
class Node:
    """A node's state. `since`, `seen`: when it was first and last heard of. `version`: the highest live version; None
    if there is none. `newest`: the newest receipt. `probed`: the newest probe."""

    since: datetime
    seen: datetime
    newest: Receipt
    version: int | None
    probed: Probe | None = None

    @classmethod
    def of(cls, receipt: Receipt, received: datetime) -> Node:
        """A node of which one receipt is known."""
        version = receipt.version if receipt.is_live else None
        return cls(received, received, receipt, version, receipt.probed)

    def with_receipt(self, receipt: Receipt, received: datetime) -> Node:
        """With one more receipt."""
        live = [found for found in (self.version, receipt.version if receipt.is_live else None) if found is not None]
        probes = [found for found in (self.probed, receipt.probed) if found is not None]
        return Node(
            since=min(self.since, received),
            seen=max(self.seen, received),
            newest=max(self.newest, receipt, key=lambda one: one.order),
            version=max(live, default=None),
            probed=max(probes, default=None),
        )

    @property
    def lacks_after(self) -> int:
        """The node lacks the versions above this one. A node without a live version lacks the one that it reported."""
        return self.version if self.version is not None else self.newest.version - 1

    @property
    def failed_probe(self) -> bool:
        """Whether its last probe failed."""
        return self.probed is not None and self.probed.answer == "resolves"


@dataclass(frozen=True, slots=True)
class JudgedNode:
    """A node, and what is wrong with it. `lag`: the seconds for which a version has been out that is not live there;
    0.0 if it has the newest."""

    place: NodePlace
    node: Node
    lag: float
    late: bool
    silent: bool

    @property
    def failed_probe(self) -> bool:
        """Whether its last probe failed."""
        return self.node.failed_probe

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.late or self.silent or self.failed_probe)


@dataclass(frozen=True, slots=True)
class Bounds:
    """By what a node is judged. `objective`: of the subscriber; None: no node of it is late. `listening`: when the
    publisher started."""

    objective: timedelta | None
    listening: datetime


def judge(place: NodePlace, node: Node, lacking: datetime | None, bounds: Bounds, now: datetime) -> JudgedNode:
    """Judges a node. `lacking`: when the first version that it lacks was published; None if it has the newest."""
    objective = bounds.objective
    lag = max(timedelta(0), now - lacking) if lacking is not None else timedelta(0)
    if place.copied is Copied.ZONE:
        heard: datetime | None = node.seen
    else:
        heard = max(node.seen, lacking) if lacking is not None else None
    return JudgedNode(
        place=place,
        node=node,
        lag=round(lag.total_seconds(), 3),
        late=objective is not None and lacking is not None and lag > objective,
        silent=heard is not None and now - heard > SILENT_AFTER and now - bounds.listening > LISTENED,
    )


class Published(NamedTuple):
    """A version, and when it was published."""

    version: int
    time: datetime


def times_to_live(
    versions: Sequence[Published], reported: Mapping[int, datetime | None], since: datetime
) -> dict[int, float | None]:
    """The seconds from the publication of each version until it was live at a node; None: it is not live there.

    `reported`: by version, since when each one that the node reported is live there; None if it failed. Later versions
    than those in `versions` count too: a later version makes the earlier ones live. `since`: when the node was first
    heard of. A version that was published before that counts only if the node reported it.
    """
    upwards = sorted((version for version, live in reported.items() if live is not None), reverse=True)
    found: dict[int, float | None] = {}
    first: datetime | None = None
    number = 0
    for version, published in sorted(versions, reverse=True):
        while number < len(upwards) and upwards[number] >= version:
            live = reported[upwards[number]]
            first = live if first is None or (live is not None and live < first) else first
            number += 1
        if version in reported or published >= since:
            found[version] = None if first is None else max(0.0, round((first - published).total_seconds(), 3))
    return dict(reversed(found.items()))


def is_late(seconds: float | None, published: datetime, objective: timedelta | None, now: datetime) -> bool:
    """Whether a version was live at a node later than the objective. `seconds`: of `times_to_live`."""
    if objective is None:
        return False
    return (timedelta(seconds=seconds) if seconds is not None else now - published) > objective


class Spread(NamedTuple):
    """The seconds until a version was live at several nodes, or several versions at a node; None if none is live."""

    fastest: float | None
    median: float | None
    slowest: float | None


def spread(seconds: Iterable[float | None]) -> Spread:
    """The spread of the times; those that are None do not count."""
    known = sorted(one for one in seconds if one is not None)
    return Spread(known[0], round(median(known), 3), known[-1]) if known else Spread(None, None, None)

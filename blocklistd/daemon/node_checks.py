"""Checks the subscribers' nodes: raises and clears their alarms, and keeps the figures for the metrics.

| alarm | subject | raised while |
|---|---|---|
| node_late | subscriber and list or zone | nodes lack a version that is older than the subscriber's objective |
| node_silent | the same | nothing was heard of nodes for SILENT_HOURS |
| probe_failed | the same | the last probe of nodes failed |

receipts.py defines these words. Housekeeping calls `check` each minute, and soon after receipts have arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from blocklistd.limits import NODES_SHOWN
from blocklistd.pipeline.nodes import NodeCounts, Nodes
from blocklistd.pipeline.resources import Resources
from blocklistd.receipts import JudgedNode

_TEXTS: Final = {
    "node_late": ("late", "lacks a version that is older than the objective", "check that it reaches the feed"),
    "node_silent": ("silent", "was not heard of for a day", "check that it runs"),
    "probe_failed": ("failed_probe", "does not block the test entry", "check its resolver"),
}
"""By kind of alarm: the property of JudgedNode, what is wrong, what to do first."""


class NodeChecks:
    """Checks the nodes. `counts`: of each subscriber, as of the last check."""

    def __init__(self, resources: Resources, nodes: Nodes) -> None:
        self._resources = resources
        self._nodes = nodes
        self.counts: Mapping[str, NodeCounts] = {}

    async def check(self) -> None:
        """Records the serials of secondaries, then raises and clears the alarms. Raises StoreError."""
        await self._nodes.record_secondaries()
        judged = await self._resources.database.reading(self._nodes.judged)
        self.counts = {subscriber: NodeCounts.of(nodes) for subscriber, nodes in judged.items()}
        texts = alarm_texts([one for nodes in judged.values() for one in nodes])
        for kind in _TEXTS:
            of_kind = {subject: text for (found, subject), text in texts.items() if found == kind}
            self._resources.alarms.set_all(kind, of_kind)


def alarm_texts(nodes: Sequence[JudgedNode]) -> dict[tuple[str, str], str]:
    """The texts of the alarms, by kind and subject."""
    found: dict[tuple[str, str], list[JudgedNode]] = {}
    for one in nodes:
        for kind, (wrong, _, _) in _TEXTS.items():
            if getattr(one, wrong):
                found.setdefault((kind, f"{one.place.subscriber} {one.place.subject}"), []).append(one)
    return {(kind, subject): _text(kind, wrong) for (kind, subject), wrong in found.items()}


def _text(kind: str, nodes: Sequence[JudgedNode]) -> str:
    place, (_, wrong, remedy) = nodes[0].place, _TEXTS[kind]
    return (
        f"{place.subscriber}: {names_of(nodes)} {wrong} ({place.copied} {place.subject}): {remedy}; `blocklistd "
        f"subscriber show {place.subscriber}` shows all; if it is gone: `blocklistd subscriber set {place.subscriber} "
        f"--remove-node NODE`"
    )


def names_of(nodes: Sequence[JudgedNode]) -> str:
    """The names of the first NODES_SHOWN nodes, and how many there are more."""
    names = sorted(one.place.node for one in nodes)
    shown = ", ".join(names[:NODES_SHOWN])
    return shown if len(names) <= NODES_SHOWN else f"{shown} and {len(names) - NODES_SHOWN} more"

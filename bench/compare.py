"""Times two ways of doing one thing, in turns, on one machine; and the row of the table that comes of it.

Machines are noisy and grow warm: who runs first changes with every round, and what is shown is the minimum, which is
the least disturbed, and the median. A ratio is between minima, ours to the peer's; below 1 we are faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """What was measured in each round: seconds, unless the row says another unit."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        return min(self.rounds)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


@dataclass(frozen=True)
class Row:
    """A line of the table. `floor` is the ratio (or, without a peer, the figure) that was promised; None: only shown.

    `rate`: more is better (requests a second), so `best` of a Sample is then its maximum and the floor a least one.
    """

    what: str
    ours: Sample
    peer: Sample | None
    peer_name: str
    unit: str = "s"
    floor: float | None = None
    rate: bool = False

    def _best(self, sample: Sample) -> float:
        return max(sample.rounds) if self.rate else sample.best

    @property
    def ratio(self) -> float | None:
        return self._best(self.ours) / self._best(self.peer) if self.peer is not None else None

    @property
    def met(self) -> bool | None:
        if self.floor is None:
            return None
        found = self.ratio if self.peer is not None else self._best(self.ours)
        assert found is not None
        return found >= self.floor if self.rate else found <= self.floor

    def markdown(self) -> str:
        def shown(sample: Sample | None) -> str:
            if sample is None:
                return "–"
            return f"{_number(self._best(sample))} / {_number(sample.median)} {self.unit}"

        floor = "" if self.floor is None else f"{'≥' if self.rate else '≤'} {_number(self.floor)}"
        verdict = {None: "", True: "yes", False: "**no**"}[self.met]
        ratio = "" if self.ratio is None else _number(self.ratio)
        cells = (self.what, shown(self.ours), self.peer_name, shown(self.peer), ratio, floor, verdict)
        return f"| {' | '.join(cells)} |"


HEAD = """\
| what | blocklistd (best / median) | peer | peer (best / median) | ratio | bound | met |
|---|---|---|---|---|---|---|"""


def in_turns(rounds: int, *ways: Callable[[], float]) -> list[Sample]:
    """Each way once a round, another one first in each; a way answers what it measured."""
    found: list[list[float]] = [[] for _ in ways]
    for number in range(rounds):
        for offset in range(len(ways)):
            index = (number + offset) % len(ways)
            found[index].append(ways[index]())
    return [Sample(tuple(one)) for one in found]


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

"""Measures blocklistd and a peer in turns on one machine, and formats the result as a row of a table.

Machines are noisy and grow warm: the program that runs first changes with every round. A row shows the best value,
which is the least disturbed, and the median. A ratio is our best value divided by the peer's, or with `by_median` our
median divided by the peer's: below 1, blocklistd is faster.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Sample:
    """The values measured in each round, in seconds unless the row has another unit."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The lowest value."""
        return min(self.rounds)

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.rounds)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    `floor` is the worst acceptable ratio to the peer or, without a peer, our worst acceptable value; None without a
    bound. With `rate` a higher value is better (requests a second): the best is then the maximum.
    """

    what: str
    ours: Sample
    peer: Sample | None
    peer_name: str
    unit: str = "s"
    floor: float | None = None
    rate: bool = False
    by_median: bool = False

    def _best(self, sample: Sample) -> float:
        return max(sample.rounds) if self.rate else sample.best

    @property
    def ratio(self) -> float | None:
        """Our best value, or median, divided by the peer's; None without a peer."""
        if self.peer is None:
            return None
        if self.by_median:
            return self.ours.median / self.peer.median
        return self._best(self.ours) / self._best(self.peer)

    @property
    def met(self) -> bool | None:
        """Whether the floor is met; None without a floor."""
        if self.floor is None:
            return None
        found = self.ratio if self.ratio is not None else self._best(self.ours)
        return found >= self.floor if self.rate else found <= self.floor

    def markdown(self) -> str:
        """The row as a line of a Markdown table with the columns of HEAD."""

        def shown(sample: Sample | None) -> str:
            if sample is None:
                return "–"
            return f"{_number(self._best(sample))} / {_number(sample.median)} {self.unit}"

        floor = "" if self.floor is None else f"{'≥' if self.rate else '≤'} {_number(self.floor)}"
        verdict = {None: "", True: "yes", False: "**no**"}[self.met]
        ratio = "" if self.ratio is None else _number(self.ratio)
        cells = (self.what, shown(self.ours), self.peer_name, shown(self.peer), ratio, floor, verdict)
        return f"| {' | '.join(cells)} |"


class Compared(NamedTuple):
    """Our sample of a case beside that of the peer."""

    case: str
    ours: Sample
    peer: Sample


HEAD = """\
| what | blocklistd (best / median) | peer | peer (best / median) | ratio | bound | met |
|---|---|---|---|---|---|---|"""


def in_turns(rounds: int, *measurements: Callable[[], float]) -> list[Sample]:
    """Calls each function once a round, in an order that rotates; a function returns the value that it measured."""
    found: list[list[float]] = [[] for _ in measurements]
    for number in range(rounds):
        for offset in range(len(measurements)):
            index = (number + offset) % len(measurements)
            found[index].append(measurements[index]())
    return [Sample(tuple(one)) for one in found]


def seconds(work: Callable[[], object]) -> float:
    """The seconds that a call of `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"

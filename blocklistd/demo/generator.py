"""Churn under reserved names, shaped as a public domain list's was over 45 days: most steps are a handful of names,
a few are jumps, and many names share few parents. Seeded: the same arguments make the same names.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

JUMPS: Final = {
    9: (0.2044, 0.0367),
    21: (0.0199, 0.1797),
    42: (0.1442, 0.0253),
    59: (0.0217, 0.1294),
    69: (0.3744, 0.0267),
    75: (0.1772, 0.2469),
    81: (0.0127, 0.1994),
    82: (0.1990, 0.0281),
}
"""Step → shares of the entries before it that are added and removed. The default guards (20 % added, 10 % removed) hold
9, 21, 59, 69, 75 and 81; 42 and 82 pass below them."""

STEPS: Final = 88
HOSTERS: Final = 40  # platforms under which most of the names are
DEPTHS: Final = ((0, 18), (1, 31), (2, 8), (3, 9), (4, 16), (5, 11), (6, 7))
"""Labels between a name and its platform, and their weights."""
LISTED_PARENT: Final = 0.75  # share of the deeper names whose parent is listed as well

_LETTERS: Final = string.ascii_lowercase + string.digits
_INNER: Final = _LETTERS + "-"


@dataclass(frozen=True, slots=True)
class Step:
    """What one publication of the hotline changes; `number` counts from 1."""

    number: int
    added: list[str]
    removed: list[str]


@dataclass(slots=True)
class Churn:
    """`base` and, by iteration, the steps after it. `size` is the number of names in the base, at least 1000."""

    seed: int
    size: int
    steps: int = STEPS
    base: list[str] = field(init=False)
    _names: _Names = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._names = _Names(random.Random(self.seed))
        self.base = self._names.new(self.size)

    def __iter__(self) -> Iterator[Step]:
        chance = random.Random(self.seed + 1)
        live = list(self.base)
        gone: list[str] = []
        for number in range(1, self.steps + 1):
            if number in JUMPS:
                adding, removing = (round(share * len(live)) for share in JUMPS[number])
            else:
                adding = min(1 + int(chance.paretovariate(0.9) * 8), len(live) // 100)
                removing = min(int(chance.paretovariate(0.8)) - 1, len(live) // 200)
            removed = [_take(live, chance) for _ in range(removing)]
            back = [_take(gone, chance) for _ in range(min(len(gone), adding // 4))]  # many return that left before
            added = back + self._names.new(adding - len(back))
            live += added
            gone += removed
            yield Step(number, added, removed)


def _take(names: list[str], chance: random.Random) -> str:
    """Any one, without keeping the order of the rest."""
    index = chance.randrange(len(names))
    names[index], names[-1] = names[-1], names[index]
    return names.pop()


class _Names:
    """New names, none of them twice."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._given: set[str] = set()
        self._parents: list[str] = []
        self._hosters = [f"{self._label(2, 9)}.example" for _ in range(HOSTERS)]
        self._weights = [1 / (rank + 1) for rank in range(HOSTERS)]

    def _label(self, shortest: int, longest: int) -> str:
        chance = self._chance
        inner = "".join(chance.choices(_INNER, k=chance.randint(shortest, longest) - 2))
        label = chance.choice(_LETTERS) + inner + chance.choice(_LETTERS)
        return label if label[2:4] != "--" else label.replace("-", "0")

    def new(self, count: int) -> list[str]:
        chance = self._chance
        made: list[str] = []
        depths, weights = zip(*DEPTHS, strict=True)
        hosters = chance.choices(self._hosters, self._weights, k=count * 2)
        wanted = chance.choices(depths, weights, k=count * 2)
        for hoster, depth in zip(hosters, wanted, strict=True):
            if len(made) == count:
                break
            parent = hoster
            if depth > 1 and self._parents and chance.random() < LISTED_PARENT:
                parent = chance.choice(self._parents)
                depth = 0
            name = ".".join([*(self._label(3, 12) for _ in range(depth)), self._label(8, 24), parent])
            if name in self._given or len(name) > 200:
                continue
            self._given.add(name)
            made.append(name)
            if depth == 1:
                self._parents.append(name)
        return made if len(made) == count else made + self.new(count - len(made))


def urls(names: list[str], seed: int) -> Iterator[str]:
    """A URL on each of the names."""
    chance = random.Random(seed)
    for name in names:
        path = "/".join("".join(chance.choices(_LETTERS, k=chance.randint(3, 12))) for _ in range(chance.randint(1, 4)))
        yield f"https://{name}/{path}"


def sha256s(count: int, seed: int) -> Iterator[str]:
    """Random digits of a hash's length: no hash of anything."""
    chance = random.Random(seed)
    for _ in range(count):
        yield f"{chance.getrandbits(256):064x}"

"""Generates a changing list of reserved names, modelled on 45 days of a public domain list.

Most steps change a handful of names, a few change up to 37 % of the list (JUMPS). The base consists of registered
names, some with names below them. Later steps add and remove families of long names below a few hosting platforms. The
generator is seeded: the same arguments give the same names.
"""

from __future__ import annotations

import copy
import random
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
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
"""Added and removed entries of the large steps, by step number, as shares of the entries before the step. The default
guards (20 % added, 10 % removed) hold the steps 9, 21, 59, 69, 75 and 81; the steps 42 and 82 are below the limits."""

STEPS: Final = 88
USUAL_ADDED: Final = 45  # names that a usual step adds, on average; at most 1 % of the live ones
ONE_RETURNS_IN: Final = 16  # of so many added names, one was listed before
REMOVED_FROM_BASE: Final = 0.03  # share of the removed names that were in the base
BASE_DOTS: Final = {2: 362, 3: 561, 4: 63, 5: 13, 6: 1}
ADDED_DOTS: Final = {2: 18, 3: 98, 4: 96, 5: 162, 6: 294, 7: 200, 8: 88, 9: 35, 10: 9}
"""Names per thousand by their number of dots, in the base and among the added names."""

SUFFIXES: Final = 235  # labels below .example that names are registered under; three in five under the first
PLATFORMS: Final = 27
LISTED_PARENT: Final = 0.65  # share of the names with three dots whose parent is listed as well
LISTED_FAMILY: Final = 0.9  # share of the deeper names that are below a listed one of a platform

_LETTERS: Final = string.ascii_lowercase + string.digits
_INNER: Final = _LETTERS * 2 + "-"


@dataclass(frozen=True, slots=True)
class Step:
    """The names that one publication of the hotline adds and removes; `number` counts from 1."""

    number: int
    added: list[str]
    removed: list[str]


@dataclass(slots=True)
class Churn:
    """The names of a changing list: `base`, then the steps by iteration; each iteration gives the same steps.

    `size`: number of names in the base, at least 1000, so that the shares in JUMPS are not distorted by rounding.
    """

    seed: int
    size: int
    steps: int = STEPS
    base: list[str] = field(init=False)
    _names: _Names = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._names = _Names(random.Random(self.seed))
        self.base = self._names.new(self.size, BASE_DOTS)

    def __iter__(self) -> Iterator[Step]:
        chance = random.Random(self.seed + 1)
        names = copy.deepcopy(self._names)
        in_base, added_later, removed_before = list(self.base), list[str](), list[str]()
        for number in range(1, self.steps + 1):
            live = len(in_base) + len(added_later)
            if number in JUMPS:
                adding, removing = (round(share * live) for share in JUMPS[number])
            else:
                adding = min(1 + int(chance.expovariate(1 / USUAL_ADDED)), live // 100)
                removing = min(int(chance.paretovariate(1.3)) - 1, live // 200)
            removed = [
                _pop_random(added_later if added_later and chance.random() > REMOVED_FROM_BASE else in_base, chance)
                for _ in range(removing)
            ]
            back = [
                _pop_random(removed_before, chance) for _ in range(min(len(removed_before), adding // ONE_RETURNS_IN))
            ]
            added = back + names.new(adding - len(back), ADDED_DOTS)
            added_later += added
            removed_before += removed
            yield Step(number, added, removed)


def _pop_random(names: list[str], chance: random.Random) -> str:
    """Removes a random name and returns it. Does not keep the order of the others."""
    index = chance.randrange(len(names))
    names[index], names[-1] = names[-1], names[index]
    return names.pop()


class _Names:
    """Generates names; no name twice."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._given: set[str] = set()
        self._registered: list[str] = []  # listed, two dots
        self._families: list[str] = []  # listed, right below a platform
        self._suffixes = [f"{self._label(2, 4)}.example" for _ in range(SUFFIXES)]
        self._weights = list(accumulate(1 / (rank + 1) ** 2 for rank in range(SUFFIXES)))
        self._platforms = [f"{self._label(3, 3)}.{self._registered_name()}" for _ in range(PLATFORMS)]

    def new(self, count: int, dots: Mapping[int, int]) -> list[str]:
        made: list[str] = []
        while len(made) < count:
            for count_of_dots in self._chance.choices(list(dots), list(dots.values()), k=count - len(made)):
                name = self._name(count_of_dots)
                if name in self._given:
                    continue
                self._given.add(name)
                made.append(name)
                if count_of_dots == 2:
                    self._registered.append(name)
                elif count_of_dots == 4:
                    self._families.append(name)
        return made

    def _name(self, dots: int) -> str:
        chance = self._chance
        if dots == 2:
            return self._registered_name()
        if dots == 3:
            listed = self._registered and chance.random() < LISTED_PARENT
            return f"{self._label(3, 6)}.{chance.choice(self._registered) if listed else self._registered_name()}"
        parent, short = chance.choice(self._platforms), dots - 3
        if short > 1 and self._families and chance.random() < LISTED_FAMILY:
            parent, short = chance.choice(self._families), short - 1
        return ".".join([*(self._label(6, 15) for _ in range(short)), parent])

    def _registered_name(self) -> str:
        return f"{self._label(4, 16)}.{self._chance.choices(self._suffixes, cum_weights=self._weights)[0]}"

    def _label(self, shortest: int, longest: int) -> str:
        chance = self._chance
        inner = "".join(chance.choices(_INNER, k=chance.randint(shortest, longest) - 2))
        label = chance.choice(_LETTERS) + inner + chance.choice(_LETTERS)
        return label if label[2:4] != "--" else label.replace("-", "0")


def urls(names: list[str], seed: int) -> Iterator[str]:
    """One URL on each of the names."""
    chance = random.Random(seed)
    for name in names:
        path = "/".join("".join(chance.choices(_LETTERS, k=chance.randint(3, 12))) for _ in range(chance.randint(1, 4)))
        yield f"https://{name}/{path}"


def sha256s(count: int, seed: int) -> Iterator[str]:
    """Random values of the length of a SHA-256 digest, in hexadecimal digits."""
    chance = random.Random(seed)
    for _ in range(count):
        yield f"{chance.getrandbits(256):064x}"

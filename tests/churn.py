"""The churn that tests replay: recorded steps where they are at hand, else the generator's, of the same shape."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "churn"
HELD = {9, 21, 59, 69, 75, 81}
"""The steps that the default guards hold, by their shares of the live entries before."""
STEPS = 88


def versions() -> Iterator[tuple[int, set[str]]]:
    """(number, all names) of the base, number 0, and of each step after it."""
    names: set[str]
    if RECORDED.is_dir():
        names = set(gzip.decompress((RECORDED / "base.txt.gz").read_bytes()).decode().split())
        yield 0, set(names)
        for number in range(1, STEPS + 1):
            for line in gzip.decompress((RECORDED / f"{number:03}.diff.gz").read_bytes()).decode().splitlines():
                if line.startswith("+"):
                    names.add(line[1:])
                else:
                    names.remove(line[1:])
            yield number, set(names)
    else:
        from blocklistd.demo.generator import Churn

        churn = Churn(seed=2022, size=20_000, steps=STEPS)
        names = set(churn.base)
        yield 0, set(names)
        for step in churn:
            names = (names - set(step.removed)) | set(step.added)
            yield step.number, set(names)

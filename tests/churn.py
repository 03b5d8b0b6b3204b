"""The churn that tests replay: recorded steps if their files exist, generated steps of the same shape otherwise."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from blocklistd.demo.generator import Churn

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "data" / "churn"
HELD = {9, 21, 59, 69, 75, 81}
"""The steps that the default guards hold, by their shares of the live entries before."""
STEPS = 88


def versions() -> Iterator[tuple[int, set[str]]]:
    """(number, all names) of the base, whose number is 0, and of each step."""
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
        churn = Churn(seed=2022, size=20_000, steps=STEPS)
        names = set(churn.base)
        yield 0, set(names)
        for step in churn:
            names = (names - set(step.removed)) | set(step.added)
            yield step.number, set(names)


@dataclass(frozen=True, slots=True)
class StepFigures:
    """The figures of a step. `entries` is the number after the step."""

    number: int
    time: datetime
    entries: int
    added: int
    removed: int


def published() -> Iterator[StepFigures]:
    """The base and each step. Generated steps have two a day, the average of the recorded ones."""
    if RECORDED.is_dir():
        with open(RECORDED / "versions.tsv", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                figures = (int(row[name]) for name in ("entries", "added", "removed"))
                yield StepFigures(int(row["version"]), datetime.fromisoformat(row["time"]), *figures)
    else:
        churn = Churn(seed=2022, size=20_000, steps=STEPS)
        entries, start = len(churn.base), datetime(2026, 1, 1, tzinfo=UTC)
        yield StepFigures(0, start, entries, entries, 0)
        for step in churn:
            entries += len(step.added) - len(step.removed)
            time = start + step.number * timedelta(hours=12)
            yield StepFigures(step.number, time, entries, len(step.added), len(step.removed))

"""Forecasts the day on which the disk is full, from one sample of its free space for each day. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import combinations
from statistics import median
from typing import Final

from blocklistd.store.disk import DiskSample

MIN_DAYS: Final = 3  # days from the first sample to the last: below that there is no forecast
USED_DAYS: Final = 30  # the newest days that a forecast is made from
FAR_DAYS: Final = 730  # days: a later date is not forecast


class FillsWhen(StrEnum):
    """The kinds of forecast."""

    YOUNG = "young"
    """There are too few samples."""
    STEADY = "steady"
    """The free space does not shrink."""
    FAR = "far"
    """The disk is full in more than FAR_DAYS days."""
    FULL = "full"
    """The disk is full on the day `full`."""


@dataclass(frozen=True, slots=True)
class DiskForecast:
    """`days`: the days from the first used sample to the last. `lost`: bytes of free space that a day costs."""

    outlook: FillsWhen
    days: int
    lost: float = 0.0
    full: date | None = None


def forecast(samples: Sequence[DiskSample]) -> DiskForecast:
    """The forecast from samples, the oldest first.

    The slope is the median of the slopes between all pairs of samples: a single jump, such as a retention that ends or
    a copy that somebody makes and deletes, does not change it. Samples from before the size changed do not count.
    """
    if not samples:
        return DiskForecast(FillsWhen.YOUNG, 0)
    last = samples[-1]
    begin = max((number + 1 for number, one in enumerate(samples) if one.size != last.size), default=0)
    used = [one for one in samples[begin:] if (last.day - one.day).days <= USED_DAYS]
    days = (last.day - used[0].day).days
    if days < MIN_DAYS:
        return DiskForecast(FillsWhen.YOUNG, days)
    lost = median((one.free - later.free) / (later.day - one.day).days for one, later in combinations(used, 2))
    if lost <= 0:
        return DiskForecast(FillsWhen.STEADY, days, lost)
    left = last.free / lost
    if left > FAR_DAYS:
        return DiskForecast(FillsWhen.FAR, days, lost)
    return DiskForecast(FillsWhen.FULL, days, lost, last.day + timedelta(days=int(left)))

"""What the stations tell of themselves: how long each took and how much it handled, never what an entry is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stations:
    """Hears of them. This one keeps nothing; ops.metrics counts.

    `subject` is an id of the configuration: a source, a list, a zone.
    """

    def took(self, station: str, subject: str, seconds: float, *, failed: bool) -> None:
        """A station has ended, well or with an exception."""

    def handled(self, what: str, subject: str, count: int) -> None:
        """So many bytes, records, changes went through (ops.metrics.HANDLED)."""

    @contextmanager
    def timed(self, station: str, subject: str) -> Iterator[None]:
        """The block is a station's work."""
        began = time.perf_counter()
        failed = True
        try:
            yield
            failed = False
        finally:
            self.took(station, subject, time.perf_counter() - began, failed=failed)

"""Telemetry: how long each stage takes and how much it handles, which stage a command is in, and the standing alarms.
No entry is in any of it.

A station is a stage of the pipeline that is timed (ops.metrics.STATIONS).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

log: Final = logging.getLogger(__name__)

_PULL: Final[ContextVar[float | None]] = ContextVar("pull", default=None)
"""When the pull of this task began (time.perf_counter); None where the task is of no pull."""


class Progress:
    """The stations of one command that are under way, each with its subject, in the order in which they began."""

    def __init__(self) -> None:
        self.under_way: list[tuple[str, str]] = []

    @property
    def stage(self) -> tuple[str, str] | None:
        """The station that began last, with its subject."""
        return self.under_way[-1] if self.under_way else None


_PROGRESS: Final[ContextVar[Progress | None]] = ContextVar("progress", default=None)
"""The Progress of the command that this task works for."""


@contextmanager
def followed(progress: Progress) -> Iterator[None]:
    """Stations that begin in the block, and in the tasks that it starts, are added to `progress`."""
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


class Stations:
    """Receives what the stations report. This class keeps nothing; ops.metrics counts.

    `subject` is an id of the configuration: a source, a list, a zone.
    """

    def took(self, station: str, subject: str, seconds: float, *, failed: bool) -> None:
        """A station has ended; `failed`: with an exception."""

    def handled(self, what: str, subject: str, count: int) -> None:
        """`count` bytes, records or changes were handled (`what` is one of ops.metrics.HANDLED)."""

    def guarded(self, list_id: str, guard: str) -> None:
        """A guard holds a candidate of the list."""

    def worked(self, job: str, seconds: float, peak: int) -> None:
        """A job has answered. `seconds` include its time in the queue; `peak` is its largest resident size in bytes."""

    def died(self, cause: str) -> None:
        """A job ended without a usable answer; `cause` is one of jobs.runner.CAUSES."""

    def went_live(self, list_id: str, seconds: float) -> None:
        """A version went live, `seconds` after the beginning of the pull that brought it."""

    def transferred(self, kind: str, seconds: float) -> None:
        """A zone transfer (`kind`: AXFR or IXFR) was sent completely."""

    @contextmanager
    def pulling(self) -> Iterator[None]:
        """The block is one pull: `live` measures from its beginning."""
        token = _PULL.set(time.perf_counter())
        try:
            yield
        finally:
            _PULL.reset(token)

    def live(self, list_id: str) -> None:
        """A version of the list is served. Outside of `pulling`, as after an approval, nothing is measured."""
        began = _PULL.get()
        if began is not None:
            self.went_live(list_id, time.perf_counter() - began)

    @contextmanager
    def timed(self, station: str, subject: str) -> Iterator[None]:
        """The block is the work of a station."""
        began = time.perf_counter()
        failed = True
        progress = _PROGRESS.get() if station != "database" else None  # every other station uses the database
        if progress is not None:
            progress.under_way.append((station, subject))
        try:
            yield
            failed = False
        finally:
            if progress is not None:
                progress.under_way.remove((station, subject))  # perhaps not the last: some run at the same time
            self.took(station, subject, time.perf_counter() - began, failed=failed)


UNHEARD: Final = Stations()
"""The default, where nobody listens."""


ALARMS: Final = (
    *("ahead", "certificate", "clock", "configuration", "database", "frozen"),
    *("high-water", "housekeeping", "read-only", "root", "source"),
)
"""The kinds of alarms, named after what somebody has to look at."""


class Standing:
    """The standing alarms. Each is logged once when it begins, changes or ends; `status`, /readyz and metrics have
    them."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], str] = {}

    def stand(self, kind: str, subject: str = "", text: str | None = None) -> None:
        """Raises an alarm with this text, or, without a text, ends it. `kind` is one of ALARMS, `subject` an id within
        that kind."""
        assert kind in ALARMS, kind
        if text is None:
            if self._texts.pop((kind, subject), None) is not None:
                log.info("the alarm is over: %s", " ".join(filter(None, (kind, subject))))
        elif self._texts.get((kind, subject)) != text:
            self._texts[kind, subject] = text
            log.warning("%s", text)

    def end(self, kind: str) -> None:
        """Ends all alarms of a kind."""
        for subject in self.subjects(kind):
            self.stand(kind, subject)

    def ahead(self, subject: str, knows: str, ours: int) -> None:
        """Raises an alarm, once by subject: an authenticated client knows a number above `ours`, the newest here."""
        if subject not in self.subjects("ahead"):
            text = (
                f"{knows}, but the newest here is {ours}: another publisher gave that number, or an older state was "
                f"put back here: then run `blocklistd start-above N`"
            )
            self.stand("ahead", subject, text)

    def subjects(self, kind: str) -> set[str]:
        """The subjects of the standing alarms of a kind."""
        return {subject for found, subject in self._texts.copy() if found == kind}

    def texts(self) -> list[str]:
        return list(self._texts.copy().values())

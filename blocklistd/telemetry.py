"""What the stations tell of themselves: how long each took and how much it handled, never what an entry is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

log: Final = logging.getLogger(__name__)

_PULL: Final[ContextVar[float | None]] = ContextVar("pull", default=None)
"""When the pull that this task works for began (time.perf_counter); None outside one."""


class Progress:
    """What a command's work is at: its stations that have not ended, in the order in which they began."""

    def __init__(self) -> None:
        self.under_way: list[tuple[str, str]] = []

    @property
    def stage(self) -> tuple[str, str] | None:
        """The station that began last, with its subject."""
        return self.under_way[-1] if self.under_way else None


_PROGRESS: Final[ContextVar[Progress | None]] = ContextVar("progress", default=None)
"""Of the command that this task works for."""


@contextmanager
def followed(progress: Progress) -> Iterator[None]:
    """The stations of the block are told to `progress`, and those of the tasks that it starts."""
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


class Stations:
    """Hears of them. This one keeps nothing; ops.metrics counts.

    `subject` is an id of the configuration: a source, a list, a zone.
    """

    def took(self, station: str, subject: str, seconds: float, *, failed: bool) -> None:
        """A station has ended, well or with an exception."""

    def handled(self, what: str, subject: str, count: int) -> None:
        """So many bytes, records, changes went through (ops.metrics.HANDLED)."""

    def guarded(self, list_id: str, guard: str) -> None:
        """A guard holds a candidate of the list."""

    def worked(self, job: str, seconds: float, peak: int) -> None:
        """A job has answered: in so many seconds, its queue among them, with at most so many bytes resident."""

    def died(self, cause: str) -> None:
        """A job ended without an answer that can be used (jobs.runner.CAUSES)."""

    def went_live(self, list_id: str, seconds: float) -> None:
        """A version went live so long after the pull that brought it began."""

    def transferred(self, kind: str, seconds: float) -> None:
        """A zone transfer, AXFR or IXFR, was sent to its end."""

    @contextmanager
    def pulling(self) -> Iterator[None]:
        """What goes live in the block was brought by one pull."""
        token = _PULL.set(time.perf_counter())
        try:
            yield
        finally:
            _PULL.reset(token)

    def live(self, list_id: str) -> None:
        """A version of the list is served. One that a person has released did not come with a pull."""
        began = _PULL.get()
        if began is not None:
            self.went_live(list_id, time.perf_counter() - began)

    @contextmanager
    def timed(self, station: str, subject: str) -> Iterator[None]:
        """The block is a station's work."""
        began = time.perf_counter()
        failed = True
        progress = _PROGRESS.get() if station != "database" else None  # which is a part of every other
        if progress is not None:
            progress.under_way.append((station, subject))
        try:
            yield
            failed = False
        finally:
            if progress is not None:
                progress.under_way.remove((station, subject))  # perhaps not the last: some run beside each other
            self.took(station, subject, time.perf_counter() - began, failed=failed)


UNHEARD: Final = Stations()
"""For who is given nobody to tell."""


ALARMS: Final = (
    *("ahead", "certificate", "clock", "configuration", "database", "frozen"),
    *("high-water", "housekeeping", "read-only", "root", "source"),
)
"""The kinds of alarms, by what somebody has to look after."""


class Standing:
    """The alarms that stand: each is said once in the log until it is over. `status`, /readyz and the metrics have
    them."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], str] = {}

    def stand(self, kind: str, subject: str = "", text: str | None = None) -> None:
        """From now on this is wrong; without a text it is over. `kind` is one of ALARMS, `subject` an id within it."""
        assert kind in ALARMS, kind
        if text is None:
            if self._texts.pop((kind, subject), None) is not None:
                log.info("over: the alarm %s", " ".join(filter(None, (kind, subject))))
        elif self._texts.get((kind, subject)) != text:
            self._texts[kind, subject] = text
            log.warning("%s", text)

    def end(self, kind: str) -> None:
        """All of a kind are over."""
        for subject in self.subjects(kind):
            self.stand(kind, subject)

    def ahead(self, subject: str, knows: str, ours: int) -> None:
        """Somebody who has proved who he is knows a number that was never made here: said once."""
        if subject not in self.subjects("ahead"):
            text = (
                f"{knows}, and ours is {ours}: it is another publisher's, or an older state was put back here; if that "
                f"was so, `blocklistd start-above N`"
            )
            self.stand("ahead", subject, text)

    def subjects(self, kind: str) -> set[str]:
        """Of the alarms of a kind."""
        return {subject for found, subject in self._texts.copy() if found == kind}

    def texts(self) -> list[str]:
        return list(self._texts.copy().values())

"""Telemetry: reports of the work for the metrics, the stage that a command is at, and the active alarms.

No report contains anything of an entry.

- Stage: a timed step of the pipeline (ops.metrics.STAGES). It begins and ends with `Telemetry.time_stage`.
- Progress: the stages of one command that are in progress. `track_progress` binds it to the command's task.
- Pull: `Telemetry.time_pull` starts its clock, `record_release` reads that clock.
- Active alarm: a kind and a subject, each pair at most once. `raise_alarm` makes it active or changes its text, `clear`
  ends it; each of these changes is logged once. Alarms are in memory only: a restart clears all of them, and raises
  those again whose cause persists.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from blocklistd.events import Event

log: Final = logging.getLogger(__name__)

_PULL: Final[ContextVar[float | None]] = ContextVar("pull", default=None)
"""Start of the pull that this task belongs to (time.perf_counter), or None."""


class Progress:
    """The stages of one command that are in progress, each with its subject, the oldest first."""

    def __init__(self) -> None:
        self.active: list[tuple[str, str]] = []

    @property
    def stage(self) -> tuple[str, str] | None:
        """The newest stage in progress, with its subject."""
        return self.active[-1] if self.active else None


_PROGRESS: Final[ContextVar[Progress | None]] = ContextVar("progress", default=None)
"""Progress of the command that this task works for."""


@contextmanager
def track_progress(progress: Progress) -> Iterator[None]:
    """Adds the stages that begin in the block, and in the tasks that the block starts, to `progress`."""
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


class Telemetry:
    """Receives the reports of the work. This class discards them; ops.metrics.Metrics counts them.

    `subject` is an id of the configuration: a source, a list, a zone. Durations are in seconds.
    """

    def record_stage(self, stage: str, subject: str, seconds: float, *, failed: bool) -> None:
        """A stage has ended. `failed`: with an exception."""

    def record_amount(self, what: str, subject: str, count: int) -> None:
        """`count` bytes, records or entries were processed. `what`: a key of ops.metrics.AMOUNTS."""

    def record_guard(self, list_id: str, guard: str) -> None:
        """A guard holds a candidate of the list."""

    def record_job(self, job: str, seconds: float, peak: int) -> None:
        """A job has returned. `seconds`: its time in the queue included; `peak`: its largest resident size in bytes."""

    def record_job_failure(self, cause: str) -> None:
        """A job ended without a usable result. `cause`: one of jobs.runner.CAUSES."""

    def record_release_time(self, list_id: str, seconds: float) -> None:
        """A version is live, `seconds` after the start of the pull that brought it."""

    def record_transfer(self, kind: str, seconds: float) -> None:
        """A zone transfer was sent completely. `kind`: AXFR or IXFR."""

    def record_receipt(self, outcome: str) -> None:
        """A receipt has an outcome (pipeline.receipts.Taken)."""

    @contextmanager
    def time_pull(self) -> Iterator[None]:
        """The block is one pull: `record_release` measures from its start."""
        token = _PULL.set(time.perf_counter())
        try:
            yield
        finally:
            _PULL.reset(token)

    def record_release(self, list_id: str) -> None:
        """A version of the list is live. Measures nothing outside of `time_pull`, as after an approval."""
        began = _PULL.get()
        if began is not None:
            self.record_release_time(list_id, time.perf_counter() - began)

    @contextmanager
    def time_stage(self, stage: str, subject: str) -> Iterator[None]:
        """The block is the work of a stage."""
        began = time.perf_counter()
        failed = True
        progress = _PROGRESS.get() if stage != "database" else None  # every other stage uses the database
        if progress is not None:
            progress.active.append((stage, subject))
        try:
            yield
            failed = False
        finally:
            if progress is not None:
                progress.active.remove((stage, subject))  # not always the newest: some run at the same time
            self.record_stage(stage, subject, time.perf_counter() - began, failed=failed)


NO_TELEMETRY: Final = Telemetry()
"""The default: discards every report."""


ALARMS: Final = {
    "candidate_waiting": "a candidate has been held for longer than `alarms.review_within`",
    "certificate": "a certificate expires soon, or has expired",
    "client_ahead": "a subscriber or secondary claims to hold a higher version or serial than the newest",
    "clock": "the clock is behind the newest recorded time, or was set far ahead",
    "configuration": "a start found an error in the configuration that a reload would refuse",
    "database": "SQLite found damage in the database",
    "entries_due": "entries of a list with `at_end: review` have been due for longer than `alarms.review_within`",
    "exceptions": "a file of local exceptions is unusable: the last good ones stay in force until they end",
    "guard_file": "a file of names or a warning list of a list's guards is unusable: nothing is added to the list",
    "halted": "the daemon is halted, since its state is damaged or not the newest: nothing is served",
    "high_water": "the high-water file can't be read or written",
    "housekeeping": "a recurring task of the daemon failed",
    "list_frozen": "a list has been frozen for longer than `alarms.review_within`",
    "node_late": "a version is not live at a node of a subscriber within the subscriber's objective",
    "node_silent": "nothing was heard of a node, or of a secondary, for a day",
    "policy_rejected": "a reviewer rejected what is configured for a list, and the list goes on as before",
    "probe_failed": "a node's own resolver does not block a list's test entry",
    "read_only": "the file system of the state_dir is read-only",
    "root": "the root metadata, root.json, expire soon or have expired",
    "source_frozen": "the list of a source has not changed for longer than its max_unchanged",
    "source_overdue": "the newest list of a source is older than its max_age",
}
"""The kinds of alarms, and what each means."""


class ActiveAlarms:
    """The active alarms, which `status`, /readyz and the metrics show.

    `kind` is one of ALARMS. `subject` is an id within the kind, "" where the kind has one alarm only.
    """

    def __init__(self) -> None:
        self._texts: dict[tuple[str, str], str] = {}
        self.changed: Callable[[], None] = lambda: None
        """Called, in any thread, after an alarm was raised or cleared."""

    def set_alarm(self, kind: str, subject: str = "", text: str | None = None) -> None:
        """Raises the alarm with this text, or clears it if `text` is None."""
        if text is None:
            self.clear(kind, subject)
        else:
            self.raise_alarm(kind, subject, text)

    def raise_alarm(self, kind: str, subject: str, text: str) -> None:
        """Makes an alarm active, or changes the text of an active one. Logs nothing if the text is the same."""
        assert kind in ALARMS, kind
        if self._texts.get((kind, subject)) != text:
            self._texts[kind, subject] = text
            Event.ALARM_RAISED.log(log, alarm=kind, subject=subject or None, text=text)
            self.changed()

    def clear(self, kind: str, subject: str = "") -> None:
        """Ends an alarm. Does nothing if it is not active."""
        assert kind in ALARMS, kind
        if self._texts.pop((kind, subject), None) is not None:
            Event.ALARM_CLEARED.log(log, alarm=kind, subject=subject or None)
            self.changed()

    def set_all(self, kind: str, texts: Mapping[str, str]) -> None:
        """Makes these, by subject, the active alarms of a kind, and ends all others of it."""
        for subject in self.subjects(kind) - texts.keys():
            self.clear(kind, subject)
        for subject, text in texts.items():
            self.raise_alarm(kind, subject, text)

    def clear_all(self, kind: str) -> None:
        """Ends all alarms of a kind."""
        for subject in self.subjects(kind):
            self.clear(kind, subject)

    def subjects(self, kind: str) -> set[str]:
        """The subjects of the active alarms of a kind."""
        return {subject for found, subject in self._texts.copy() if found == kind}

    def active(self) -> dict[tuple[str, str], str]:
        """The text of each active alarm by kind and subject, the oldest first."""
        return self._texts.copy()

    def texts(self) -> list[str]:
        """The texts of all active alarms, the oldest first."""
        return list(self._texts.copy().values())

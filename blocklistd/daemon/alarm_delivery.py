"""Delivers alarms to people, by each configured way once when an alarm is raised and once when it is over.

Each way has a task and rows of its own (store/sent_alarms.py has their states), so that one that hangs delays no other,
and nothing else in the daemon waits for either. Order of calls: `configure` at the start and after each reload,
`checked_all` once the start has made all checks, `stop`.

- A failed delivery is logged and tried again after ALARM_RETRY seconds, then after twice as many, at most
  ALARM_RETRY_MAX; meanwhile `status` shows it. Alarms that end before the first try are not sent at all.
- An alarm that comes back is sent again ALARM_QUIET after it was sent last, if it is active then: an alarm that comes
  and goes makes at most two messages in that time.
- A row of an earlier run whose alarm is not active is over only after `checked_all`: before that, nobody has looked.
- While the database can't be written, alarms are sent, but not recorded as sent. A restart may send them again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from blocklistd.config.alarms import AlarmSettings
from blocklistd.daemon.alarm_ways import DeliveryError, Notice, Way, ways_of
from blocklistd.errors import BlocklistError, redacted, safe_message
from blocklistd.events import Event
from blocklistd.limits import ALARM_PAUSE, ALARM_QUIET, ALARM_RETRY, ALARM_RETRY_MAX, MAX_ALARMS_SENT
from blocklistd.ops.metrics import Metrics
from blocklistd.pipeline.resources import Resources
from blocklistd.store import sent_alarms
from blocklistd.store.sent_alarms import AlarmKey, SentAlarm
from blocklistd.telemetry import ALARMS
from blocklistd.times import rfc3339

log: Final = logging.getLogger(__name__)


def reconcile(
    rows: dict[AlarmKey, SentAlarm], active: dict[AlarmKey, str], now: datetime, *, complete: bool
) -> dict[AlarmKey, SentAlarm]:
    """The rows after a look at the active alarms, at most MAX_ALARMS_SENT. Pure: rows that stay the same are kept."""
    made: dict[AlarmKey, SentAlarm] = {}
    for key, row in rows.items():
        quiet = row.sent is not None and abs(now - row.sent) < ALARM_QUIET
        if key in active:
            if row.state == "done" and not quiet:
                row = SentAlarm(now)
            elif row.state == "over":  # it is back, and nobody knows that it had ended
                row = replace(row, state="raised")
            made[key] = row
        elif not row.seen and not complete:
            made[key] = row
        elif row.state == "raised":
            if row.sent is not None or row.tries:
                made[key] = replace(row, state="over")
        elif row.state == "over" or quiet:
            made[key] = row
    for key in active:
        if key not in made and len(made) < MAX_ALARMS_SENT:
            made[key] = SentAlarm(now)
    for key, text in active.items():
        if key in made:
            made[key].text, made[key].seen = text, True
    return made


def notice_of(key: AlarmKey, row: SentAlarm, host: str) -> Notice:
    """What is to be delivered of a row that is pending."""
    kind, subject = key
    if row.state == "over":
        what = ALARMS.get(kind, kind) + (f" ({subject})" if subject else "")  # not its text, which says what to do
        return Notice(kind, subject, row.raised, f"it has ended, and nothing is left to do: {what}", "cleared", host)
    return Notice(kind, subject, row.raised, row.text, "raised", host)


def retry_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row, from 1."""
    return float(min(ALARM_RETRY * 2 ** min(failures - 1, 20), ALARM_RETRY_MAX))  # 2**1024 is no float


@dataclass(slots=True)
class _Line:
    """A way, its rows, and its task. `loaded`: the rows are those of the database."""

    way: Way
    rows: dict[AlarmKey, SentAlarm] = field(default_factory=dict)
    loaded: bool = False
    failures: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Future[None] | None = None

    def pending(self) -> list[tuple[AlarmKey, SentAlarm]]:
        """What has to be delivered, the least often tried and oldest first. An alarm of an earlier run has no text
        until it is active again."""
        found = [(key, row) for key, row in self.rows.items() if row.is_pending and (row.seen or row.state == "over")]
        return sorted(found, key=lambda one: (one[1].tries, one[1].raised))


class AlarmDelivery:
    """Follows the active alarms of `resources`, and delivers them."""

    def __init__(self, resources: Resources, metrics: Metrics) -> None:
        self._resources = resources
        self._metrics = metrics
        self._settings: AlarmSettings | None = None
        self._lines: list[_Line] = []
        self._complete = False
        self._host = socket.gethostname()

    # -- states ----------------------------------------------------------------------------------------------------

    async def configure(self, settings: AlarmSettings) -> None:
        """Delivers by the ways of these settings from now on. What an unchanged way still has to deliver stays."""
        if settings == self._settings:
            return
        self._settings = settings
        kept = {line.way.name: line.rows for line in self._lines if line.loaded}
        await self.stop()
        running = asyncio.get_running_loop()

        def changed() -> None:
            with suppress(RuntimeError):  # the loop is closed: the daemon has ended
                running.call_soon_threadsafe(self._wake)

        self._resources.alarms.changed = changed
        for way in ways_of(settings):
            line = _Line(way, kept.get(way.name, {}), loaded=way.name in kept)
            self._lines.append(line)
            line.task = asyncio.ensure_future(self._run(line))
        names = [line.way.name for line in self._lines]
        self._metrics.configure_alarms(names)
        with suppress(BlocklistError):
            await self._resources.database.writing(functools.partial(sent_alarms.forget, ways=names))

    def checked_all(self) -> None:
        """Tells that the start has made all checks. An alarm of an earlier run that is not active now is over."""
        self._complete = True
        self._wake()

    async def stop(self) -> None:
        """Ends all deliveries. One that is under way is tried again after a restart."""
        lines, self._lines = self._lines, []
        tasks = [line.task for line in lines if line.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _wake(self) -> None:
        for line in self._lines:
            line.wake.set()

    # -- delivery --------------------------------------------------------------------------------------------------

    async def _run(self, line: _Line) -> None:
        while True:
            line.wake.clear()
            pause = ALARM_PAUSE
            try:
                await self._look(line)
                if (pending := line.pending()) and not await self._deliver(line, *pending[0]):
                    await asyncio.sleep(retry_after(line.failures))  # a change must not shorten it
                    continue
                if line.pending():
                    continue
            except Exception as error:  # a bug must not end the deliveries
                Event.HOUSEKEEPING_FAILED.log(
                    log, task=f"deliver alarms by {line.way.name}", error=safe_message(error), exc_info=redacted(error)
                )
                await asyncio.sleep(ALARM_RETRY_MAX)
            with suppress(TimeoutError):
                await asyncio.wait_for(line.wake.wait(), pause)

    async def _look(self, line: _Line) -> None:
        """Brings the rows up to date with the active alarms."""
        if not line.loaded:
            with suppress(BlocklistError):
                line.rows = await self._resources.database.reading(
                    functools.partial(sent_alarms.load, way=line.way.name)
                )
            line.loaded = True
        active = self._resources.alarms.active()
        made = reconcile(line.rows, active, self._resources.clock(), complete=self._complete)
        if made != line.rows:
            line.rows = made
            await self._save(line)
        line.rows = made
        self._metrics.alarms_undelivered.labels(line.way.name).set(len(line.pending()))

    async def _save(self, line: _Line) -> None:
        rows = {key: replace(row) for key, row in line.rows.items()}
        save = functools.partial(sent_alarms.save, way=line.way.name, rows=rows)
        with suppress(BlocklistError):  # a read-only database
            await self._resources.database.writing(save, while_halted=True)  # else nobody hears that the halt is over

    async def _deliver(self, line: _Line, key: AlarmKey, row: SentAlarm) -> bool:
        """Delivers one notice; False if that failed."""
        way, (kind, subject) = line.way.name, key
        notice = notice_of(key, row, self._host)
        if (reason := await self._try(line.way, notice)) is not None:
            line.failures += 1
            row.tries, row.reason = row.tries + 1, reason
            Event.ALARM_NOT_DELIVERED.log(log, way=way, alarm=kind, subject=subject or None, reason=reason)
            return False
        line.failures = 0
        now = self._resources.clock()
        state = "done" if notice.state == "cleared" else "raised"
        line.rows[key] = replace(row, state=state, sent=row.sent or now, tries=0, reason="")
        Event.ALARM_DELIVERED.log(log, way=way, alarm=kind, subject=subject or None, state=notice.state)
        await self._save(line)
        return True

    async def _try(self, way: Way, notice: Notice) -> str | None:
        """Delivers a notice. Returns None, or why it failed."""
        reason: str | None = None
        try:
            await way.deliver(notice)
        except DeliveryError as error:
            reason = str(error)
        self._metrics.alarm_deliveries.labels(way.name, "failed" if reason else "delivered").inc()
        return reason

    # -- for the commands ------------------------------------------------------------------------------------------

    def undelivered(self) -> list[dict[str, Any]]:
        """The alarms that are not delivered yet, for `status`."""
        return [
            {
                "way": line.way.name,
                "alarm": kind,
                "subject": subject,
                "state": "cleared" if row.state == "over" else "raised",
                "since": rfc3339(row.raised),
                "tries": row.tries,
                "reason": row.reason or None,
            }
            for line in self._lines
            for (kind, subject), row in line.pending()
        ]

    async def test(self) -> list[dict[str, Any]]:
        """Sends a test alarm by each way, all at once, and returns the results."""
        now = self._resources.clock()
        text = "this is a test: somebody ran `blocklistd alarms test`, and nothing is wrong"
        notice = Notice("test", "", now, text, "raised", self._host, test=True)
        ways = [line.way for line in self._lines]
        work: list[Awaitable[str | None]] = [self._try(way, notice) for way in ways]
        reasons = await asyncio.gather(*work)
        return [
            {"way": way.name, "delivered": reason is None, "reason": reason}
            for way, reason in zip(ways, reasons, strict=True)
        ]

"""Schedules the daemon's recurring work.

| work | how often |
|---|---|
| pull each source | by its `schedule`; at a start at once if its last pull failed or its time has passed |
| sign: renew signatures | twice as often as one can become due, at least hourly |
| retain: delete what is past its retention, and kept entries that no source asserts | every UPKEEP_MINUTES |
| sweep: delete sealed files that no row names | every SWEEP_MINUTES |
| scrub: verify the checksums of the files; check database: SQLite's integrity check | daily |
| catch up: try failed work again | every minute |
| expire: end the entries that end by themselves | when the next expiry is due, and every minute |
| corrections: request the end of those whose `until` has passed | every minute |
| guard files: read the names of guards again if they have changed | every minute |
| count due: count the entries whose lifetime has ended | every minute, and after each pull |
| alarms | every minute, after each pull, and when a source becomes overdue or frozen |
| nodes: record what secondaries hold, check the nodes of subscribers | every minute, and soon after receipts |
| receipts: delete old ones | every UPKEEP_MINUTES |
| source receipts: send those of sources to their publishers | every minute, and after each pull |
| disk: record its free space | at a start, and every UPKEEP_MINUTES |

The work is in upkeep.py, alarm_checks.py and the pipeline. RetriedTasks (ops/retried_tasks.py) runs each task but
the pulls: an error raises an alarm, and the task is tried again.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta

from blocklistd.config import Config
from blocklistd.daemon import plans
from blocklistd.daemon.alarm_checks import AlarmChecks
from blocklistd.daemon.upkeep import Upkeep
from blocklistd.limits import EXPIRY_PAUSE, GUARD_CHECK, RESIGN_PARTS, SWEEP_MINUTES, UPKEEP_MINUTES
from blocklistd.model import Outcome
from blocklistd.ops.retried_tasks import RetriedTasks
from blocklistd.ops.scheduler import Scheduler
from blocklistd.pipeline.corrections import Corrections
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.resources import Resources
from blocklistd.store.lists import next_expiries
from blocklistd.store.pulls import source_states
from blocklistd.times import utc_now


class Housekeeping:
    """Schedules the recurring work. `config` returns the running configuration; `check_names` reads changed names of
    guards, `count_due` counts the entries that are due, `check_nodes` checks the nodes of subscribers,
    `expire_receipts` deletes old receipts, `send_receipts` sends those of sources. A start and each reload call
    `schedule`."""

    def __init__(
        self,
        resources: Resources,
        scheduler: Scheduler,
        pipeline: Pipeline,
        reconciler: Reconciler,
        corrections: Corrections,
        upkeep: Upkeep,
        alarms: AlarmChecks,
        tasks: RetriedTasks,
        config: Callable[[], Config],
        check_names: Callable[[], Awaitable[None]],
        count_due: Callable[[], Awaitable[None]],
        check_nodes: Callable[[], Awaitable[None]],
        expire_receipts: Callable[[], Awaitable[None]],
        send_receipts: Callable[[], Awaitable[None]],
    ) -> None:
        self._resources = resources
        self._scheduler = scheduler
        self._pipeline = pipeline
        self._reconciler = reconciler
        self._corrections = corrections
        self._upkeep = upkeep
        self._alarms = alarms
        self._check_names = check_names
        self._count_due = count_due
        self._check_nodes = check_nodes
        self._expire_receipts = expire_receipts
        self._send_receipts = send_receipts
        self._tasks = tasks
        self._config = config
        self._is_start = True

    async def schedule(self) -> None:
        """Schedules all work. Work that reads nothing from the database comes first: with a damaged database,
        signatures are still renewed.
        """
        config = self._config()
        shortest = min([config.keys.timestamp_expires, *(found.expires for found in config.lists.values())])
        # twice as often as a signature can become due: a renewal is then at most half a period late
        period = min(shortest / (2 * RESIGN_PARTS), timedelta(hours=1))
        for name, every, work in (
            ("sign", period, self._upkeep.sign),
            ("retain", timedelta(minutes=UPKEEP_MINUTES), self._upkeep.retain),
            ("sweep", timedelta(minutes=SWEEP_MINUTES), self._upkeep.sweep),
            ("scrub", timedelta(days=1), self._pipeline.scrub),
            ("check database", timedelta(days=1), self._upkeep.check_database),
            ("catch up", timedelta(minutes=1), self._upkeep.catch_up),
            ("expire", timedelta(minutes=1), self._expire),
            ("corrections", timedelta(minutes=1), self._end_corrections),
            ("guard files", timedelta(seconds=GUARD_CHECK), self._check_names),
            ("count due", timedelta(minutes=1), self._count_due),
            ("alarms", timedelta(minutes=1), self._check_alarms),
            ("nodes", timedelta(minutes=1), self._check_nodes),
            ("receipts", timedelta(minutes=UPKEEP_MINUTES), self._expire_receipts),
            ("source receipts", timedelta(minutes=1), self._send_receipts),
            ("disk", timedelta(minutes=UPKEEP_MINUTES), self._upkeep.sample_disk),
        ):
            self._scheduler.run_every(name, every, self._tasks.retried(name, work))
        await self._tasks.do("disk", self._upkeep.sample_disk)
        await self._tasks.do("schedule pulls", self._schedule_pulls)
        await self.expire()

    async def _check_alarms(self) -> None:
        await self._alarms.check_all()
        if self._alarms.next_check is not None:  # by the checked clock, which may differ from the scheduler's
            wait = max(self._alarms.next_check - self._resources.clock(), timedelta(seconds=1))
            self._scheduler.run_once("alarms due", utc_now() + wait + timedelta(milliseconds=1), self.check_alarms)

    async def check_alarms(self) -> None:
        """Raises and clears alarms. Never raises an error."""
        await self._tasks.do("alarms", self._check_alarms)

    async def count_due(self) -> None:
        """Counts the entries that are due. Never raises an error."""
        await self._tasks.do("count due", self._count_due)

    async def check_nodes(self) -> None:
        """Checks the nodes of subscribers. Never raises an error."""
        await self._tasks.do("nodes", self._check_nodes)

    async def send_receipts(self) -> None:
        """Sends the receipts of sources to their publishers. Never raises an error."""
        await self._tasks.do("source receipts", self._send_receipts)

    def check_nodes_soon(self) -> None:
        """Called after nodes have changed. Many changes in a second lead to one check."""
        self._scheduler.run_once("nodes due", utc_now() + timedelta(seconds=1), self.check_nodes)

    async def _expire(self) -> None:
        """Makes the expiries that are due, and schedules the next one. Each list is a task of its own: only the
        ones that failed are tried again."""
        clock, names = self._resources.clock, list(self._config().lists)
        now = clock()
        due = await self._resources.database.reading(functools.partial(next_expiries, now=now, names=names))
        ended = [name for name, when in due.items() if when <= now]
        for name in ended:
            await self._tasks.do(f"expire {name}", functools.partial(self._reconciler.expire, name))
        due = await self._resources.database.reading(functools.partial(next_expiries, now=now, names=names))
        coming = [when for when in due.values() if when > now]
        if coming:  # by the checked clock, which may differ from the scheduler's
            wait = max(min(coming) - clock(), timedelta(seconds=EXPIRY_PAUSE if ended else 0))
            self._scheduler.run_once("expiry due", utc_now() + wait + timedelta(milliseconds=1), self.expire)

    async def _end_corrections(self) -> None:
        """Requests the end of the corrections whose `until` has passed. Each list is a task of its own."""
        for name in list(self._config().lists):
            await self._tasks.do(f"corrections {name}", functools.partial(self._corrections.end_passed, name))

    async def expire(self) -> None:
        """Makes the expiries that are due, and schedules the next one. Never raises an error."""
        await self._tasks.do("expire", self._expire)

    async def _schedule_pulls(self) -> None:
        """Schedules the pulls. At a start, a source whose last pull failed is pulled at once: the restart may have
        removed the cause.
        """
        config, now = self._config(), utc_now()  # as the scheduler: the system's clock, not the checked one
        states = await self._resources.database.reading(functools.partial(source_states, names=config.sources))
        for name, state in states.items():
            work = functools.partial(self._pipeline.pull, name)
            last = None if self._is_start and state.outcome is Outcome.FAILED else state.last_pull
            self._scheduler.schedule_pull(f"pull {name}", plans.pull_trigger(config.sources[name]), work, last, now)
        self._is_start = False

"""Checks that raise and clear alarms.

| alarm | subject | raised while |
|---|---|---|
| configuration | key | the start found a problem at this key; cleared by the next successful reload |
| clock | | the clock is behind the newest recorded time, or over a year ahead (CheckedClock) |
| read_only | | the file system of the state_dir is read-only |
| root | | root.json is about to expire or has expired, or older ones don't lead to it |
| certificate | key | a certificate in use expires within CERTIFICATE_ALARM_DAYS or has expired |
| source_overdue | source | the newest list of the source is older than max_age |
| source_frozen | source | the list of the source did not change within max_unchanged |
| candidate_waiting | candidate | its list has waited for a decision on its cause for longer than alarms.review_within |
| list_frozen | list | the list is frozen for longer than alarms.review_within |
| entries_due | list | entries of the list, which has at_end: review, are due for longer than alarms.review_within |
| client_ahead | list or zone | a client claims to hold a higher number than ours, for a day (serve/claims.py) |
| policy_rejected | list | a reviewer rejected what is configured for the list |
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.config.files import RENEW
from blocklistd.daemon import alarm_texts
from blocklistd.errors import ConfigProblem, StoreError
from blocklistd.model import ListId
from blocklistd.pipeline.due_counts import DueCount
from blocklistd.pipeline.policies import RejectedPolicy
from blocklistd.pipeline.resources import Resources
from blocklistd.signing.trust import Trust
from blocklistd.store import candidates, client_claims
from blocklistd.store.files import is_read_only
from blocklistd.store.freezing import frozen_lists
from blocklistd.store.pulls import source_states
from blocklistd.times import CheckedClock


class AlarmChecks:
    """Checks the daemon's state, and raises or clears the alarm of each check. `trust` returns the roots of trust,
    `config` the running configuration, `rejected` the configured policies that are not in force, `due` the numbers of
    entries that are due.
    """

    def __init__(
        self,
        resources: Resources,
        trust: Callable[[], Trust],
        clock: CheckedClock,
        config: Callable[[], Config],
        rejected: Callable[[Connection], Mapping[ListId, RejectedPolicy]],
        due: Callable[[], Mapping[ListId, DueCount]],
    ) -> None:
        self._clock = clock
        self._resources = resources
        self._trust = trust
        self._config = config
        self._rejected = rejected
        self._due = due
        self.next_check: datetime | None = None
        """The earliest time at which a source becomes overdue or frozen, or a candidate has waited for too long, as of
        the last check; None if there is none."""
        self.certificates: Mapping[str, datetime] = {}
        """Expiry of each certificate in use, by the key of the configuration that names its file."""

    def raise_configuration_alarms(self, problems: Iterable[ConfigProblem]) -> None:
        """Raises an alarm for each key with problems. A start tolerates these problems; a reload would refuse them."""
        texts: dict[str, list[str]] = {}
        for problem in problems:
            texts.setdefault(problem.key, []).append(str(problem))
        for key, found in texts.items():
            text = "; ".join(found)
            remedy = "" if text.endswith(RENEW) else ": correct it, then run `blocklistd reload`"
            self._resources.alarms.raise_alarm("configuration", key, text + remedy)

    def clear_configuration_alarms(self) -> None:
        """Clears the alarms of the configuration. Called after a reload: the running configuration has no problems."""
        self._resources.alarms.clear_all("configuration")

    def check_clock(self) -> None:
        """Raises or clears the alarm of the clock."""
        self._clock()
        self._resources.alarms.set_alarm("clock", text=self._clock.wrong)

    async def check_all(self) -> None:
        """Makes every check but that of the configuration, and computes `next_check`. Raises StoreError."""
        self.check_clock()
        now, alarms = self._resources.clock(), self._resources.alarms
        self._check_disk()
        await self._check_claims()
        alarms.set_alarm("root", text=self._trust().alarm(now))
        self._check_certificates(now)
        await self._check_policies()
        due = [*await self._check_sources(now), *await self._check_reviews(now)]
        self.next_check = min((time for time in due if time is not None and time >= now), default=None)

    def _check_certificates(self, now: datetime) -> None:
        alarms = self._resources.alarms
        for removed in alarms.subjects("certificate") - self.certificates.keys():
            alarms.clear("certificate", removed)
        for key, until in self.certificates.items():
            alarms.set_alarm("certificate", key, alarm_texts.certificate(key, until, now))

    async def _check_policies(self) -> None:
        rejected = await self._resources.database.reading(self._rejected)
        texts: dict[str, str] = {name: found.sentence for name, found in rejected.items()}
        self._resources.alarms.set_all("policy_rejected", texts)

    async def _check_claims(self) -> None:
        """Ends the alarms of claims by clients, and stores these claims if they have changed."""
        claims, database = self._resources.claims, self._resources.database
        claims.refresh()
        if claims.changed and not database.read_only and database.halted is None:
            rows, claims.changed = claims.rows, False
            try:
                await database.writing(lambda connection: client_claims.replace(connection, rows))
            except StoreError:
                claims.changed = True
                raise

    def _check_disk(self) -> None:
        store, text = self._resources.store, None
        with contextlib.suppress(OSError):
            if store.read_only or is_read_only(store.state_dir):
                text = alarm_texts.read_only(store.state_dir)
        self._resources.alarms.set_alarm("read_only", text=text)

    async def _check_reviews(self, now: datetime) -> list[datetime]:
        """Checks held candidates, frozen lists and entries that are due. Returns the times at which each has waited for
        too long."""
        config = self._config()
        within = config.alarms.review_within
        waiting = await self._resources.database.reading(candidates.waiting)
        frozen = await self._resources.database.reading(frozen_lists)
        found = alarm_texts.reviews(config, waiting, frozen, self._due())
        late = [one for one in found if now - one.since > within]
        for kind in alarm_texts.REVIEWS:
            self._resources.alarms.set_all(kind, {one.subject: one.text for one in late if one.kind == kind})
        return [one.since + within for one in found]

    async def _check_sources(self, now: datetime) -> list[datetime | None]:
        sources, alarms = self._config().sources, self._resources.alarms
        states = await self._resources.database.reading(functools.partial(source_states, names=sources))
        for kind in ("source_overdue", "source_frozen"):
            for removed in alarms.subjects(kind) - states.keys():
                alarms.clear(kind, removed)
        due: list[datetime | None] = []
        for name, state in states.items():
            max_age, max_unchanged = sources[name].max_age, sources[name].max_unchanged
            due += [state.overdue_after(max_age), state.frozen_after(max_unchanged)]
            alarms.set_alarm("source_overdue", name, alarm_texts.overdue(name, state, max_age, now))
            alarms.set_alarm("source_frozen", name, alarm_texts.unchanged(name, state, max_unchanged, now))
        return due

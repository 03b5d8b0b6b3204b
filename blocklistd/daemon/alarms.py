"""Alarms about the clock, the disk, certificates, root.json, and sources that are overdue or frozen."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from blocklistd.config import Config
from blocklistd.config.files import RENEW
from blocklistd.config.values import written
from blocklistd.errors import ConfigProblem
from blocklistd.limits import CERTIFICATE_ALARM_DAYS
from blocklistd.pipeline.resources import Resources
from blocklistd.signing.keys import Trust
from blocklistd.store.files import is_read_only
from blocklistd.store.pulls import source_states
from blocklistd.times import CheckedClock, rfc3339


class Alarms:
    """Raises and clears alarms (telemetry.ActiveAlarms). `config` returns the running configuration."""

    def __init__(
        self,
        resources: Resources,
        trust: Trust,
        clock: CheckedClock,
        config: Callable[[], Config],
    ) -> None:
        self._clock = clock
        self._resources = resources
        self._trust = trust
        self._config = config
        self.due: datetime | None = None
        """When the next source becomes overdue or frozen, as of the last look."""
        self.certificates: Mapping[str, datetime] = {}
        """When each certificate in use expires, by the configuration's key that names it."""

    def found_at_start(self, problems: Iterable[ConfigProblem]) -> None:
        """Raises an alarm for each key with problems that a reload would refuse, and a start tolerates."""
        texts: dict[str, list[str]] = {}
        for problem in problems:
            texts.setdefault(problem.key, []).append(str(problem))
        for key, found in texts.items():
            cure = "mend it, then run `blocklistd reload`"
            self._resources.alarms.raise_alarm("configuration", key, f"{'; '.join(found)}: {cure}")

    def mended(self) -> None:
        """Ends these alarms: a configuration without problems runs now."""
        self._resources.alarms.clear_all("configuration")

    def look_at_clock(self) -> None:
        self._clock()
        self._resources.alarms.set_alarm("clock", text=self._clock.wrong)

    async def raise_alarms(self) -> None:
        self.look_at_clock()
        now, alarms = self._resources.clock(), self._resources.alarms
        self._look_at_disk()
        alarms.set_alarm("root", text=self._trust.alarm(now))
        self._look_at_certificates(now)
        await self._sources(now)

    def _look_at_certificates(self, now: datetime) -> None:
        alarms = self._resources.alarms
        for gone in alarms.subjects("certificate") - self.certificates.keys():
            alarms.clear("certificate", gone)
        for key, until in self.certificates.items():
            text = None
            if until - now < timedelta(days=CERTIFICATE_ALARM_DAYS):
                text = f"{key} {'expires' if until > now else 'expired'} on {rfc3339(until)}: {RENEW}"
            alarms.set_alarm("certificate", key, text)

    def _look_at_disk(self) -> None:
        store, text = self._resources.store, None
        with contextlib.suppress(OSError):
            if store.read_only or is_read_only(store.state_dir):
                text = (
                    f"{store.state_dir}: the file system is read-only: what is published is served, nothing new is "
                    f"published or signed, and what was signed expires: mount it read-write, then restart"
                )
        self._resources.alarms.set_alarm("read_only", text=text)

    async def _sources(self, now: datetime) -> None:
        sources, alarms = self._config().sources, self._resources.alarms
        states = await self._resources.database.reading(functools.partial(source_states, names=sources))
        for kind in ("source_overdue", "source_frozen"):
            for gone in alarms.subjects(kind) - states.keys():
                alarms.clear(kind, gone)
        due = []
        for name, state in states.items():
            max_age, max_unchanged = sources[name].max_age, sources[name].max_unchanged
            overdue = frozen = None
            due += [state.overdue_after(max_age), state.frozen_after(max_unchanged)]
            if state.is_overdue(max_age, now):
                last = "no pull was accepted yet"
                if state.said is not None and state.said == state.last_accepted:
                    last = f"the last accepted pull was {rfc3339(state.said)}"
                elif state.said is not None:  # not the time of the last pull: the alarm would be logged anew after each
                    last = f"its body was signed {rfc3339(state.said)}"
                overdue = f"source {name}: nothing newer than max_age ({written(max_age)}): {last}"
            if max_unchanged is not None and state.unchanged_since is not None and state.is_frozen(max_unchanged, now):
                since = rfc3339(state.unchanged_since)
                frozen = f"source {name}: nothing changed for max_unchanged ({written(max_unchanged)}): since {since}"
            alarms.set_alarm("source_overdue", name, overdue)
            alarms.set_alarm("source_frozen", name, frozen)
        self.due = min((time for time in due if time is not None and time >= now), default=None)

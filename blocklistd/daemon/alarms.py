"""What an operator has to look after: a source that says nothing, a key or a certificate that ends soon."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from blocklistd.config import Config
from blocklistd.config.values import written
from blocklistd.limits import CERTIFICATE_ALARM_DAYS
from blocklistd.pipeline.resources import Resources
from blocklistd.signing.keys import Trust
from blocklistd.store.pulls import source_states
from blocklistd.times import rfc3339
from blocklistd.tls import ServedCertificate

log: Final = logging.getLogger(__name__)


class Alarms:
    """Says them in the log, each time that it looks. `config` is what runs now."""

    def __init__(
        self,
        resources: Resources,
        trust: Trust,
        certificate: ServedCertificate,
        config: Callable[[], Config],
    ) -> None:
        self._resources = resources
        self._trust = trust
        self._certificate = certificate
        self._config = config

    async def raise_alarms(self) -> None:
        now = self._resources.clock()
        alarm = self._trust.alarm(now)
        if alarm:
            log.warning("%s", alarm)
        until = self._certificate.good_until
        if until is not None and until - now < timedelta(days=CERTIFICATE_ALARM_DAYS):
            ends = "expires" if until > now else "expired"
            cure = "renew the certificate, then run `systemctl reload blocklistd`"
            log.warning("feed.tls.cert %s on %s: %s", ends, rfc3339(until), cure)
        await self._sources(now)

    async def _sources(self, now: datetime) -> None:
        sources = self._config().sources
        states = await self._resources.database.reading(functools.partial(source_states, names=sources))
        for name, state in states.items():
            max_age = sources[name].max_age
            if state.last_pull is not None and state.is_overdue(max_age, now):
                last = f"the last was {rfc3339(state.last_accepted)}" if state.last_accepted else "there was none yet"
                log.warning("source %s: no accepted pull for max_age (%s): %s", name, written(max_age), last)

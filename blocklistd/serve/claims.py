"""Claims of clients to hold a version or serial above the newest one here: our state must be older than their copy.

Who claims something: a request for a diff names the version that the client holds, as do a receipt and a request for a
zone's difference (IXFR). A request for anything else claims nothing.

A claim raises the alarm `client_ahead` for CLAIM_ALARM_HOURS. It may be false. So the alarm ends by itself, and the
next claim of the same subscriber about the same list or zone counts CLAIM_DAYS after the first one. The claims are
stored (store/client_claims.py): a restart neither ends an alarm nor begins one again.

States of a claim: counted (its alarm is active) → ended (further ones are ignored) → forgotten. `start-above` forgets
all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final

from blocklistd.limits import CLAIM_ALARM_HOURS, CLAIM_DAYS
from blocklistd.store.client_claims import ClientClaim
from blocklistd.telemetry import ActiveAlarms
from blocklistd.times import TOLERANCE, Clock, utc_now

_ACTIVE: Final = timedelta(hours=CLAIM_ALARM_HOURS)
_KEPT: Final = timedelta(days=CLAIM_DAYS)
KIND: Final = "client_ahead"


class Claims:
    """The claims of all clients. For the event loop only. `load` comes first; `refresh` once a minute; `rows` are to be
    stored while `changed` is set."""

    def __init__(self, alarms: ActiveAlarms | None = None, clock: Clock = utc_now) -> None:
        self._alarms = alarms or ActiveAlarms()
        self._clock = clock
        self._claims: dict[tuple[str, str], ClientClaim] = {}
        """By subscriber, and list or zone; the oldest first."""
        self.changed = False
        self.on_claim: Callable[[], None] = lambda: None
        """Called after a claim was counted."""

    @property
    def rows(self) -> list[ClientClaim]:
        """The claims that are not forgotten."""
        return list(self._claims.values())

    def load(self, stored: Iterable[ClientClaim]) -> None:
        """Adds the stored claims."""
        found = {(one.subscriber, one.subject): one for one in stored}
        self._claims = dict(sorted((found | self._claims).items(), key=lambda item: item[1].time))
        self.refresh()

    def claim(self, subscriber: str, subject: str, knows: str, ours: int) -> None:
        """Counts a claim. `subject`: the list or zone, as in "list national". `knows`: the first half of the alarm's
        text, who holds which number. `ours`: the newest number here."""
        self.refresh()
        if (subscriber, subject) in self._claims:
            return
        text = (
            f"{knows}, but the newest here is {ours}: either the claim is false, or another publisher gave that "
            f"number, or an older state was restored here; in the last case run `blocklistd start-above N`; else the "
            f"alarm ends by itself after {CLAIM_ALARM_HOURS} hours"
        )
        self._claims[subscriber, subject] = ClientClaim(subscriber, subject, self._clock(), text)
        self.changed = True
        self.refresh()
        self.on_claim()

    def refresh(self) -> None:
        """Forgets old claims, raises the alarms of those that count, and ends the others."""
        now, before = self._clock(), len(self._claims)
        # a claim from the future was stored by a clock that was wrong
        self._claims = {key: one for key, one in self._claims.items() if -TOLERANCE <= now - one.time < _KEPT}
        self.changed = self.changed or len(self._claims) != before
        texts: dict[str, str] = {}
        for one in self._claims.values():
            if now - one.time < _ACTIVE:
                texts.setdefault(one.subject, one.text)
        if texts or self._alarms.subjects(KIND):
            self._alarms.set_all(KIND, texts)

    def forget_all(self) -> None:
        """Ends all alarms: from now on, the numbers here are above all others."""
        self.changed = self.changed or bool(self._claims)
        self._claims = {}
        self.refresh()

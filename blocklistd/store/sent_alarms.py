"""Alarms that were sent to people, one row for each alarm and way (webhook, command), so that a restart repeats none.

| state | meaning |
|---|---|
| raised | the alarm is active; `sent`: when it was delivered, None: not yet |
| over | the alarm has ended; its end is not delivered yet |
| done | its end is delivered; the row stays for ALARM_QUIET, which bounds an alarm that comes and goes |
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, select

from blocklistd.store.schema import sent_alarms

AlarmKey = tuple[str, str]
"""Kind and subject of an alarm."""


@dataclass(slots=True)
class SentAlarm:
    """A row. Not in the database: `text`, the newest text; `seen`, whether it was active since the start; `tries`, the
    failed deliveries, and `reason`, why the last one failed."""

    raised: datetime
    sent: datetime | None = None
    state: str = "raised"
    text: str = field(default="", compare=False)
    seen: bool = field(default=False, compare=False)
    tries: int = field(default=0, compare=False)
    reason: str = field(default="", compare=False)

    @property
    def is_pending(self) -> bool:
        """Whether something has to be delivered."""
        return self.state == "over" or (self.state == "raised" and self.sent is None)


def load(connection: Connection, way: str) -> dict[AlarmKey, SentAlarm]:
    """The rows of a way."""
    rows = connection.execute(select(sent_alarms).where(sent_alarms.c.way == way))
    return {(row.kind, row.subject): SentAlarm(row.raised, row.sent, row.state) for row in rows}


def save(connection: Connection, way: str, rows: dict[AlarmKey, SentAlarm]) -> None:
    """Replaces the rows of a way."""
    connection.execute(sent_alarms.delete().where(sent_alarms.c.way == way))
    if rows:
        connection.execute(
            sent_alarms.insert(),
            [
                {"way": way, "kind": kind, "subject": subject, "raised": r.raised, "sent": r.sent, "state": r.state}
                for (kind, subject), r in rows.items()
            ],
        )


def forget(connection: Connection, ways: Collection[str]) -> None:
    """Deletes the rows of all ways but these."""
    connection.execute(sent_alarms.delete().where(sent_alarms.c.way.not_in(ways)))

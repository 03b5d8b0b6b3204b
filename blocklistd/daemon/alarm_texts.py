"""The texts of alarms about sources, reviews, certificates and the disk. Pure: from the state and the time to texts.

AlarmChecks raises and clears these alarms in a running daemon; `blocklistd doctor` finds the same in the state of a
stopped one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from blocklistd.change import Freeze
from blocklistd.config import Config
from blocklistd.config.files import RENEW
from blocklistd.config.values import format_duration
from blocklistd.limits import CERTIFICATE_ALARM_DAYS
from blocklistd.model import ListId, SourceId
from blocklistd.pipeline.due_counts import DueCount
from blocklistd.store.candidates import Waiting
from blocklistd.store.pulls import SourceState
from blocklistd.times import rfc3339

REVIEWS: Final = ("candidate_waiting", "list_frozen", "entries_due")
"""The kinds of alarms about decisions that are due."""


@dataclass(frozen=True, slots=True)
class Review:
    """What waits for a person since a time. `kind`: one of REVIEWS. `text`: the alarm after alarms.review_within."""

    kind: str
    subject: str
    since: datetime
    text: str


def reviews(
    config: Config, waiting: Iterable[Waiting], frozen: Mapping[ListId, Freeze], due: Mapping[ListId, DueCount]
) -> list[Review]:
    """Everything that waits: held candidates, frozen lists, and entries that are due."""
    within = format_duration(config.alarms.review_within)
    found = []
    for one in waiting:
        more = "; it has one approval and needs another" if one.approvals else ""
        text = (
            f"candidate {one.candidate} of list {one.list} has waited for a decision since {rfc3339(one.since)}, "
            f"longer than alarms.review_within ({within}){more}: run `blocklistd candidate show {one.candidate}`"
        )
        found.append(Review("candidate_waiting", one.first, one.since, text))
    for name, freeze in frozen.items():
        text = (
            f"list {name} has been frozen since {freeze.time}, longer than alarms.review_within ({within}): once the "
            f"cause is gone, run `blocklistd list resume {name}`"
        )
        found.append(Review("list_frozen", name, datetime.fromisoformat(freeze.time), text))
    for name, count in due.items():
        settings = config.lists.get(name)
        if count.since is not None and settings is not None and settings.lifetime.at_end == "review":
            text = (
                f"entries of list {name} have been due since {rfc3339(count.since)}, longer than alarms.review_within "
                f"({within}): run `blocklistd entry due {name}`, then keep or delist each"
            )
            found.append(Review("entries_due", name, count.since, text))
    return found


def overdue(name: SourceId, state: SourceState, max_age: timedelta, now: datetime) -> str | None:
    """The alarm of a source whose newest list is older than `max_age`; None if it is not."""
    if not state.is_overdue(max_age, now):
        return None
    last = "no pull was accepted yet"
    if state.content_time is not None and state.content_time == state.last_accepted:
        last = f"the last accepted pull was {rfc3339(state.content_time)}"
    elif state.content_time is not None:
        # not the time of the last pull: each pull would log the alarm again
        last = f"its body was signed {rfc3339(state.content_time)}"
    return (
        f"source {name} is overdue: its newest list is older than max_age ({format_duration(max_age)}): {last}: run "
        f"`blocklistd source show {name}`"
    )


def unchanged(name: SourceId, state: SourceState, max_unchanged: timedelta | None, now: datetime) -> str | None:
    """The alarm of a source that has not changed for `max_unchanged`; None if it has, or if that is off."""
    if max_unchanged is None or state.unchanged_since is None or not state.is_frozen(max_unchanged, now):
        return None
    return (
        f"source {name} is frozen: no change within max_unchanged ({format_duration(max_unchanged)}), since "
        f"{rfc3339(state.unchanged_since)}: ask the hotline whether it still maintains this list"
    )


def certificate(key: str, until: datetime, now: datetime) -> str | None:
    """The alarm of a certificate that expires within CERTIFICATE_ALARM_DAYS, or has expired; None for any other."""
    if until - now >= timedelta(days=CERTIFICATE_ALARM_DAYS):
        return None
    return f"{key} {'expires' if until > now else 'expired'} on {rfc3339(until)}: {RENEW}"


def read_only(state_dir: Path) -> str:
    """The alarm of a read-only file system."""
    return (
        f"{state_dir}: the file system is read-only: the published versions are served, nothing new is published or "
        f"signed, and the signatures expire: mount it read-write, then restart the daemon"
    )

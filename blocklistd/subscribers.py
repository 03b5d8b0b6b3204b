"""Subscribers: who may have which lists. A token is shown once; only its SHA-256 is kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select, update

from blocklistd.errors import SubscriberError
from blocklistd.model import ListId, SubscriberId
from blocklistd.versions.schema import subscriber_lists, subscribers

ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A subscriber (an ISP) and the lists that it is entitled to."""

    id: SubscriberId
    lists: frozenset[ListId]
    created: datetime
    created_by: str
    revoked: datetime | None


def digest(token: str) -> str:
    """What of a token is kept and compared: it is random, so its hash needs no salt and gives nothing away."""
    return hashlib.sha256(token.encode()).hexdigest()


def add(
    connection: Connection,
    subscriber: str,
    lists: Collection[str],
    *,
    known: Collection[ListId],
    now: datetime,
    created_by: str,
) -> str:
    """Registers a subscriber; its token, which is not kept. Raises SubscriberError with what is wrong."""
    if not ID.fullmatch(subscriber):
        raise SubscriberError(f"subscriber {subscriber!r}: expected an id of a-z, 0-9 and -, at most 64 characters")
    if not lists:
        raise SubscriberError(f"subscriber {subscriber}: expected at least one --list")
    for name in lists:
        if name not in known:
            raise SubscriberError(
                f"there is no list {name!r}: the configuration has {', '.join(sorted(known)) or 'none'}"
            )
    if connection.execute(select(subscribers.c.id).where(subscribers.c.id == subscriber)).first():
        raise SubscriberError(f"subscriber {subscriber} exists already: choose another id (a revoked one stays taken)")
    token = secrets.token_urlsafe(TOKEN_BYTES)
    connection.execute(
        subscribers.insert().values(id=subscriber, token=digest(token), created=now, created_by=created_by)
    )
    for name in dict.fromkeys(lists):
        connection.execute(subscriber_lists.insert().values(subscriber=subscriber, list=name))
    return token


def revoke(connection: Connection, subscriber: str, *, now: datetime, revoked_by: str) -> None:
    """From here on its token is unknown; what it has fetched stays with it."""
    done = connection.execute(
        update(subscribers)
        .where(subscribers.c.id == subscriber, subscribers.c.revoked.is_(None))
        .values(revoked=now, revoked_by=revoked_by)
    )
    if not done.rowcount:
        raise SubscriberError(f"there is no subscriber {subscriber!r} that could be revoked: see `subscriber list`")


def load(connection: Connection) -> dict[str, Subscriber]:
    """All subscribers by the digest of their token, revoked ones too."""
    entitled: dict[str, set[ListId]] = {}
    for row in connection.execute(select(subscriber_lists)):
        entitled.setdefault(row.subscriber, set()).add(row.list)
    return {
        row.token: Subscriber(row.id, frozenset(entitled.get(row.id, ())), row.created, row.created_by, row.revoked)
        for row in connection.execute(select(subscribers).order_by(subscribers.c.id))
    }

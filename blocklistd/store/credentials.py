"""Rotates the token and the TSIG key of a subscriber, and records when each was last used.

A subscriber has one newest token, in `subscribers`, and one newest TSIG key, whose `expires` is null. Older ones are
in `old_tokens` and `tsig_keys` until they expire: they are valid before that time, and are removed after it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, delete, or_, select, update

from blocklistd.errors import SubscriberError
from blocklistd.store.schema_served import old_tokens, subscriber_certificates, subscribers, tsig_keys

TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class TsigKey:
    """A TSIG key of a subscriber's resolvers (RFC 8945). `expires`: None for the newest key. `used`: its last use,
    within an hour; None: never."""

    name: str
    algorithm: str
    secret: bytes = field(repr=False)
    expires: datetime | None = None
    used: datetime | None = None


@dataclass(frozen=True, slots=True)
class OldToken:
    """A token that was replaced: its digest, until when it is valid, and its last use since (None: none)."""

    token: str = field(repr=False)
    expires: datetime
    used: datetime | None = None


def digest(token: str) -> str:
    """The SHA-256 of a token, in hex. A token is random, so the digest needs no salt."""
    return hashlib.sha256(token.encode(errors="backslashreplace")).hexdigest()  # a header may contain any bytes


def rotate(connection: Connection, subscriber: str, *, now: datetime, until: datetime) -> tuple[str, TsigKey]:
    """Makes a new token, which is not kept, and a new TSIG key of the same algorithm. All older ones expire at `until`,
    or earlier if they did before.

    Raises SubscriberError if there is no such subscriber, or if it is revoked.
    """
    row = connection.execute(select(subscribers).where(subscribers.c.id == subscriber)).first()
    if row is None or row.revoked is not None:
        raise SubscriberError("there is no such subscriber, or it is revoked: run `blocklistd subscriber list`")
    for table in (old_tokens, tsig_keys):
        mine = table.c.subscriber == subscriber
        later = or_(table.c.expires.is_(None), table.c.expires > until)
        connection.execute(update(table).where(mine, later).values(expires=until))
    connection.execute(old_tokens.insert().values(token=row.token, subscriber=subscriber, expires=until))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    connection.execute(update(subscribers).where(subscribers.c.id == subscriber).values(token=digest(token)))
    newest = select(tsig_keys.c.algorithm).where(tsig_keys.c.subscriber == subscriber)
    algorithm: str = connection.execute(newest.order_by(tsig_keys.c.created.desc()).limit(1)).scalar_one()
    key = add_key(connection, subscriber, algorithm, now)
    remove_expired(connection, now)
    return token, key


def add_key(connection: Connection, subscriber: str, algorithm: str, now: datetime) -> TsigKey:
    """Makes a TSIG key with a name of its own."""
    key = TsigKey(f"{subscriber}-{secrets.token_hex(4)}", algorithm, secrets.token_bytes(TOKEN_BYTES))
    connection.execute(
        tsig_keys.insert().values(
            name=key.name, subscriber=subscriber, algorithm=key.algorithm, secret=key.secret, created=now
        )
    )
    return key


def remove_expired(connection: Connection, now: datetime) -> None:
    """Removes tokens and keys that have expired."""
    for table in (old_tokens, tsig_keys):
        connection.execute(delete(table).where(table.c.expires <= now))


def record_uses(connection: Connection, uses: Mapping[str, datetime]) -> None:
    """Records when keys (by name) and replaced tokens (by digest) were last used. Others are ignored."""
    for name, used in uses.items():
        connection.execute(update(tsig_keys).where(tsig_keys.c.name == name).values(used=used))
        connection.execute(update(old_tokens).where(old_tokens.c.token == name).values(used=used))


def add_certificate(connection: Connection, subscriber: str, certificate: str) -> None:
    """Registers a client certificate by the SHA-256 (hex) of its public key.

    Raises SubscriberError if another subscriber, which is not revoked, has it.
    """
    mine = subscriber_certificates.c.subscriber == subscribers.c.id
    owner = (
        select(subscribers.c.id)
        .join(subscriber_certificates, mine)
        .where(subscriber_certificates.c.public_key == certificate, subscribers.c.revoked.is_(None))
    )
    taken = connection.execute(owner).scalar()
    if taken is not None and taken != subscriber:
        raise SubscriberError(
            f"--cert: this public key is registered for {taken} already: use another one, or revoke {taken} first"
        )
    connection.execute(subscriber_certificates.insert().values(subscriber=subscriber, public_key=certificate))


def load_old_tokens(connection: Connection) -> dict[str, list[OldToken]]:
    """The tokens that were replaced, by subscriber."""
    found: dict[str, list[OldToken]] = {}
    for row in connection.execute(select(old_tokens).order_by(old_tokens.c.expires)):
        found.setdefault(row.subscriber, []).append(OldToken(row.token, row.expires, row.used))
    return found

"""What commands do with subscribers."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.daemon import resolvers
from blocklistd.daemon.commands.command import Document, Values
from blocklistd.errors import RefusedError, StoreError, SubscriberError
from blocklistd.events import Event
from blocklistd.model import Act, SubscriberId
from blocklistd.ops import status
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.store import audit, subscribers
from blocklistd.store.database import Database
from blocklistd.store.subscribers import Subscriber, Wish
from blocklistd.times import Clock

log: Final = logging.getLogger(__name__)

Admit = Callable[[Mapping[str, Subscriber]], None]
"""Tells the feed and the name server who may have what from now on: subscribers by the digest of their token."""


class SubscriberOperations:
    """Who may have what: `admit_known` takes it from the database into the feed and the name server.

    A revocation takes effect before it is written: on a full disk, too. Until it is written, each `catch_up` tries
    again; a restart forgets it.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        database: Database,
        admit: Admit,
        zones: ZonePublisher,
        clock: Clock,
        asked: status.Seen,
        private_ca: Callable[[], bool],
    ) -> None:
        """`private_ca`: whether subscribers have to be given the certificate of the feed's authority."""
        self._config = config
        self._database = database
        self._admit = admit
        self._zones = zones
        self._clock = clock
        self._private_ca = private_ca
        self._asked = asked
        self._admitting = asyncio.Lock()
        self._known: dict[str, Subscriber] = {}
        self._unrecorded: dict[SubscriberId, Act] = {}
        self._behind = False

    async def admit_known(self) -> None:
        async with self._admitting:  # else an older load could replace a newer one, and a revoked token come back
            self._behind = True
            self._known = await self._database.reading(subscribers.load)
            self._behind = False
            self._admit_all()

    def _admit_all(self) -> None:
        now = self._clock()
        self._admit(
            {
                token: replace(who, revoked=now) if who.id in self._unrecorded else who
                for token, who in self._known.items()
            }
        )

    async def _admit_or_later(self) -> None:
        """What was asked for is written: an error of reading it again must not say that it was not."""
        try:
            await self.admit_known()
        except StoreError as error:
            Event.SUBSCRIBERS_NOT_READ.log(log, reason=error)

    async def add(self, given: Values, act: Act) -> Document:
        zones = tuple(zone.lower().removesuffix(".") for zone in given["zones"])
        lists, notify, addresses = (tuple(given[name]) for name in ("lists", "notify", "address"))
        wish = Wish(given["id"], lists, zones, notify, addresses, given["algorithm"], given["wide"])
        config, now = self._config(), self._clock()

        def register(connection: Connection) -> tuple[str, subscribers.TsigKey]:
            made = subscribers.add(
                connection,
                wish,
                lists=config.lists,
                zones=[zone.name for zone in config.zones.values()],
                now=now,
                created_by=act.user,
            )
            given = {"lists": wish.lists, "zones": wish.zones, "notify": wish.notify, "address": wish.addresses}
            detail = {what: values for what, values in given.items() if values}
            audit.append(connection, act, wish.id, now=now, detail=detail)
            return made

        private = await asyncio.to_thread(self._private_ca)  # before: what fails behind it would lose the token
        token, key = await self._database.writing(register)
        self._zones.secondaries.forget(wish.id)
        await self._admit_or_later()
        secret = base64.b64encode(key.secret).decode()
        tsig = {"name": key.name, "algorithm": key.algorithm, "secret": secret}
        return {
            **{"id": wish.id, "token": token, "tsig": tsig, "config": self._resolver_configuration(wish, tsig)},
            **{"url": config.feed.url, "private_ca": private},
        }

    def _resolver_configuration(self, wish: Wish, tsig: dict[str, str]) -> dict[str, str]:
        """What to paste into a resolver, by software."""
        config = self._config()
        dns = config.serves_dns
        if not wish.zones or dns is None:
            return {}
        zones = [zone for zone in config.zones.values() if zone.name in wish.zones]
        return resolvers.printed(zones, dns.listen[0], None if wish.addresses else tsig)

    async def list(self) -> Document:
        return await self._database.reading(self.described)

    def described(self, connection: Connection) -> dict[str, Any]:
        return status.subscribers(connection, self._zones, self._asked)

    async def show(self, subscriber: SubscriberId) -> Document:
        found = (await self._database.reading(self.described)).get(subscriber)
        if found is None:
            raise RefusedError("there is no such subscriber: see `blocklistd subscriber list`")
        return {"id": subscriber, **found}

    async def revoke(self, subscriber: SubscriberId, act: Act) -> Document:
        if not any(who.id == subscriber and who.revoked is None for who in self._known.values()):
            raise SubscriberError("there is no such subscriber that could be revoked: see `subscriber list`")
        self._unrecorded[subscriber] = act
        self._admit_all()
        try:
            await self._record(subscriber, act)
        except StoreError as error:
            raise StoreError(
                f"{subscriber} is refused from now on, but that could not be written, and would be forgotten by a "
                f"restart: it is tried again each minute ({error})"
            ) from None
        return {"id": subscriber, "revoked": True}

    async def catch_up(self) -> None:
        """Writes the revocations that could not be written when they were asked for, and reads what could not be
        read."""
        if self._behind:
            await self._admit_or_later()
        for subscriber, act in list(self._unrecorded.items()):
            try:
                await self._record(subscriber, act)
            except StoreError as error:
                Event.REVOCATION_NOT_WRITTEN.log(log, subscriber=subscriber, reason=error)

    async def _record(self, subscriber: SubscriberId, act: Act) -> None:
        now = self._clock()

        def record(connection: Connection) -> None:
            subscribers.revoke(connection, subscriber, now=now, revoked_by=act.user)
            audit.append(connection, act, subscriber, now=now)

        try:
            await self._database.writing(record)
        except SubscriberError:  # another call has just written it
            Event.SUBSCRIBER_REVOKED_ALREADY.log(log, subscriber=subscriber)
        self._unrecorded.pop(subscriber, None)
        await self._admit_or_later()

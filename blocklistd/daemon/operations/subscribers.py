"""Operations on subscribers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.daemon import resolvers
from blocklistd.daemon.commands.command import Document, Values
from blocklistd.daemon.name_server import tls_primary
from blocklistd.errors import RefusedError, StoreError, SubscriberError
from blocklistd.events import Event
from blocklistd.limits import USE_RECORDED
from blocklistd.model import Act, SubscriberId
from blocklistd.ops import status
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.http.access import Access
from blocklistd.store import audit, credentials, subscribers
from blocklistd.store.credentials import TsigKey
from blocklistd.store.database import Database
from blocklistd.store.subscribers import Registration, Subscriber
from blocklistd.times import Clock, rfc3339

log: Final = logging.getLogger(__name__)

Admit = Callable[[Mapping[str, Subscriber]], None]
"""Replaces the subscribers that the feed and the name server admit; by the digest of the token."""


class SubscriberOperations:
    """The effects of `subscriber add`, `list`, `show`, `rotate` and `revoke`.

    The database is the record; `admit_known` copies it into the feed and the name server. States of a subscriber:

    - added: recorded, then admitted. If reading it back fails, `catch_up` tries again.
    - revoked, not recorded: refused by the feed and the name server at once, even on a full disk. `catch_up` tries to
      record it; a restart before that forgets the revocation.
    - revoked: recorded, refused for good.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        database: Database,
        admit: Admit,
        zones: ZonePublisher,
        clock: Clock,
        access: Access,
        dns: DnsServer | None,
        private_ca: Callable[[], bool],
        names_changed: Callable[[], None],
    ) -> None:
        """`names_changed`: reads the own names again. `private_ca`: whether subscribers need the certificate of the
        feed's authority. `access` and `dns` know the last uses of tokens and keys."""
        self._config = config
        self._database = database
        self._admit = admit
        self._zones = zones
        self._clock = clock
        self._private_ca = private_ca
        self._names_changed = names_changed
        self._access = access
        self._dns = dns
        self._admitting = asyncio.Lock()
        self._known: dict[str, Subscriber] = {}
        self._unrecorded: dict[SubscriberId, Act] = {}
        self._recorded: dict[str, datetime] = {}
        """The last uses of keys and tokens that this process has written."""
        self._reload_pending = False

    async def admit_known(self) -> None:
        """Loads the subscribers and admits them. Raises StoreError."""
        async with self._admitting:  # an older load that replaces a newer one would admit a revoked token again
            self._reload_pending = True
            self._known = await self._database.reading(subscribers.load)
            self._reload_pending = False
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
        """Admits after a write. A StoreError is only logged: the command itself has succeeded."""
        try:
            await self.admit_known()
        except StoreError as error:
            Event.SUBSCRIBERS_NOT_READ.log(log, reason=error)

    async def add(self, given: Values, act: Act) -> Document:
        """Registers a subscriber; returns its token, TSIG key and configurations. Raises SubscriberError."""
        zones = tuple(zone.lower().removesuffix(".") for zone in given["zones"])
        lists, notify, addresses = (tuple(given[name]) for name in ("lists", "notify", "address"))
        registration = Registration(
            *(given["id"], lists, zones, notify, addresses, given["algorithm"], given["wide"]),
            own_names=tuple(given["own_names"]),
            certificates=tuple(given["cert"]),
            software=given["software"],
        )
        config, now = self._config(), self._clock()
        _refuse_zonemd(config, registration, given["software"])

        def register(connection: Connection) -> tuple[str, TsigKey]:
            made = subscribers.add(
                connection,
                registration,
                lists=config.lists,
                zones=[zone.name for zone in config.zones.values()],
                now=now,
                created_by=act.user,
            )
            given = {
                "lists": registration.lists,
                "zones": registration.zones,
                "notify": registration.notify,
                "address": registration.addresses,
            }
            detail: dict[str, object] = {what: values for what, values in given.items() if values}
            counted = {"own_names": registration.own_names, "certs": registration.certificates}
            detail |= {what: len(values) for what, values in counted.items() if values}
            audit.append(connection, act, registration.id, now=now, detail=detail)
            return made

        facts = await asyncio.to_thread(self._facts)  # before the write: an error after it would lose the token
        token, key = await self._database.writing(register)
        self._zones.secondaries.forget(registration.id)
        await self._admit_or_later()
        if registration.own_names:
            self._names_changed()
        return self._issued(registration.id, token, key, registration.zones, bool(registration.addresses), facts)

    def _facts(self) -> tuple[bool, resolvers.TlsPrimary | None]:
        """Whether the feed's authority is private, and the name server over TLS."""
        return self._private_ca(), tls_primary(self._dns, self._config())

    def _issued(
        self,
        subscriber: str,
        token: str,
        key: TsigKey,
        zones: Collection[str],
        unsigned: bool,
        facts: tuple[bool, resolvers.TlsPrimary | None],
    ) -> Document:
        """A new token and TSIG key, and the configurations to paste, by program."""
        config = self._config()
        tsig = {"name": key.name, "algorithm": key.algorithm, "secret": base64.b64encode(key.secret).decode()}
        dns = config.serves_dns
        granted = [shard for zone in config.zones.values() if zone.name in zones for shard in zone.served]
        private, tls = facts
        pasted: dict[str, str] = {}
        if granted and dns:
            pasted = resolvers.configurations(granted, dns.listen[0], None if unsigned else tsig, tls, dns.catalog)
        made = {"id": subscriber, "token": token, "tsig": tsig, "config": pasted}
        return {**made, "url": config.feed.url, "private_ca": private}

    async def rotate(self, subscriber: SubscriberId, grace: timedelta, act: Act) -> Document:
        """Makes a new token and TSIG key; the old ones stay valid for `grace`. Returns what `add` returns, `until`, and
        what the subscriber has. Raises SubscriberError."""
        now = self._clock()
        until = now + grace

        def record(connection: Connection) -> tuple[str, TsigKey]:
            made = credentials.rotate(connection, subscriber, now=now, until=until)
            audit.append(connection, act, subscriber, now=now, detail={"key": made[1].name, "until": rfc3339(until)})
            return made

        facts = await asyncio.to_thread(self._facts)
        token, key = await self._database.writing(record)
        await self._admit_or_later()
        who = next(one for one in (await self._database.reading(subscribers.load)).values() if one.id == subscriber)
        return {
            **self._issued(subscriber, token, key, who.zones, bool(who.addresses), facts),
            "until": rfc3339(until),
            "lists": sorted(who.lists),
            "zones": sorted(who.zones),
            "unsigned": list(who.addresses),
            "software": who.software,
        }

    async def list(self) -> Document:
        """Every subscriber."""
        return await self._database.reading(self.described)

    def described(self, connection: Connection) -> dict[str, Any]:
        """Every subscriber, as in the document of `status`."""
        return status.subscribers(connection, self._zones, self._seen())

    def _seen(self) -> status.Seen:
        uses, users = dict[str, datetime](), dict[str, list[str]]()
        for who in list(self._known.values()):
            for name, stored in [(key.name, key.used) for key in who.keys]:
                last = self._dns.key_use.last.get(wire_name(name)) if self._dns is not None else None
                if found := datetime.fromtimestamp(last, UTC) if last is not None else stored:
                    uses[name] = found
                if self._dns is not None:
                    users[name] = self._dns.key_use.addresses(who.id, wire_name(name))
            for old in who.old_tokens:
                if found := self._access.old_seen.get(old.token) or old.used:
                    uses[old.token] = found
        return status.Seen(self._access.seen, uses, users)

    async def show(self, subscriber: SubscriberId) -> Document:
        """One subscriber."""
        found = (await self._database.reading(self.described)).get(subscriber)
        if found is None:
            raise RefusedError("there is no such subscriber: run `blocklistd subscriber list`")
        return {"id": subscriber, **found}

    async def revoke(self, subscriber: SubscriberId, act: Act) -> Document:
        """Revokes a subscriber. Raises StoreError if it is refused from now on but the revocation is not recorded."""
        if not any(who.id == subscriber and who.revoked is None for who in self._known.values()):
            raise SubscriberError(
                "there is no such subscriber, or it is revoked already: run `blocklistd subscriber list`"
            )
        self._unrecorded[subscriber] = act
        self._admit_all()
        try:
            await self._record(subscriber, act)
        except StoreError as error:
            raise StoreError(
                f"{subscriber} is refused from now on, but the revocation could not be written ({error}): it is tried "
                f"again each minute; do not restart the daemon before, or revoke again after the restart"
            ) from None
        return {"id": subscriber, "revoked": True}

    async def catch_up(self) -> None:
        """Tries again to load the subscribers and to record revocations, where that failed. Records the uses of keys
        and tokens, and removes those that have expired."""
        if self._reload_pending:
            await self._admit_or_later()
        for subscriber, act in list(self._unrecorded.items()):
            try:
                await self._record(subscriber, act)
            except StoreError as error:
                Event.REVOCATION_NOT_WRITTEN.log(log, subscriber=subscriber, reason=error)
        if not self._database.read_only:
            await self._record_uses()
            await self._remove_expired()

    async def finish(self) -> None:
        """Records the uses of keys and tokens before a stop. A use that can't be written is known again by the next."""
        if not self._database.read_only:
            with contextlib.suppress(StoreError):
                await self._record_uses()

    async def _record_uses(self) -> None:
        stored = {key.name: key.used for who in self._known.values() for key in who.keys}
        stored |= {old.token: old.used for who in self._known.values() for old in who.old_tokens}
        due = {}
        for name, used in self._seen().uses.items():
            before = self._recorded.get(name) or stored.get(name)
            if before is None or (used - before).total_seconds() >= USE_RECORDED:
                due[name] = used
        if due:
            await self._database.writing(functools.partial(credentials.record_uses, uses=due))
        self._recorded = {name: used for name, used in (self._recorded | due).items() if name in stored}

    async def _remove_expired(self) -> None:
        now = self._clock()
        expiries = [key.expires for who in self._known.values() for key in who.keys if key.expires]
        expiries += [old.expires for who in self._known.values() for old in who.old_tokens]
        if any(expires <= now for expires in expiries):
            await self._database.writing(functools.partial(credentials.remove_expired, now=now))
            await self._admit_or_later()

    async def _record(self, subscriber: SubscriberId, act: Act) -> None:
        now = self._clock()

        def record(connection: Connection) -> None:
            subscribers.revoke(connection, subscriber, now=now, revoked_by=act.user)
            audit.append(connection, act, subscriber, now=now)

        try:
            await self._database.writing(record)
        except SubscriberError:  # another call has just recorded it
            Event.SUBSCRIBER_REVOKED_ALREADY.log(log, subscriber=subscriber)
        self._unrecorded.pop(subscriber, None)
        self._names_changed()
        await self._admit_or_later()


def _refuse_zonemd(config: Config, registration: Registration, software: str | None) -> None:
    """Raises SubscriberError for a zone with a ZONEMD record that would break the subscriber's resolver."""
    broken = resolvers.broken_by_zonemd(software, by_address=bool(registration.addresses))
    zones = [zone.name for zone in config.zones.values() if zone.zonemd and zone.name in registration.zones]
    if zones and broken is not None:
        name = broken.partition(":")[0]
        raise SubscriberError(
            f"--software {broken}: the ZONEMD record of zone {zones[0]} breaks this version (its queries for the root "
            f"fail): grant a zone of the same list without `zonemd`, or name the program that transfers the zone, like "
            f"`--software bind` or `--software {name}:{resolvers.FIRST_WITH_ZONEMD[name]}`"
        )

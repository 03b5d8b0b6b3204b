"""Operations on subscribers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.daemon.commands.command import Document, Values
from blocklistd.daemon.commands.moments import objective_of
from blocklistd.daemon.operations.subscriber_configs import ServedBy, SubscriberConfigs, issued, shown
from blocklistd.errors import RefusedError, StoreError, SubscriberError
from blocklistd.events import Event
from blocklistd.limits import USE_RECORDED
from blocklistd.model import Act, SubscriberId
from blocklistd.ops import status
from blocklistd.pipeline.nodes import Nodes
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.dns.zones import Zones
from blocklistd.serve.http.access import Access
from blocklistd.store import audit, credentials, subscriber_changes, subscribers
from blocklistd.store.credentials import TsigKey
from blocklistd.store.database import Database
from blocklistd.store.subscriber_changes import Changed, Rights, SubscriberChange
from blocklistd.store.subscribers import Registration, Subscriber
from blocklistd.times import Clock, rfc3339

log: Final = logging.getLogger(__name__)

Admit = Callable[[Mapping[str, Subscriber]], None]
"""Replaces the subscribers that the feed and the name server admit; by the digest of the token."""


class SubscriberOperations:
    """The effects of `subscriber add`, `set`, `list`, `show`, `rotate` and `revoke`.

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
        served: Zones,
        clock: Clock,
        access: Access,
        dns: DnsServer | None,
        private_ca: Callable[[], bool],
        names_changed: Callable[[], None],
        nodes: Nodes,
    ) -> None:
        """`names_changed`: reads the own names again. `private_ca`: whether subscribers need the certificate of the
        feed's authority. `served` has the catalogs. `access` and `dns` know the last uses of tokens and keys."""
        self._config = config
        self._database = database
        self._admit = admit
        self._zones = zones
        self._served = served
        self._clock = clock
        self._configs = SubscriberConfigs(config, dns, served, private_ca)
        self._names_changed = names_changed
        self._access = access
        self._dns = dns
        self._nodes = nodes
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
            objective=objective_of(given["objective"]) or None,
        )
        config, now = self._config(), self._clock()
        self._configs.check(registration)

        def register(connection: Connection) -> tuple[str, TsigKey]:
            made = subscribers.add(
                connection,
                registration,
                lists=config.lists,
                zones=[zone.name for zone in config.zones.values()],
                now=now,
                created_by=act.user,
            )
            had = {"lists": lists, "zones": zones, "notify": notify, "address": addresses}
            had["objective"] = given["objective"]
            detail: dict[str, object] = {what: values for what, values in had.items() if values}
            counted = {"own_names": registration.own_names, "certs": registration.certificates}
            detail |= {what: len(values) for what, values in counted.items() if values}
            audit.append(connection, act, registration.id, now=now, detail=detail)
            return made

        served_by = await self._configs.served_by()
        token, key = await self._database.writing(register)
        self._nodes.forget(registration.id)
        await self._admit_or_later()
        if registration.own_names:
            self._names_changed()
        return self._issued(registration, token, key, served_by)

    def _issued(
        self,
        who: Registration | Subscriber,
        token: str,
        key: TsigKey,
        served_by: ServedBy,
        software: str | None = None,
    ) -> Document:
        """A new token and TSIG key, and the configurations to paste, by program."""
        tsig = issued(key)
        config = self._configs.made(who, tsig, served_by, software)
        made = {"id": who.id, "token": token, "tsig": tsig, "config": config}
        return {**made, "url": served_by.publisher.feed, "private_ca": served_by.private_ca}

    async def change(self, given: Values, act: Act) -> Document:
        """Changes what a subscriber has. Returns what it has now, what was added, what was removed, and its
        configurations, with a placeholder for the secret of the key. Raises SubscriberError."""
        config, now = self._config(), self._clock()
        kinds = ("list", "zone", "notify", "address", "cert")
        added, removed = (Rights(*(tuple(given[f"{verb}_{kind}"]) for kind in kinds)) for verb in ("add", "remove"))
        objective, nodes = objective_of(given["objective"]), tuple(given["remove_node"])
        request = SubscriberChange(given["id"], added, removed, given["wide"], given["software"], objective, nodes)

        def record(connection: Connection) -> Changed:
            changed = subscriber_changes.change(
                connection, request, lists=config.lists, zones=[zone.name for zone in config.zones.values()]
            )
            if request.software or changed.added.zones or changed.removed.addresses:
                self._configs.check(changed.subscriber, request.software)
            detail: dict[str, object] = {
                what: rights.by_option()
                for what, rights in (("added", changed.added), ("removed", changed.removed))
                if rights != Rights()
            }
            said = {"software": request.software, "objective": given["objective"], "nodes": nodes}
            detail |= {what: value for what, value in said.items() if value}
            audit.append(connection, act, request.id, now=now, detail=detail)
            return changed

        served_by = await self._configs.served_by()
        changed = await self._database.writing(record)
        self._nodes.forget(request.id, nodes)
        await self._admit_or_later()
        who = changed.subscriber
        return {
            "id": who.id,
            "added": changed.added.by_option(),
            "removed": changed.removed.by_option(),
            "nodes": list(changed.nodes),
            **_has(who),
            "config": self._configs.made(who, shown(who.keys[-1]), served_by),
        }

    async def rotate(self, subscriber: SubscriberId, grace: timedelta, software: str | None, act: Act) -> Document:
        """Makes a new token and TSIG key; the old ones stay valid for `grace`. Returns what `add` returns, `until`, and
        what the subscriber has. `software`: for which a configuration is made; None: the registered one. Raises
        SubscriberError."""
        now = self._clock()
        until = now + grace

        def record(connection: Connection) -> tuple[str, TsigKey]:
            made = credentials.rotate(connection, subscriber, now=now, until=until)
            audit.append(connection, act, subscriber, now=now, detail={"key": made[1].name, "until": rfc3339(until)})
            return made

        who = await self._registered(subscriber)
        if software is not None:
            self._configs.check(who, software)
        served_by = await self._configs.served_by()
        token, key = await self._database.writing(record)
        await self._admit_or_later()
        return {**self._issued(who, token, key, served_by, software), "until": rfc3339(until), **_has(who)}

    async def _registered(self, subscriber: str) -> Subscriber:
        """The subscriber, which may be revoked. Raises SubscriberError if there is none."""
        for one in (await self._database.reading(subscribers.load)).values():
            if one.id == subscriber:
                return one
        raise SubscriberError("there is no such subscriber: run `blocklistd subscriber list`")

    async def list(self) -> Document:
        """Every subscriber."""
        return await self._database.reading(self.described)

    def described(self, connection: Connection) -> dict[str, Any]:
        """Every subscriber, as in the document of `status`."""
        judged = self._nodes.judged(connection)
        return status.subscribers(connection, self._zones, self._served.catalogs(), self._seen(), judged)

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
                if found := self._access.credentials.old_seen.get(old.token) or old.used:
                    uses[old.token] = found
        return status.Seen(self._access.seen, uses, users)

    async def show(self, subscriber: SubscriberId, software: str | None) -> Document:
        """One subscriber. With `software`, also its configuration, with a placeholder for the secret of the key."""
        found = (await self._database.reading(self.described)).get(subscriber)
        if found is None:
            raise RefusedError("there is no such subscriber: run `blocklistd subscriber list`")
        if software is None:
            return {"id": subscriber, **found}
        who = await self._registered(subscriber)
        self._configs.check(who, software)
        served_by = await self._configs.served_by()
        return {"id": subscriber, **found, "config": self._configs.made(who, shown(who.keys[-1]), served_by, software)}

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
        """Tries again to load the subscribers and to record revocations, where that failed. Ends the requests whose
        token has expired. Records the uses of keys and tokens, and removes those that have expired."""
        self._access.end_lapsed()
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


def _has(who: Subscriber) -> Document:
    """What a subscriber has, as `rotate` and `set` return it."""
    return {
        "lists": sorted(who.lists),
        "zones": sorted(who.zones),
        "unsigned": list(who.addresses),
        "software": who.software,
        "objective": who.objective.total_seconds() if who.objective else None,
    }

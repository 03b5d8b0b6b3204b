"""What an operator can ask of the running daemon: each command of the CLI, as a method that answers its document."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from aiohttp import web
from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.daemon import resolvers
from blocklistd.errors import RefusedError
from blocklistd.model import CandidateId, ListId, SourceId, SubscriberId, Version
from blocklistd.ops import status
from blocklistd.ops.control import Answer, Caller
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.publish import Clock, Publisher
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.zones import ZonePublisher
from blocklistd.serve.http import bodies
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.catalogue import Catalogue, ListView
from blocklistd.serve.http.renderings import StoredRenderings
from blocklistd.store import candidates, subscribers
from blocklistd.store.database import Database
from blocklistd.store.diffs import Reach, reach
from blocklistd.store.lists import version_rows
from blocklistd.store.pulls import source_state
from blocklistd.store.subscribers import Subscriber, Wish
from blocklistd.times import rfc3339


class Operations:
    """ops.control.Daemon: reads the state, and hands decisions to the pipeline."""

    def __init__(
        self,
        config: Config,
        database: Database,
        pipeline: Pipeline,
        decisions: Decisions,
        publisher: Publisher,
        catalogue: Catalogue,
        access: Access,
        renderings: StoredRenderings,
        zones: ZonePublisher,
        admit: Callable[[Iterable[Subscriber]], None],
        clock: Clock,
    ) -> None:
        self.config = config
        self._database = database
        self._pipeline = pipeline
        self._decisions = decisions
        self._publisher = publisher
        self._catalogue = catalogue
        self._access = access
        self._renderings = renderings
        self._zones = zones
        self._admit = admit
        self._clock = clock
        self._admitting = asyncio.Lock()

    def roles(self, user: str) -> frozenset[str]:
        return frozenset(self.config.control.operators.get(user, ()))

    async def status(self) -> Answer:
        sources = [(name, self._describe(name)) for name in self.config.sources]
        document = await self._database.reading(
            lambda connection: status.whole(self._catalogue, self._zones, connection, sources)
        )
        alarm = self._publisher.trust.alarm(self._clock())
        return document | {"alarms": [alarm] if alarm else []}

    def _describe(self, source: SourceId) -> Callable[[Connection], dict[str, Any]]:
        found = self.config.sources[source]

        def describe(connection: Connection) -> dict[str, Any]:
            state = source_state(connection, source)
            max_age = found.max_age.total_seconds()
            return status.source(state, found.verify.method, found.quarantine, max_age, self._clock())

        return describe

    # -- sources ---------------------------------------------------------------------------------------------------

    async def source_list(self) -> Answer:
        describe = [(name, self._describe(name)) for name in self.config.sources]
        return await self._database.reading(lambda connection: {name: one(connection) for name, one in describe})

    async def source_show(self, source: SourceId) -> Answer:
        self._known_source(source)
        describe = self._describe(source)

        def show(connection: Connection) -> dict[str, Any]:
            return {"id": source} | describe(connection) | {"history": status.history(connection, source)}

        return await self._database.reading(show)

    async def source_pull(self, source: SourceId) -> Answer:
        self._known_source(source)
        pull = await self._pipeline.pull(source)
        return {
            "source": pull.source,
            "outcome": pull.outcome.value,
            "reason": pull.reason,
            "candidate": pull.candidate,
            "versions": pull.versions,
        }

    def _known_source(self, source: SourceId) -> None:
        if source not in self.config.sources:
            names = ", ".join(self.config.sources) or "none"
            raise RefusedError(f"there is no such source: the configuration has {names}")

    # -- candidates ------------------------------------------------------------------------------------------------

    async def candidate_list(self) -> Answer:
        return await self._database.reading(status.held)

    async def candidate_show(self, candidate: CandidateId) -> Answer:
        return await self._database.reading(lambda c: status.candidate_in_full(candidates.case(c, candidate)))

    async def candidate_approve(self, candidate: CandidateId, caller: Caller) -> Answer:
        done = await self._decisions.approve(candidate, caller.uid, caller.user)
        released = done.version is not None
        return {"id": candidate, "released": released, "version": done.version, "candidate": done.held}

    async def candidate_reject(self, candidate: CandidateId, caller: Caller, why: str) -> Answer:
        await self._decisions.reject(candidate, caller.uid, caller.user, why)
        return {"id": candidate, "rejected": True, "why": why}

    # -- lists -----------------------------------------------------------------------------------------------------

    async def list_versions(self, list_id: ListId) -> Answer:
        self._known_list(list_id)
        return await self._database.reading(lambda c: [status.version(made) for made in version_rows(c, list_id)])

    async def list_diff(self, list_id: ListId, start: Version, end: Version) -> web.StreamResponse:
        view = self._known_list(list_id)
        match reach(view.version, view.oldest_diff, start, end):
            case Reach.NEVER:
                raise RefusedError(f"list {list_id} has versions 1 to {view.version}")
            case Reach.TOO_OLD:
                raise RefusedError(f"list {list_id}: diffs are kept from version {view.oldest_diff} on")
        return bodies.whole(await self._renderings.open_diff(view, start, end, "identity"))

    def _known_list(self, list_id: ListId) -> ListView:
        view = self._catalogue.get(list_id)
        if view is None:
            raise RefusedError(f"there is no such list: the configuration has {', '.join(self.config.lists)}")
        return view

    # -- subscribers -----------------------------------------------------------------------------------------------

    async def subscriber_add(self, body: dict[str, Any], caller: Caller) -> Answer:
        wish, now = _wish(body), self._clock()
        token, key = await self._database.writing(
            lambda connection: subscribers.add(
                connection,
                wish,
                lists=self.config.lists,
                zones=[zone.name for zone in self.config.zones.values()],
                now=now,
                created_by=caller.user,
            )
        )
        await self.reload_subscribers()
        secret = base64.b64encode(key.secret).decode()
        tsig = {"name": key.name, "algorithm": key.algorithm, "secret": secret}
        config, url = self._resolver_configuration(wish, tsig), self.config.feed.url
        return {"id": wish.id, "token": token, "tsig": tsig, "config": config, "url": url}

    def _resolver_configuration(self, wish: Wish, tsig: dict[str, str]) -> dict[str, str]:
        """What to paste into a resolver, by software."""
        dns = self.config.serves_dns
        if not wish.zones or dns is None:
            return {}
        zones = [zone for zone in self.config.zones.values() if zone.name in wish.zones]
        return {"bind": resolvers.bind(zones, dns.listen[0], tsig, signed=not wish.addresses)}

    async def subscriber_list(self) -> Answer:
        return await self._database.reading(lambda connection: status.subscribers(connection, self._zones))

    async def subscriber_show(self, subscriber: str) -> Answer:
        found = (await self._database.reading(lambda connection: status.subscribers(connection, self._zones))).get(
            SubscriberId(subscriber)
        )
        if found is None:
            raise RefusedError("there is no such subscriber: see `blocklistd subscriber list`")
        return {"id": subscriber, **found}

    async def subscriber_revoke(self, subscriber: str, caller: Caller) -> Answer:
        now = self._clock()
        await self._database.writing(lambda c: subscribers.revoke(c, subscriber, now=now, revoked_by=caller.user))
        await self.reload_subscribers()
        return {"id": subscriber, "revoked": True}

    async def reload_subscribers(self) -> None:
        async with self._admitting:  # else an older load could replace a newer one, and a revoked token come back
            known = await self._database.reading(subscribers.load)
            self._access.replace(known)
            self._admit(known.values())

    # -- keys ------------------------------------------------------------------------------------------------------

    async def keys(self) -> Answer:
        trust = self._publisher.trust
        return {
            "root": {
                "version": max(trust.roots),
                "expires": rfc3339(trust.expires),
                "days_left": (trust.expires - self._clock()) // timedelta(days=1),
            },
            "online": {"keyid": trust.online.public_key.keyid, "scheme": trust.online.public_key.scheme},
        }


def _wish(body: dict[str, Any]) -> Wish:
    """Raises RefusedError for what can't be one."""

    def texts(key: str) -> tuple[str, ...]:
        values = body.get(key) or []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise RefusedError(f"{key}: expected a list of texts")
        return tuple(values)

    name, algorithm = body.get("id"), body.get("algorithm") or "hmac-sha256"
    if not isinstance(name, str) or not isinstance(algorithm, str):
        raise RefusedError('expected {"id": TEXT, "lists": [TEXT, …], "zones": [TEXT, …]}')
    if body.get("cert"):
        raise RefusedError("--cert is not built in this version")
    zones = tuple(zone.lower().removesuffix(".") for zone in texts("zones"))
    return Wish(name, texts("lists"), zones, texts("notify"), texts("address"), algorithm)

"""What the daemon listens on: the feed, the operators' two (ops over HTTP, the control socket), and DNS."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

from aiohttp import web

from blocklistd.config import Address
from blocklistd.daemon.commands import COMMANDS
from blocklistd.daemon.control import Control, control_socket
from blocklistd.daemon.parts import Parts
from blocklistd.ops.collectors import ListCollector, ServingCollector, StoredCollector, ZoneCollector
from blocklistd.ops.dns_metrics import DnsCollector
from blocklistd.ops.health import Health
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.http.feed import Feed
from blocklistd.serve.http.listener import Listener


class Listeners:
    """`not_ready` says what keeps /readyz from being green."""

    def __init__(self, parts: Parts, not_ready: Callable[[], list[str]]) -> None:
        self._parts = parts
        feed = Feed(parts.catalogue, parts.access, parts.renderings)
        self._feed = Listener(feed.answer, self._observe_request)
        self._ops = Listener(Health(not_ready, parts.metrics.text).answer)
        self._control = Listener(Control(COMMANDS.values(), parts.operations, parts.roles).answer)

        for collector in (
            ListCollector(parts.catalogue, parts.publisher.signed, parts.publisher.trust, parts.resources.clock),
            ZoneCollector(parts.served_zones, parts.zones, parts.configured),
            StoredCollector(parts.resources.database, parts.zones.secondaries, parts.resources.clock, parts.configured),
            ServingCollector(
                parts.resources.jobs, self._feed, parts.catalogue, not_ready, parts.resources.store.state_dir
            ),
        ):
            parts.metrics.registry.register(collector)

    @property
    def addresses(self) -> list[Address]:
        """Where the feed is served."""
        return self._feed.addresses

    async def start(self, stack: AsyncExitStack, sockets: dict[str, list[socket.socket]]) -> None:
        """Serves from now on, until `stack` is left: then requests under way may end."""
        control = self._parts.config.control.socket
        stack.push_async_callback(self._ops.stop)  # last: till then it says that the others stop
        stack.push_async_callback(lambda: asyncio.gather(self._feed.stop(), self._control.stop()))
        await self._feed.start(sockets["feed"], self._parts.certificate.context)
        await self._ops.start(sockets["ops"], None)
        await self._control.start([control_socket(control)], None)
        stack.callback(functools.partial(control.unlink, missing_ok=True))
        if self._parts.dns is not None:
            await self._start_dns(self._parts.dns, stack, sockets)

    async def _start_dns(self, dns: DnsServer, stack: AsyncExitStack, sockets: dict[str, list[socket.socket]]) -> None:
        await dns.start(sockets["dns"], sockets["datagrams"])
        self._parts.metrics.registry.register(DnsCollector(dns))
        stack.push_async_callback(dns.stop)
        for view in self._parts.served_zones.views().values():
            if view is not None:  # who missed the last one while we were away hears of it now
                dns.announce(view)

    def _observe_request(self, request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
        waited = "wait" in request.rel_url.query_string
        length = 0 if request.method == "HEAD" else answer.content_length or 0
        self._parts.metrics.observe_request(answer.status, request.path, waited, seconds, length)

"""The daemon's listeners: feed (HTTP or HTTPS), DNS, ops (HTTP), control socket and status socket.

Order: construct, `start` once; leaving the exit stack stops the listeners. ops stops last: until then /readyz reports
that the daemon is stopping.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from blocklistd.config import Address, ConnectionBounds
from blocklistd.daemon.commands import COMMANDS
from blocklistd.daemon.control import ControlServer, bind_control_socket, bind_status_socket
from blocklistd.daemon.dashboard import Dashboard
from blocklistd.daemon.parts import Parts
from blocklistd.limits import OPERATOR_CONNECTIONS, STATUS_CONNECTIONS
from blocklistd.ops.collectors import (
    AlarmCollector,
    DueCollector,
    ListCollector,
    NodeCollector,
    ServingCollector,
    StoredCollector,
    ZoneCollector,
)
from blocklistd.ops.dns_metrics import DnsCollector
from blocklistd.ops.health import OpsHandler, ReadinessReport
from blocklistd.serve.connections import Connections
from blocklistd.serve.dns.server import DnsServer
from blocklistd.serve.http.authorize import AuthorizeHandler
from blocklistd.serve.http.events import EventStreams
from blocklistd.serve.http.exports import ExportHandler
from blocklistd.serve.http.feed import FeedHandler
from blocklistd.serve.http.listener import Listener
from blocklistd.serve.http.openapi import ApiDescription
from blocklistd.serve.http.receipts import ReceiptHandler
from blocklistd.serve.http.routes import ROUTE, Routes


class Listeners:
    """Constructs, starts and stops the listeners. `readiness` returns the lines of /readyz."""

    def __init__(self, parts: Parts, readiness: ReadinessReport) -> None:
        self._parts = parts
        self._dns: list[Address] = []
        self._xot: list[Address] = []
        feed = FeedHandler(parts.live_lists, parts.access, parts.renderings, parts.resources.claims)
        events, description = EventStreams(parts.live_lists, parts.access), ApiDescription()
        receipts = ReceiptHandler(parts.live_lists, parts.receipts, parts.resources.claims)
        exports = ExportHandler(parts.live_lists, parts.renderings)
        authorize = AuthorizeHandler(parts.live_lists, parts.access)
        handlers = (feed, exports, receipts, events, authorize, description)
        routes = Routes(parts.access.enter, (route for handler in handlers for route in handler.routes()))
        description.describe(routes.table)
        self._feed = Listener(
            "feed",
            routes.answer,
            self._observe_request,
            connections=parts.feed_connections,
            holder_of=parts.access.holder_of,
            largest_body=routes.largest_body,
        )
        health = OpsHandler(readiness, parts.metrics.text, Dashboard(parts).page)
        self._ops = Listener("ops", health.answer, connections=_bounded(OPERATOR_CONNECTIONS, 2), reserved=True)
        control = ControlServer(COMMANDS.values(), parts.operations, parts.roles)
        self._control = Listener(
            "control",
            control.answer,
            connections=_bounded(OPERATOR_CONNECTIONS, 2),
            reserved=True,
            bodies=True,
        )
        for_everybody = (command for command in COMMANDS.values() if not command.roles)
        status = ControlServer(for_everybody, parts.operations, parts.roles)
        self._status = Listener("status", status.answer, connections=_bounded(STATUS_CONNECTIONS, 8), bodies=True)

        for collector in (
            ListCollector(
                parts.live_lists, parts.publisher.signed, lambda: parts.publisher.trust, parts.resources.clock
            ),
            ZoneCollector(parts.served_zones, parts.zones, parts.configured),
            DueCollector(parts.due_counts.counts),
            NodeCollector(lambda: parts.node_checks.counts),
            StoredCollector(parts.resources.database, parts.zones.secondaries, parts.resources.clock, parts.configured),
            ServingCollector(
                parts.resources.jobs,
                self._feed,
                parts.live_lists,
                lambda: readiness()[0],
                parts.resources.store.state_dir,
            ),
            AlarmCollector(parts.resources.alarms, lambda: parts.alarms.certificates),
        ):
            parts.metrics.registry.register(collector)

    def __str__(self) -> str:
        """Every listener with its addresses, for the log. Valid after `start`."""
        return "; ".join(f"{name} on {', '.join(map(str, where))}" for name, where in self._bound().items() if where)

    def _bound(self) -> dict[str, Sequence[Address | Path]]:
        config = self._parts.config
        feed = "feed (https)" if config.feed.tls else "feed (http)"
        sockets = {"control": [config.control.socket], "status": [config.status_socket]}
        return {
            feed: self._feed.addresses,
            "dns": self._dns,
            "dns over TLS": self._xot,
            "ops": self._ops.addresses,
            **sockets,
        }

    async def start(self, stack: AsyncExitStack, sockets: dict[str, list[socket.socket]]) -> None:
        """Starts the listeners on the bound sockets (start.bind_all). Leaving `stack` stops them; requests under way
        may end. Raises StoreError if a local socket can't be bound.
        """
        config = self._parts.config
        stack.push_async_callback(self._ops.stop)  # pushed first, stopped last
        stack.push_async_callback(
            lambda: asyncio.gather(*(one.stop() for one in (self._feed, self._control, self._status)))
        )
        certificate = self._parts.certificate
        await self._feed.start(sockets["feed"], certificate.context, certificate.wrap)
        await self._ops.start(sockets["ops"], None)
        if not sockets["control"]:
            sockets["control"] = [bind_control_socket(config.control.socket, config.control.group)]
            stack.callback(functools.partial(config.control.socket.unlink, missing_ok=True))
        if not sockets["status"]:
            sockets["status"] = [bind_status_socket(config.status_socket)]
            stack.callback(functools.partial(config.status_socket.unlink, missing_ok=True))
        await self._control.start(sockets["control"], None)
        await self._status.start(sockets["status"], None)
        if self._parts.dns is not None:
            await self._start_dns(self._parts.dns, stack, sockets)

    async def _start_dns(self, dns: DnsServer, stack: AsyncExitStack, sockets: dict[str, list[socket.socket]]) -> None:
        await dns.start(sockets["dns"], sockets["datagrams"], sockets["xot"])
        self._dns, self._xot = (
            [Address(*bound.getsockname()[:2]) for bound in sockets[group]] for group in ("dns", "xot")
        )
        self._parts.metrics.registry.register(DnsCollector(dns))
        stack.push_async_callback(dns.stop)
        for view in self._parts.served_zones.views().values():
            if view is not None:  # a secondary may have missed the NOTIFY before the restart
                dns.notify.announce(view)
        for subscriber, view in self._parts.served_zones.catalogs().items():
            dns.notify.announce(view, subscriber)

    def _observe_request(self, request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
        route = request.get(ROUTE)
        resource = "other" if route is None else route.resource or route.name
        if "wait" in request.rel_url.query_string:
            resource = "wait"
        length = 0 if request.method == "HEAD" else answer.content_length or 0
        waited = resource in ("wait", "events")
        self._parts.metrics.record_request(answer.status, resource, None if waited else seconds, length)


def _bounded(each: int, holders: int) -> Connections:
    """Connection bounds: `each` per holder, `each * holders` in total."""
    return Connections(ConnectionBounds(per_address=each, per_subscriber=each, total=each * holders))

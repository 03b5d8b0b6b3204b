"""Admits requests to the feed: authenticates them (authentication.py), and counts their connections and their rate.

Order of calls: `holder_of` for each new connection (the Acceptor calls it); `enter` at the start of each request, and
again after each wait of it; `entitled` for each list. `replace` replaces the subscribers; `end_lapsed` ends the
requests of those who have lost access meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus

from aiohttp import web

from blocklistd.config import Network
from blocklistd.limits import RATED_NODES
from blocklistd.model import ListId, SubscriberId
from blocklistd.serve.accept import AcceptedConnection
from blocklistd.serve.connections import NO_BOUND, Connections, Holder, address_holder, is_in, plain
from blocklistd.serve.http.authentication import Admission, Credentials, Unauthorized
from blocklistd.serve.http.connection import accepted_of
from blocklistd.serve.http.live_lists import ListView, LiveLists
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.rates import RequestRates
from blocklistd.serve.refusals import Refusals
from blocklistd.store.subscribers import Subscriber
from blocklistd.times import Clock, utc_now


class Access:
    """Who may send requests, and how many.

    `connections` are the listener's. On a connection from `trusted_proxies` the client's address is taken from
    X-Forwarded-For; no header stands for a certificate.
    """

    def __init__(self, connections: Connections | None = None, clock: Clock = utc_now) -> None:
        self.connections = connections if connections is not None else Connections()
        self._clock = clock
        self.credentials = Credentials(clock)
        self.seen: dict[SubscriberId, datetime] = {}
        """When each subscriber was last authenticated. Empty after a restart."""
        self.rates = RequestRates()
        self.trusted_proxies: tuple[Network, ...] = ()
        self._refusals = Refusals("feed")
        self.halted: str | None = None
        """Why the daemon is halted, None if it is not. While it is, every request, authenticated or not, gets 503."""

    def replace(self, by_token: Mapping[str, Subscriber]) -> None:
        """Replaces the subscribers, by the digest of their token; revoked ones included. Ends the requests under way of
        those who have lost access to a list."""
        self.credentials.replace(by_token)
        self.end_lapsed()

    def end_lapsed(self) -> None:
        """Cuts off every connection whose last request was authenticated by what is not valid any more, or whose
        subscriber has lost a list since."""
        for connection in self.connections:
            assert isinstance(connection, AcceptedConnection)
            admission = connection.admission
            if isinstance(admission, Admission) and not self.credentials.is_valid(admission):
                connection.cut_off()

    def holder_of(self, accepted: AcceptedConnection) -> tuple[Holder, int]:
        """The holder of a new connection, and the holder's bound.

        A connection from a trusted proxy has no bound until its first request, which names the client's address.
        """
        if is_in(accepted.address, self.trusted_proxies):
            return Holder("proxy", accepted.address), NO_BOUND
        return address_holder(accepted.address), self.connections.bounds.per_address

    def enter(self, request: web.BaseRequest) -> Subscriber:
        """The subscriber of a request. The connection is counted for the subscriber from now on.

        Raises Unauthorized; Problem 503 while the daemon is halted; Problem 429 if the subscriber, or the address
        behind a proxy, is at its bound and has no idle connection, or if it sends too many requests. A second call for
        one request counts nothing.
        """
        if self.halted is not None:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "nothing is served until an operator has repaired the publisher's state: keep what you have",
                {"Retry-After": "60"},
            )
        connection = accepted_of(request)
        address, certificate = connection.address, connection.certificate
        if self.trusted_proxies and is_in(address, self.trusted_proxies):
            certificate = None  # the proxy's own, which stands for none of its clients
            address = self._forwarded(request.headers.getall("X-Forwarded-For", ())) or address
            if address != connection.address:
                _count_for(connection, address_holder(address), self.connections.bounds.per_address, "address")
        try:
            admission = self.credentials.authenticate(request.headers.get("Authorization"), certificate)
        except Unauthorized as refused:
            self._refusals.log(address, refused.subscriber, refused.reason)
            raise
        connection.admission, found = admission, admission.subscriber
        self.seen[found.id] = self._clock()
        _count_for(connection, Holder("subscriber", found.id), self.connections.bounds.per_subscriber, "subscriber")
        if not connection.rated:
            self._count_request(found, address)
            connection.rated = True
        return found

    def _count_request(self, subscriber: Subscriber, address: str) -> None:
        """Raises Problem 429 if this address, or the whole subscriber, sends more requests than it may."""
        pause = self.rates.pause(subscriber.id, address_holder(address).name)
        if pause:
            self._refusals.log(address, subscriber.id, "it sends more requests than feed.rate_limit allows")
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"at most {self.rates.limit} requests of one address are answered, and {RATED_NODES} times that of "
                "one subscriber: wait as long as Retry-After says",
                {"Retry-After": str(math.ceil(pause))},
            )

    def _forwarded(self, headers: Sequence[str]) -> str | None:
        """The last address in X-Forwarded-For that is not a trusted proxy's. The client may have forged all before it.

        None if an address there can't be parsed, or if all are trusted proxies.
        """
        for part in reversed(",".join(headers).split(",")):
            try:
                address = plain(_without_port(part.strip()))
            except ValueError:
                return None
            if not is_in(address, self.trusted_proxies):
                return address
        return None


def _without_port(text: str) -> str:
    """The address in an entry of X-Forwarded-For: some proxies write `192.0.2.1:1234` or `[2001:db8::1]:1234`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _count_for(connection: AcceptedConnection, holder: Holder, bound: int, what: str) -> None:
    """Counts the connection for the holder. Raises Problem 429; `what` names the kind of holder in it."""
    if not connection.move(holder, bound):
        raise Problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{bound} requests of this {what} are under way: wait for one to end",
            {"Retry-After": "1"},
        )


def entitled(live_lists: LiveLists, subscriber: Subscriber, list_id: str) -> ListView:
    """The live view of one of the subscriber's lists.

    Raises Problem 404, the same for another subscriber's list as for a list that does not exist, and Problem 503 for
    one of the subscriber's lists that can't be served.
    """
    found = live_lists.get(list_id) if ListId(list_id) in subscriber.lists else None
    if found is None and ListId(list_id) in subscriber.lists and live_lists.is_missing(list_id):
        detail = "the list can't be served now: keep what you have"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "60"})
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, "no such list for this subscriber")
    return found

"""Authenticates requests by bearer token (RFC 6750), and counts their connections for the subscriber.

Order of calls: `holder_of` for each new connection (the Acceptor calls it); `enter` at the start of each request, and
again after each wait of it; `entitled` for each list. State: the subscribers by token; `replace` replaces all of them.
`end_lapsed` ends the requests of those who have lost access meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from aiohttp import web

from blocklistd.config import Network
from blocklistd.limits import MAX_KNOWN_HEADERS, RATED_NODES
from blocklistd.model import ListId, SubscriberId
from blocklistd.serve.accept import AcceptedConnection
from blocklistd.serve.connections import NO_BOUND, Connections, Holder, address_holder, is_in, plain
from blocklistd.serve.http.connection import accepted_of
from blocklistd.serve.http.live_lists import ListView, LiveLists
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.rates import RequestRates
from blocklistd.serve.refusals import Refusals
from blocklistd.store.credentials import digest
from blocklistd.store.subscribers import Subscriber
from blocklistd.times import Clock, utc_now

CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="blocklistd"'}


class Unauthorized(Problem):
    """Problem 401 (RFC 6750 3.1). It closes the connection, so that no more requests on it are read.

    `reason` is for the log only. `subscriber` is the owner of a revoked token, else "".
    """

    ends_connection = True

    def __init__(self, reason: str, subscriber: str = "") -> None:
        super().__init__(
            HTTPStatus.UNAUTHORIZED, "expected `Authorization: Bearer` and a subscriber's token", CHALLENGE
        )
        self.reason = reason
        self.subscriber = subscriber


@dataclass(frozen=True, slots=True)
class Admission:
    """By what a request was authenticated: the digest of a token; and whose it was then."""

    subscriber: Subscriber
    token: str


class Access:
    """The subscribers by the SHA-256 of their token, in memory: a request reads neither database nor disk.

    `connections` are the listener's. On a connection from `trusted_proxies` the client's address is taken from
    X-Forwarded-For.
    """

    def __init__(self, connections: Connections | None = None, clock: Clock = utc_now) -> None:
        self.connections = connections if connections is not None else Connections()
        self._clock = clock
        self.seen: dict[SubscriberId, datetime] = {}
        """When each subscriber last sent a request with a valid token. Empty after a restart."""
        self.old_seen: dict[str, datetime] = {}
        """When each token that was replaced was last used, by its digest. Empty after a restart."""
        self.rates = RequestRates()
        self.trusted_proxies: tuple[Network, ...] = ()
        self._refusals = Refusals("feed")
        self._by_token: Mapping[str, Subscriber] = {}
        self._by_old_token: Mapping[str, tuple[datetime, Subscriber]] = {}
        """The subscribers by tokens that were replaced, and when these expire."""
        self._revoked: Mapping[str, SubscriberId] = {}
        self._by_header: dict[str, Admission] = {}
        self.halted: str | None = None
        """Why the daemon is halted, None if it is not. While it is, every request, authenticated or not, gets 503."""

    def replace(self, by_token: Mapping[str, Subscriber]) -> None:
        """Replaces the subscribers, by the digest of their token; revoked ones included. Ends the requests under way of
        those who have lost access to a list."""
        self._by_token = {token: owner for token, owner in by_token.items() if owner.revoked is None}
        self._by_old_token = {
            old.token: (old.expires, owner) for owner in self._by_token.values() for old in owner.old_tokens
        }
        revoked = {token: owner for token, owner in by_token.items() if owner.revoked is not None}
        replaced = {old.token: owner for owner in revoked.values() for old in owner.old_tokens}
        self._revoked = {token: owner.id for token, owner in (revoked | replaced).items()}
        self.old_seen = {token: seen for token, seen in self.old_seen.items() if token in self._by_old_token}
        self._by_header = {}
        self.end_lapsed()

    def end_lapsed(self) -> None:
        """Cuts off every connection whose last request was authenticated by what is not valid any more, or whose
        subscriber has lost a list since."""
        for connection in self.connections:
            assert isinstance(connection, AcceptedConnection)
            admission = connection.admission
            if isinstance(admission, Admission) and not self._is_valid(admission):
                connection.cut_off()

    def _is_valid(self, admission: Admission) -> bool:
        owner = self._by_token.get(admission.token)
        if owner is None and (old := self._by_old_token.get(admission.token)) is not None and self._clock() < old[0]:
            owner = old[1]
        return owner is not None and owner.lists >= admission.subscriber.lists

    def admission(self, authorization: str | None) -> Admission:
        """Authenticates by an Authorization header. Raises Unauthorized, or Problem 503 while the daemon is halted.

        Tokens are looked up by their SHA-256, so that timing reveals no token. A valid header is remembered until the
        subscribers change, and then found without SHA-256. That look-up is safe too: the key of Python's string hash
        differs in each process.
        """
        if self.halted is not None:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "nothing is served until an operator has repaired the publisher's state: keep what you have",
                {"Retry-After": "60"},
            )
        known = self._by_header.get(authorization or "")
        if known is not None:
            return known
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("it sent no token")
        hashed = digest(token.strip())
        found = self._by_token.get(hashed)
        if found is None and (old := self._by_old_token.get(hashed)) is not None:
            expires, owner = old
            if (now := self._clock()) >= expires:
                raise Unauthorized("its token has expired: the subscriber has a newer one", owner.id)
            self.old_seen[hashed] = now
            return Admission(owner, hashed)  # not remembered by its header: it expires
        if found is None and hashed in self._revoked:
            raise Unauthorized("the subscriber was revoked", self._revoked[hashed])
        if found is None:
            raise Unauthorized("its token is unknown")
        admission = Admission(found, hashed)
        if authorization is not None and len(self._by_header) < MAX_KNOWN_HEADERS:
            self._by_header[authorization] = admission
        return admission

    def holder_of(self, accepted: AcceptedConnection) -> tuple[Holder, int]:
        """The holder of a new connection, and the holder's bound.

        A connection from a trusted proxy has no bound until its first request, which names the client's address.
        """
        if is_in(accepted.address, self.trusted_proxies):
            return Holder("proxy", accepted.address), NO_BOUND
        return address_holder(accepted.address), self.connections.bounds.per_address

    def enter(self, request: web.BaseRequest) -> Subscriber:
        """The subscriber of a request. The connection is counted for the subscriber from now on.

        Raises Unauthorized, and Problem 429 if the subscriber, or the address behind a proxy, is at its bound and has
        no idle connection, or if it sends too many requests. A second call for one request counts nothing.
        """
        connection = accepted_of(request)
        address = connection.address
        if self.trusted_proxies and is_in(address, self.trusted_proxies):
            address = self._forwarded(request.headers.getall("X-Forwarded-For", ())) or address
            if address != connection.address:
                _count_for(connection, address_holder(address), self.connections.bounds.per_address, "address")
        try:
            admission = self.admission(request.headers.get("Authorization"))
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

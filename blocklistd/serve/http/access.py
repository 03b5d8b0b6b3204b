"""Who asks: a subscriber by its bearer token (RFC 6750), and how much it may ask at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from blocklistd.limits import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_SUBSCRIBER
from blocklistd.model import ListId, SubscriberId
from blocklistd.serve.http.catalogue import Catalogue, ListView
from blocklistd.serve.http.problems import Problem
from blocklistd.store.subscribers import Subscriber, digest

CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="blocklistd"'}


class Access:
    """The subscribers by the digest of their token, in memory: a request asks neither database nor disk."""

    def __init__(self) -> None:
        self._by_token: Mapping[str, Subscriber] = {}
        self._by_header: dict[str, Subscriber] = {}
        self._under_way: defaultdict[SubscriberId, int] = defaultdict(int)

    def replace(self, by_token: Mapping[str, Subscriber]) -> None:
        """Takes over who is known from now on; requests under way go on to their end."""
        self._by_token = {token: who for token, who in by_token.items() if who.revoked is None}
        self._by_header = {}

    def subscriber(self, authorization: str | None) -> Subscriber:
        """Raises Problem 401. Tokens are compared as hashes in a dict: what its timing tells leads to no token.

        A header that was right is known as it stands the next time, until the subscribers change; by its own hash,
        which is keyed anew in every process.
        """
        known = self._by_header.get(authorization or "")
        if known is not None:
            return known
        scheme, _, token = (authorization or "").partition(" ")
        found = self._by_token.get(digest(token.strip())) if scheme.lower() == "bearer" else None
        if found is None:
            raise Problem(
                HTTPStatus.UNAUTHORIZED, "expected `Authorization: Bearer` and a subscriber's token", CHALLENGE
            )
        if authorization is not None and len(self._by_header) < MAX_CONNECTIONS:
            self._by_header[authorization] = found
        return found

    def enter(self, subscriber: Subscriber) -> None:
        """One more of the requests that a subscriber may have under way; raises Problem 429 when there is none left.
        `leave` ends it."""
        if self._under_way[subscriber.id] >= MAX_CONNECTIONS_PER_SUBSCRIBER:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{MAX_CONNECTIONS_PER_SUBSCRIBER} requests of this subscriber are under way: wait for one to end",
                {"Retry-After": "1"},
            )
        self._under_way[subscriber.id] += 1

    def leave(self, subscriber: Subscriber) -> None:
        """The request has its answer, or never will."""
        left = self._under_way[subscriber.id] - 1
        if left:
            self._under_way[subscriber.id] = left
        else:
            del self._under_way[subscriber.id]


def entitled(catalogue: Catalogue, subscriber: Subscriber, list_id: str) -> ListView:
    """Raises the same Problem 404 for a list that is not the subscriber's as for one that does not exist."""
    found = catalogue.get(list_id) if ListId(list_id) in subscriber.lists else None
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, "no such list for this subscriber")
    return found

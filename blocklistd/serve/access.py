"""Who asks: a subscriber by its bearer token (RFC 6750), and how much it may ask at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from blocklistd.limits import MAX_CONNECTIONS_PER_SUBSCRIBER
from blocklistd.model import ListId, SubscriberId
from blocklistd.serve.catalogue import Catalogue, ListView
from blocklistd.serve.problems import Problem
from blocklistd.subscribers import Subscriber, digest

CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="blocklistd"'}


class Access:
    """The subscribers by the digest of their token, in memory: a request asks neither database nor disk."""

    def __init__(self) -> None:
        self._by_token: Mapping[str, Subscriber] = {}
        self._under_way: Counter[SubscriberId] = Counter()

    def replace(self, by_token: Mapping[str, Subscriber]) -> None:
        """Takes over who is known from now on; requests under way go on to their end."""
        self._by_token = {token: who for token, who in by_token.items() if who.revoked is None}

    def subscriber(self, authorization: str | None) -> Subscriber:
        """Raises Problem 401. Tokens are compared as hashes in a dict: what its timing tells leads to no token."""
        scheme, _, token = (authorization or "").partition(" ")
        found = self._by_token.get(digest(token.strip())) if scheme.lower() == "bearer" else None
        if found is None:
            raise Problem(
                HTTPStatus.UNAUTHORIZED, "expected `Authorization: Bearer` and a subscriber's token", CHALLENGE
            )
        return found

    @contextmanager
    def slot(self, subscriber: Subscriber) -> Iterator[None]:
        """One of the requests that a subscriber may have under way; raises Problem 429 when there is none left."""
        if self._under_way[subscriber.id] >= MAX_CONNECTIONS_PER_SUBSCRIBER:
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{MAX_CONNECTIONS_PER_SUBSCRIBER} requests of this subscriber are under way: wait for one to end",
                {"Retry-After": "1"},
            )
        self._under_way[subscriber.id] += 1
        try:
            yield
        finally:
            self._under_way[subscriber.id] -= 1
            if not self._under_way[subscriber.id]:
                del self._under_way[subscriber.id]


def entitled(catalogue: Catalogue, subscriber: Subscriber, list_id: str) -> ListView:
    """Raises the same Problem 404 for a list that is not the subscriber's as for one that does not exist."""
    found = catalogue.get(list_id) if ListId(list_id) in subscriber.lists else None
    if found is None:
        raise Problem(HTTPStatus.NOT_FOUND, "no such list for this subscriber")
    return found

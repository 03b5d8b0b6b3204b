"""Who asks: tokens, proxies, places."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from blocklistd.config import ConnectionBounds
from blocklistd.model import ListId, SubscriberId
from blocklistd.serve.accept import Accepted
from blocklistd.serve.connections import NO_BOUND, Connections, Holder, address_holder
from blocklistd.serve.http import access as access_module
from blocklistd.serve.http.access import Access, Unauthorized
from blocklistd.serve.http.problems import Problem
from blocklistd.store.subscribers import Subscriber, digest

PROXY = "192.0.2.1"
BOUNDS = ConnectionBounds(per_address=2, per_subscriber=3, total=100)
CREATED = datetime(2026, 11, 1, tzinfo=UTC)


class Asking:
    """A request, as far as Access looks at it."""

    def __init__(self, connection: Accepted, *headers: tuple[str, str]) -> None:
        self.connection = connection
        self.headers = CIMultiDict(headers)


def subscriber(name: str, *, revoked: bool = False) -> Subscriber:
    lists = frozenset({ListId("national")})
    since = CREATED if revoked else None
    return Subscriber(SubscriberId(name), lists, frozenset(), (), (), (), CREATED, "root", since)


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setattr(access_module, "accepted_of", lambda request: request.connection)
    made = Access(Connections(BOUNDS))
    made.replace({digest("t"): subscriber("isp"), digest("old"): subscriber("gone", revoked=True)})
    return made


def connect(access: Access, address: str) -> Accepted:
    made = Accepted(access.connections, address)
    assert access.connections.enter(made, *access.whose(made))
    access.connections.begin(made)
    return made


def ask(access: Access, connection: Accepted, *headers: tuple[str, str], token: str = "t") -> Subscriber:
    sent = (*headers, ("Authorization", f"Bearer {token}"))
    return access.enter(cast(web.BaseRequest, Asking(connection, *sent)))


def test_a_connection_is_its_addresses_until_it_is_its_subscribers(access: Access) -> None:
    made = connect(access, "198.51.100.7")
    assert access.connections.of(address_holder("198.51.100.7")) == 1
    assert ask(access, made).id == "isp"
    assert access.connections.of(address_holder("198.51.100.7")) == 0
    assert access.connections.of(Holder("subscriber", "isp")) == 1


def test_a_subscriber_has_so_many_requests_under_way(access: Access) -> None:
    for number in range(3):
        ask(access, connect(access, f"198.51.100.{number}"))
    with pytest.raises(Problem) as refused:
        ask(access, connect(access, "198.51.100.9"))
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})


def test_a_subscriber_was_seen_when_it_last_asked(access: Access) -> None:
    now = [CREATED]
    access._clock = lambda: now[0]
    assert access.seen == {}
    for number, token in enumerate(("old", "nobody's")):
        with pytest.raises(Unauthorized):
            ask(access, connect(access, f"198.51.100.{number}"), token=token)
    assert access.seen == {}
    for number in range(2):
        now[0] += timedelta(minutes=1)
        ask(access, connect(access, f"198.51.100.{number}"))
        assert access.seen == {"isp": now[0]}


def test_behind_a_trusted_proxy_the_address_is_the_one_it_names(access: Access) -> None:
    access.trusted_proxies = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
    assert access.whose(Accepted(access.connections, PROXY)) == (Holder("proxy", PROXY), NO_BOUND)
    asked = [connect(access, PROXY) for _ in range(3)]
    forged = ("X-Forwarded-For", "203.0.113.66, 198.51.100.7")
    for connection in asked[:2]:
        with pytest.raises(Unauthorized):
            ask(access, connection, forged, ("X-Forwarded-For", "2001:db8::1"), token="wrong")
    assert access.connections.of(address_holder("198.51.100.7")) == 2, "who is before it, anybody may have written"
    with pytest.raises(Problem) as refused:
        ask(access, asked[2], forged, token="wrong")
    assert refused.value.status == 429
    for nonsense in ("", "unknown", "198.51.100.7, _hidden", PROXY):
        with pytest.raises(Unauthorized):
            ask(access, connect(access, PROXY), ("X-Forwarded-For", nonsense), token="wrong")
    assert access.connections.of(Holder("proxy", PROXY)) == 5, "those that named nobody, and who found no place"


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("198.51.100.7:1234", "198.51.100.7"),
        ("[2001:db8:1::7]:1234", "2001:db8:1::7"),
        ("[2001:db8:1::7]", "2001:db8:1::7"),
        ("2001:db8:1::7", "2001:db8:1::7"),
    ],
)
def test_a_proxy_may_name_the_port_too(access: Access, named: str, address: str) -> None:
    access.trusted_proxies = (ipaddress.ip_network("192.0.2.0/24"),)
    with pytest.raises(Unauthorized):
        ask(access, connect(access, PROXY), ("X-Forwarded-For", named), token="wrong")
    assert access.connections.of(address_holder(address)) == 1


def test_nobody_else_says_where_it_asks_from(access: Access) -> None:
    made = connect(access, "198.51.100.7")
    with pytest.raises(Unauthorized):
        ask(access, made, ("X-Forwarded-For", "203.0.113.66"), token="wrong")
    assert access.connections.of(address_holder("198.51.100.7")) == 1


def test_a_401_is_one_line_in_the_log(access: Access, caplog: pytest.LogCaptureFixture) -> None:
    for address, token in (("198.51.100.1", "old"), ("198.51.100.2", "wrong")):
        for _ in range(3):
            with pytest.raises(Unauthorized):
                ask(access, connect(access, address), token=token)
            for one in ("198.51.100.1", "198.51.100.2"):
                assert access.connections.of(address_holder(one)) <= 2
            access.connections = Connections(BOUNDS)
    with pytest.raises(Unauthorized):
        access.enter(cast(web.BaseRequest, Asking(connect(access, "2001:db8::7"))))
    assert caplog.messages == [
        "feed: 198.51.100.1 as gone was refused: the subscriber was revoked",
        "feed: 198.51.100.2 was refused: its token is unknown (2 more were refused since the last such line)",
        "feed: 2001:db8::7 was refused: it sent no token (2 more were refused since the last such line)",
    ]
    assert "wrong" not in caplog.text

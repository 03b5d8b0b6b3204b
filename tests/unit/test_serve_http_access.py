"""Authentication by token, addresses behind trusted proxies, and the holders of connections."""

from __future__ import annotations

import dataclasses
import ipaddress
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from blocklistd.config import ConnectionBounds, RateLimit
from blocklistd.model import ListId, SubscriberId
from blocklistd.serve.accept import AcceptedConnection
from blocklistd.serve.connections import NO_BOUND, Connections, Holder, address_holder
from blocklistd.serve.http import access as access_module
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.authentication import Unauthorized
from blocklistd.serve.http.problems import Problem
from blocklistd.store.credentials import OldToken, digest
from blocklistd.store.subscribers import Subscriber

PROXY = "192.0.2.1"
BOUNDS = ConnectionBounds(per_address=2, per_subscriber=3, total=100)
CREATED = datetime(2026, 11, 1, tzinfo=UTC)


class FakeRequest:
    """A request with all that Access reads of one."""

    def __init__(self, connection: AcceptedConnection, *headers: tuple[str, str]) -> None:
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


def connect(access: Access, address: str) -> AcceptedConnection:
    made = AcceptedConnection(access.connections, address)
    assert access.connections.enter(made, *access.holder_of(made))
    access.connections.begin(made)
    return made


def ask(access: Access, connection: AcceptedConnection, *headers: tuple[str, str], token: str = "t") -> Subscriber:
    sent = (*headers, ("Authorization", f"Bearer {token}"))
    return access.enter(cast(web.BaseRequest, FakeRequest(connection, *sent)))


def test_authentication_moves_a_connection_from_its_address_to_its_subscriber(access: Access) -> None:
    made = connect(access, "198.51.100.7")
    assert access.connections.of(address_holder("198.51.100.7")) == 1
    assert ask(access, made).id == "isp"
    assert access.connections.of(address_holder("198.51.100.7")) == 0
    assert access.connections.of(Holder("subscriber", "isp")) == 1


def test_a_subscriber_with_too_many_requests_gets_429(access: Access) -> None:
    for number in range(3):
        ask(access, connect(access, f"198.51.100.{number}"))
    with pytest.raises(Problem) as refused:
        ask(access, connect(access, "198.51.100.9"))
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})


def test_seen_is_the_time_of_the_last_authenticated_request(access: Access) -> None:
    now = [CREATED]
    access._clock = access.credentials._clock = lambda: now[0]
    assert access.seen == {}
    for number, token in enumerate(("old", "nobody's")):
        with pytest.raises(Unauthorized):
            ask(access, connect(access, f"198.51.100.{number}"), token=token)
    assert access.seen == {}
    for number in range(2):
        now[0] += timedelta(minutes=1)
        ask(access, connect(access, f"198.51.100.{number}"))
        assert access.seen == {"isp": now[0]}


def test_the_address_behind_a_trusted_proxy_is_from_x_forwarded_for(access: Access) -> None:
    access.trusted_proxies = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
    assert access.holder_of(AcceptedConnection(access.connections, PROXY)) == (Holder("proxy", PROXY), NO_BOUND)
    asked = [connect(access, PROXY) for _ in range(3)]
    forged = ("X-Forwarded-For", "203.0.113.66, 198.51.100.7")
    for connection in asked[:2]:
        with pytest.raises(Unauthorized):
            ask(access, connection, forged, ("X-Forwarded-For", "2001:db8::1"), token="wrong")
    assert access.connections.of(address_holder("198.51.100.7")) == 2, "the addresses before it may be forged"
    with pytest.raises(Problem) as refused:
        ask(access, asked[2], forged, token="wrong")
    assert refused.value.status == 429
    for nonsense in ("", "unknown", "198.51.100.7, _hidden", PROXY):
        with pytest.raises(Unauthorized):
            ask(access, connect(access, PROXY), ("X-Forwarded-For", nonsense), token="wrong")
    assert access.connections.of(Holder("proxy", PROXY)) == 5, "four without a client's address, and the refused one"


@pytest.mark.parametrize(
    ("named", "address"),
    [
        ("198.51.100.7:1234", "198.51.100.7"),
        ("[2001:db8:1::7]:1234", "2001:db8:1::7"),
        ("[2001:db8:1::7]", "2001:db8:1::7"),
        ("2001:db8:1::7", "2001:db8:1::7"),
    ],
)
def test_x_forwarded_for_may_have_a_port(access: Access, named: str, address: str) -> None:
    access.trusted_proxies = (ipaddress.ip_network("192.0.2.0/24"),)
    with pytest.raises(Unauthorized):
        ask(access, connect(access, PROXY), ("X-Forwarded-For", named), token="wrong")
    assert access.connections.of(address_holder(address)) == 1


def test_more_requests_than_allowed_get_429_by_node(access: Access, caplog: pytest.LogCaptureFixture) -> None:
    access.rates.limit = RateLimit(2, 3600)
    first = connect(access, "2001:db8::1")
    for _ in range(2):
        ask(access, first)
        ask(access, first)  # after a wait: the same request
        first.begin()
    for address in ("2001:db8::1", "2001:db8::2"):
        other = connect(access, address)
        with pytest.raises(Problem) as refused:
            ask(access, other)
        other.end()
        assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1800"})
        assert "2/h requests of one address" in refused.value.detail
    ask(access, connect(access, "2001:db8:0:1::1"))
    assert caplog.messages[0] == (
        "feed: 2001:db8::1 as isp was refused: it sends more requests than feed.rate_limit allows"
    )


def test_the_node_behind_a_trusted_proxy_is_the_forwarded_address(access: Access) -> None:
    access.rates.limit = RateLimit(1, 3600)
    access.trusted_proxies = (ipaddress.ip_network("192.0.2.0/24"),)
    proxy = connect(access, PROXY)
    for address in ("198.51.100.1", "198.51.100.2"):
        proxy.begin()
        ask(access, proxy, ("X-Forwarded-For", f"203.0.113.9, {address}"))
    proxy.begin()
    with pytest.raises(Problem):
        ask(access, proxy, ("X-Forwarded-For", "203.0.113.8, 198.51.100.2"))
    direct = connect(access, "198.51.100.2")
    with pytest.raises(Problem):
        ask(access, direct, ("X-Forwarded-For", "203.0.113.7"))


def test_what_an_expired_token_has_under_way_is_cut_off(access: Access) -> None:
    now = [CREATED]
    access._clock = access.credentials._clock = lambda: now[0]
    old = OldToken(digest("replaced"), CREATED + timedelta(hours=1))
    access.replace({digest("t"): dataclasses.replace(subscriber("isp"), old_tokens=(old,))})
    by_old, waiting, by_new = (connect(access, f"198.51.100.{number}") for number in range(3))
    woken: list[str] = []
    waiting.wake = lambda: woken.append("401")
    for connection, token in ((by_old, "replaced"), (waiting, "replaced"), (by_new, "t")):
        ask(access, connection, token=token)
    access.end_lapsed()
    assert (len(access.connections), woken) == (3, [])
    now[0] += timedelta(hours=1)
    access.end_lapsed()
    assert set(access.connections) == {waiting, by_new}
    assert woken == ["401"]


def test_x_forwarded_for_of_other_clients_is_ignored(access: Access) -> None:
    made = connect(access, "198.51.100.7")
    with pytest.raises(Unauthorized):
        ask(access, made, ("X-Forwarded-For", "203.0.113.66"), token="wrong")
    assert access.connections.of(address_holder("198.51.100.7")) == 1


def test_a_401_is_logged_with_address_and_reason_and_limited_in_rate(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    for address, token in (("198.51.100.1", "old"), ("198.51.100.2", "wrong")):
        for _ in range(3):
            with pytest.raises(Unauthorized):
                ask(access, connect(access, address), token=token)
            for one in ("198.51.100.1", "198.51.100.2"):
                assert access.connections.of(address_holder(one)) <= 2
            access.connections = Connections(BOUNDS)
    with pytest.raises(Unauthorized):
        access.enter(cast(web.BaseRequest, FakeRequest(connect(access, "2001:db8::7"))))
    assert caplog.messages == [
        "feed: 198.51.100.1 as gone was refused: the subscriber was revoked",
        "feed: 198.51.100.2 was refused: its token is unknown (2 more were refused since the last such line)",
        "feed: 2001:db8::7 was refused: it sent no token (2 more were refused since the last such line)",
    ]
    assert "wrong" not in caplog.text

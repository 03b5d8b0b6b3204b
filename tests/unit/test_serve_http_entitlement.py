"""A list of others is answered as one that does not exist: with the same answer, after the same work."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from types import FrameType
from typing import Any, NamedTuple, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from blocklistd.model import ListId, SubscriberId, Version
from blocklistd.serve.accept import AcceptedConnection
from blocklistd.serve.connections import Connections
from blocklistd.serve.http import authorize as authorize_module
from blocklistd.serve.http.access import Access
from blocklistd.serve.http.authorize import AuthorizeHandler
from blocklistd.serve.http.exports import ExportHandler
from blocklistd.serve.http.feed import FeedHandler
from blocklistd.serve.http.live_lists import Document, ListView, LiveLists
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.receipts import ReceiptHandler
from blocklistd.serve.http.routes import Route, Routes
from blocklistd.store.subscribers import Subscriber

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ISP = Subscriber(
    SubscriberId("isp"), frozenset({ListId("national")}), frozenset(), (), (), (), NOW, "root", revoked=None
)
VALUES = {
    "name": "1.targets.json",
    "target": f"{'0' * 64}.LIST.ndjson",
    "from": "1",
    "to": "2",
    "format": "hosts",
}
FOREIGN, ABSENT = "foreign", "nowhere"


class Refused(NamedTuple):
    """The answer to a request, and the functions that were called for it, in order."""

    status: int
    headers: dict[str, str]
    body: bytes
    called: list[str]


def view(name: str) -> ListView:
    metadata = {"timestamp.json": Document.of(b"{}"), "1.targets.json": Document.of(b"{}")}
    return ListView(ListId(name), "", None, Version(0), Document.of(b"{}"), metadata, {}, NOW)


def table() -> Iterable[Route]:
    """The routes that name a list."""
    live_lists = LiveLists()
    live_lists.configure(["national", FOREIGN])
    for name in ("national", FOREIGN):
        live_lists.publish(view(name))
    none = cast(Any, None)
    receipts = ReceiptHandler(live_lists, none, none)
    made = (FeedHandler(live_lists, none, none), ExportHandler(live_lists, none), receipts)
    yield from (route for handler in made for route in handler.routes() if "{list}" in route.pattern)
    yield from AuthorizeHandler(live_lists, Access()).routes()


ROUTES = tuple(table())


async def refused(route: Route, name: str) -> Refused:
    """Requests a route for a list that the subscriber is not entitled to."""
    path = route.pattern.replace("{list}", name)
    for key, value in VALUES.items():
        path = path.replace(f"{{{key}}}", value.replace("LIST", name))
    headers = {"X-Original-URI": f"/v1/lists/{name}/targets/x", "If-None-Match": "*", "Content-Length": "0"}
    request = make_mocked_request(route.method, f"{path}?wait=5", headers)
    routes = Routes(lambda _: ISP, ROUTES)
    called: list[str] = []

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_qualname)
        elif event == "c_call":
            called.append(str(getattr(argument, "__qualname__", argument)))

    before = sys.getprofile()
    gc.disable()  # what runs at a collection, at any moment, is no part of the work
    sys.setprofile(watch)
    try:
        await routes.answer(request)
    except Problem as problem:
        sys.setprofile(before)
        return Refused(problem.status, problem.headers, problem.body(), called)
    finally:
        sys.setprofile(before)
        gc.enable()
    raise AssertionError(f"{path} was answered")


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
async def test_not_yours_and_not_there_get_the_same_answer_after_the_same_work(
    monkeypatch: pytest.MonkeyPatch, route: Route
) -> None:
    monkeypatch.setattr(authorize_module, "is_in", lambda address, networks: True)
    monkeypatch.setattr(authorize_module, "accepted_of", lambda request: AcceptedConnection(Connections(), "192.0.2.1"))
    for name in (FOREIGN, ABSENT):  # aiohttp parses a URL once
        await refused(route, name)
    answers = [await refused(route, name) for name in (FOREIGN, ABSENT, FOREIGN)]
    assert answers[0].status == (403 if route.name == "authorize" else 404)
    assert answers[0].called
    assert answers[0] == answers[1] == answers[2]

"""Answers POST of receipts: what a node has applied (docs/feed.md). A problem never quotes the receipt."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol

import orjson
from aiohttp import web

from blocklistd.kinds.mentions import has_url
from blocklistd.limits import MAX_FREE_TEXT, MAX_NODE_NAME, MAX_NODES, MAX_RECEIPT
from blocklistd.model import ListId
from blocklistd.receipts import MAX_VERSION, NODE, PROBES, STATES, Receipt, Taken
from blocklistd.serve.claims import Claims
from blocklistd.serve.http import schemas
from blocklistd.serve.http.access import entitled
from blocklistd.serve.http.live_lists import LiveLists
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.routes import Answer, Cache, RequestBody, Route, RouteCall
from blocklistd.store.subscribers import Subscriber

_KEYS: Final = frozenset(schemas.RECEIPT["properties"])
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,32})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_REFUSED: Final = {
    Taken.NEVER_PUBLISHED: Problem(HTTPStatus.CONFLICT, "version: the list never had this version"),
    Taken.TOO_MANY_NODES: Problem(
        HTTPStatus.CONFLICT,
        f"node: there are {MAX_NODES} nodes already, the most of a subscriber: use one name for each machine, and ask "
        f"the publisher to remove those that are gone",
    ),
    Taken.NAMES_ENTRY: Problem(
        HTTPStatus.BAD_REQUEST, "reason, node: one of them contains an entry of a list: name an entry by its id (e-…)"
    ),
    Taken.BUSY: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "too many receipts wait to be written: try again", {"Retry-After": "5"}
    ),
}


class Receipts(Protocol):
    """Takes receipts."""

    async def take(self, subscriber: Subscriber, list_id: ListId, node: str, receipt: Receipt) -> Taken:
        """Takes a receipt for a list. Raises StoreError if it can't be written."""


class ParsedReceipt(NamedTuple):
    """A receipt as it was sent."""

    session: str
    node: str
    receipt: Receipt


class ReceiptHandler:
    """Answers POST of receipts."""

    def __init__(self, live_lists: LiveLists, receipts: Receipts, claims: Claims) -> None:
        self._live_lists = live_lists
        self._receipts = receipts
        self._claims = claims

    def routes(self) -> tuple[Route, ...]:
        """The route. Its handler raises Problem for an error answer, and StoreError."""
        return (
            Route(
                name="receipts",
                method="POST",
                pattern="/v1/lists/{list}/receipts",
                handler=self._take,
                summary="Says which version a node has applied; the same receipt sent again changes nothing.",
                answers={HTTPStatus.NO_CONTENT: Answer("the receipt is taken")},
                cache=Cache.NEVER,
                parameters=(schemas.LIST,),
                problems={
                    HTTPStatus.NOT_FOUND: "no such list for this subscriber",
                    HTTPStatus.BAD_REQUEST: "the body is no receipt, or a text in it is not allowed",
                    HTTPStatus.CONFLICT: "another session, a version that was never published, or too many nodes",
                },
                body=RequestBody(MAX_RECEIPT, "application/json", schemas.RECEIPT),
                allow=lambda subscriber, values: entitled(self._live_lists, subscriber, values["list"]),
            ),
        )

    async def _take(self, call: RouteCall) -> web.StreamResponse:
        parsed = parse(call.body)
        view = entitled(self._live_lists, call.subscriber, call.values["list"])
        if parsed.session != view.session:
            detail = "session: the list has another one: forget the versions that you have, and take the snapshot"
            raise Problem(HTTPStatus.CONFLICT, detail)
        if parsed.receipt.version > view.version:
            knows = f"subscriber {call.subscriber.id} has a receipt for version {parsed.receipt.version} of {view.id}"
            self._claims.claim(call.subscriber.id, f"list {view.id}", knows, view.version)
            raise Problem(HTTPStatus.CONFLICT, f"version: the newest one of the list is {view.version}")
        taken = await self._receipts.take(call.subscriber, view.id, parsed.node, parsed.receipt)
        if taken in _REFUSED:
            refused = _REFUSED[taken]
            raise Problem(refused.status, refused.detail, dict(refused.headers))
        return web.Response(status=HTTPStatus.NO_CONTENT, headers={"Cache-Control": Cache.NEVER.value})


def parse(body: bytes) -> ParsedReceipt:
    """Parses a receipt. Raises Problem 400."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _bad("the body: expected JSON in UTF-8") from None
    if not isinstance(found, dict) or not found.keys() <= _KEYS:
        raise _bad(f"the body: expected an object of JSON with the keys {', '.join(schemas.RECEIPT['properties'])}")
    missing = [key for key in schemas.RECEIPT["required"] if key not in found]
    if missing:
        raise _bad(f"the body: {', '.join(missing)} is missing")
    version = found["version"]
    if type(version) is float and version.is_integer():  # 7.0 is an integer of JSON Schema
        version = int(version)
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise _bad("version: expected a whole number from 1")
    if not isinstance(found["session"], str):
        raise _bad("session: expected the session of the list")
    node = found["node"]
    if not isinstance(node, str) or not NODE.fullmatch(node):
        raise _bad(f"node: expected 1 to {MAX_NODE_NAME} letters, digits, dots, hyphens or underscores")
    if found["state"] not in STATES:
        raise _bad(f"state: expected {', '.join(STATES)}")
    probe = found.get("probe")
    if probe is not None and probe not in PROBES:
        raise _bad(f"probe: expected {', '.join(PROBES)} or null")
    receipt = Receipt(version, found["state"], _reason(found.get("reason")), _time(found["applied_at"]), probe)
    return ParsedReceipt(found["session"], node, receipt)


def _reason(found: Any) -> str | None:
    """One line of text without a URL; None for an empty one."""
    if found is None:
        return None
    if not isinstance(found, str) or len(found) > MAX_FREE_TEXT or not found.isprintable():
        raise _bad(f"reason: expected one line of text of at most {MAX_FREE_TEXT} characters, or null")
    if has_url(found):
        raise _bad("reason: it contains a URL: name an entry by its id (e-…)")
    return found.strip() or None


def _time(found: Any) -> datetime:
    try:
        if not isinstance(found, str) or not _TIME.fullmatch(found):
            raise ValueError
        return datetime.fromisoformat(found.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _bad("applied_at: expected a time like 2030-01-31T12:00:00Z (RFC 3339)") from None


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, detail)

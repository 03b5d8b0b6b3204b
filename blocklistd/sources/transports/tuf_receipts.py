"""Sends receipts to the feed of another blocklistd, in a process of its own: the feed's answers are not trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from blocklistd.errors import FetchError
from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import FETCH, enter_filter
from blocklistd.sources.reasons import AllowedMessages
from blocklistd.sources.transports import tuf
from blocklistd.sources.transports.http import open_session, reason_of
from blocklistd.sources.transports.own_network import KnownHosts, with_tls
from blocklistd.sources.transports.own_process import in_loop
from blocklistd.sources.transports.peer import load
from blocklistd.sources.transports.transport import Request, redacted_url

NO_RECEIPTS: Final = (404, 405, 501)
"""Statuses of a feed that takes no receipts: a mirror, or an older publisher. That is no error."""
REFUSED: Final = (400, 409, 410, 413, 415, 422)
"""Statuses with which the feed refuses a receipt for good."""


async def send(request: Request, receipts: Sequence[dict[str, Any]], jobs: Jobs) -> list[int]:
    """Sends receipts, and returns the status of each answer, in their order. It stops after the first one that says
    neither that the receipt is taken nor that it never will be. Raises FetchError, JobError."""
    sent = replace(request, ssl=None, redirect_ssl=None)
    limits = replace(FETCH, wall=request.timeout, file=0)
    allowed = AllowedMessages(tuf.TRANSPORT.reasons, (redacted_url(request.url),), Path("/"))
    with allowed.only_allowed():
        statuses = await jobs.run(post_receipts, sent, list(receipts), limits=limits)
    fits = isinstance(statuses, list) and len(statuses) <= len(receipts)
    if not fits or not all(type(status) is int and 100 <= status <= 599 for status in statuses):
        raise FetchError("the process that sent the receipts returned an unexpected result: they are sent again")
    return [int(status) for status in statuses]


def is_final(status: int) -> bool:
    """Whether a receipt with this answer is not sent again."""
    return 200 <= status < 300 or status in NO_RECEIPTS or status in REFUSED


def post_receipts(request: Request, receipts: list[dict[str, Any]]) -> list[int]:
    """The job of `send`."""
    return in_loop(_post(request, receipts))


async def _post(request: Request, receipts: list[dict[str, Any]]) -> list[int]:
    where, address = redacted_url(request.url), tuf.feed_address(request.url)
    moved, hosts = with_tls(request, address.url), KnownHosts()
    load()  # before the filter, as the next ones: after it no file can be opened
    statuses = list[int]()
    async with open_session(hosts) as session:
        try:
            await hosts.learn(address.url, ())
        except OSError:
            raise FetchError(f"{where}: {tuf.UNKNOWN_NAME}") from None
        enter_filter(network=True)
        try:
            for receipt in receipts:
                async with session.post(
                    f"{address.url}/receipts",
                    data=orjson.dumps(receipt),
                    headers={**moved.headers, "Content-Type": "application/json"},
                    allow_redirects=False,
                    ssl=True if moved.ssl is None else moved.ssl,
                ) as response:
                    statuses.append(response.status)
                if not is_final(response.status):
                    break
        except (aiohttp.ClientError, OSError) as error:
            if not statuses:
                raise FetchError(f"{where}: {reason_of(error)}") from None
    return statuses

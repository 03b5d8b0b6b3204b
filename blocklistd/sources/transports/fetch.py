"""Fetches a body, over its transport, to a new file, and its signature to memory; both bounded in bytes and time.

The body is neither decoded, verified nor parsed here.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path

from blocklistd.errors import FetchError
from blocklistd.jobs.runner import Jobs
from blocklistd.limits import MAX_SIGNATURE_BYTES
from blocklistd.model import Fetched, NotModified
from blocklistd.sources.transports import transport_of
from blocklistd.sources.transports.own_process import InOwnProcess
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import Download, Request, TransferMode, redacted_url


def signature_url(url: str, template: str) -> str:
    """The URL of the signature: `template`, with each `{url}` replaced by the text of `url`."""
    return template.replace("{url}", url)


async def fetch(request: Request, folder: Path, jobs: Jobs) -> Fetched | NotModified:
    """Fetch a body to a new file in `folder`, and its signature. NotModified if `request.validators` are still valid.

    `jobs` runs the transports that need a process of their own. Raises FetchError if body and signature do not arrive
    completely and within their bounds, StoreError if the file can't be written. After an error, and when it is
    cancelled, it leaves no file.
    """
    sink = Sink(folder / secrets.token_hex(8), request)
    try:
        async with asyncio.timeout(request.timeout), AsyncExitStack() as stack:
            download = await stack.enter_async_context(_download(request.url, request, jobs))
            arrived = await download.body(sink)
            if isinstance(arrived, NotModified):
                return arrived
            await sink.finish()
            signature = arrived.signature
            if signature is None and request.signature is not None:
                url = signature_url(arrived.url, request.signature)
                if transport_of(url) is not transport_of(request.url):
                    download = await stack.enter_async_context(_download(url, request, jobs))
                signature = await download.signature(url)
                if len(signature) > MAX_SIGNATURE_BYTES:
                    raise FetchError(
                        f"{redacted_url(url)}: more than {MAX_SIGNATURE_BYTES} bytes:"
                        " expected a signature, check `verify.signature`"
                    )
    except TimeoutError:  # of `asyncio.timeout` above: any other became a FetchError where it happened
        await sink.discard()
        raise FetchError(
            f"{redacted_url(request.url)}: incomplete after {request.timeout:g} s, {sink.length} bytes of the body"
            f" arrived: expected body and signature within `timeout`"
        ) from None
    except BaseException:
        await sink.discard()
        raise
    return Fetched(
        sink.path,
        sink.length,
        sink.sha256,
        arrived.encoding,
        signature,
        arrived.validators,
        arrived.continues,
        redacted_url(arrived.url),
        arrived.peer,
    )


def _download(url: str, request: Request, jobs: Jobs) -> Download:
    """The download of `url`, the URL of the request or of its signature, by its transport. Raises FetchError if there
    is no such transport."""
    transport = transport_of(url)
    is_parsed = transport.in_own_process or request.transfer is TransferMode.PAGES
    return InOwnProcess(request, jobs) if is_parsed else transport.open(request)

"""A pull's I/O: a body and its signature, over their transports, to a new file, within their bounds.

The body is not decoded, verified or parsed here.
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
from blocklistd.sources.transports.transport import Download, Request, shown


def signature_url(url: str, template: str) -> str:
    """Where the signature of `url` is: `template` with each `{url}` replaced by the text of `url`."""
    return template.replace("{url}", url)


async def fetch(request: Request, folder: Path, jobs: Jobs) -> Fetched | NotModified:
    """The body as a new file in `folder`, with its signature; NotModified where `request.validators` still hold.

    Raises FetchError where it does not arrive whole and within its bounds, StoreError where `folder` can't take it;
    then, and when it is cancelled, no file is left. `jobs` runs what is fetched in a process of its own.
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
                    raise FetchError(f"{shown(url)}: more than {MAX_SIGNATURE_BYTES} bytes: expected a signature")
    except TimeoutError:  # ours: any other was given its own words where it happened
        await sink.discard()
        raise FetchError(
            f"{shown(request.url)}: not whole after {request.timeout:g} s, {sink.length} bytes of the body arrived: "
            f"expected body and signature within `timeout`"
        ) from None
    except BaseException:
        await sink.discard()
        raise
    return Fetched(sink.path, sink.length, sink.sha256, arrived.encoding, signature, arrived.validators)


def _download(url: str, request: Request, jobs: Jobs) -> Download:
    """A download by the transport of `url`, which is that of the request or of its signature. Raises FetchError."""
    transport = transport_of(url)
    return InOwnProcess(request, jobs) if transport.in_own_process else transport.open(request)

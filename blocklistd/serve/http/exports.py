"""The current version of a list in the format of another program. The formats are in outputs/."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from blocklistd import __version__
from blocklistd.errors import DamagedError, JobError, StoreError
from blocklistd.model import Sha256
from blocklistd.outputs import OUTPUTS
from blocklistd.serve.http import bodies, schemas
from blocklistd.serve.http.access import entitled
from blocklistd.serve.http.live_lists import LiveLists
from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.routes import Answer, Cache, Route, RouteCall
from blocklistd.store.render import ServedFile

OMITTED: Final = "Blocklistd-Omitted"
"""Header: the number of entries that the format can't express, which are omitted."""
MEDIA: Final = "text/plain"
RETRY_AFTER: Final = 60  # seconds after which a client asks again for an export that can't be made


class Exports(Protocol):
    """Makes the exports of snapshots, each once. Raises DamagedError if a snapshot is missing or damaged, StoreError or
    JobError if an export can't be made."""

    async def omitted(self, digest: Sha256, output: str) -> int:
        """The number of entries that the format can't express."""

    async def open_export(self, digest: Sha256, output: str, coding: str) -> ServedFile:
        """The export in a content coding, or uncompressed."""


class ExportHandler:
    """Answers requests for exports. Has no state of its own."""

    def __init__(self, live_lists: LiveLists, exports: Exports) -> None:
        self._live_lists = live_lists
        self._exports = exports

    def routes(self) -> tuple[Route, ...]:
        """The route of exports."""
        return (
            Route(
                name="export",
                method="GET",
                pattern="/v1/lists/{list}/export/{format}",
                handler=self._export,
                summary=f"The current version for another program. {OMITTED}: the entries that can't be said in it.",
                answers={
                    HTTPStatus.OK: Answer("the file", MEDIA),
                    HTTPStatus.PARTIAL_CONTENT: Answer("a range of it", MEDIA),
                    HTTPStatus.NOT_MODIFIED: Answer("the client has it already"),
                },
                cache=Cache.REVALIDATE,
                parameters=(schemas.LIST, schemas.FORMAT, *schemas.OF_FILES),
                problems={
                    HTTPStatus.NOT_FOUND: "no such list for this subscriber, no such format, or no version yet",
                    HTTPStatus.NOT_ACCEPTABLE: "the client accepts no content coding that is served",
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "the range is outside the file",
                },
            ),
        )

    async def _export(self, call: RouteCall) -> web.StreamResponse:
        view, output = entitled(self._live_lists, call.subscriber, call.values["list"]), call.values["format"]
        if output not in OUTPUTS:
            raise Problem(HTTPStatus.NOT_FOUND, f"no such format: expected one of {', '.join(OUTPUTS)}")
        if view.live is None:
            raise Problem(HTTPStatus.NOT_FOUND, "the list has no version yet")
        digest = view.live.sha256

        async def open_file(coding: str, wait: bool) -> ServedFile:
            return await self._exports.open_export(digest, output, coding)

        try:
            further = {**bodies.REVALIDATE, OMITTED: str(await self._exports.omitted(digest, output))}
            name = f"{digest}-{output}-{__version__}"  # another version of blocklistd may write other bytes
            return await bodies.send_file(call.request, name, open_file, MEDIA, further)
        except (DamagedError, StoreError, JobError) as error:
            if call.request.writer.output_size:  # the answer has begun
                raise
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "the export can't be made now: keep what you have, and repeat the request in a minute",
                {"Retry-After": str(RETRY_AFTER)},
            ) from error

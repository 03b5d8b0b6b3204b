"""Downloads a list, and its TUF metadata, from the feed of another blocklistd.

The metadata is not verified here, and only used to find the files: the proof `tuf` verifies all of it later, in another
process. A pull of an unchanged list is one request. Of a changed list, the diff from the last version is fetched if the
feed has it and it is small, else the snapshot.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import orjson

from blocklistd.errors import FetchError
from blocklistd.limits import MAX_TUF_METADATA, MAX_TUF_ROOTS
from blocklistd.model import NotModified, Validators
from blocklistd.sources.feed import SignedMetadata
from blocklistd.sources.transports import tuf
from blocklistd.sources.transports.http import (
    HttpAnswer,
    HttpRequests,
    content_coding,
    expect_transfer_coding,
    open_session,
)
from blocklistd.sources.transports.own_network import KnownHosts, with_tls
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import ETAG, Arrived, Download, redacted_url

DIFF_SHARE: Final = 4  # a diff of more than 1 / DIFF_SHARE of the snapshot's bytes is not fetched
_SESSION: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_POSITION: Final = re.compile(rf"({_SESSION.pattern}) ([0-9]{{1,18}})")
_LARGEST: Final = 10**18


class _Target(NamedTuple):
    """The description of a version in the metadata, not verified. `length`: of the snapshot, in bytes."""

    session: str
    version: int
    length: int
    sha256: str


class TufDownload(Download):
    """Fetches the metadata, then the diff or the snapshot. Its validators: the ETag of timestamp.json; the position is
    the session and the version of the list."""

    async def __aenter__(self) -> TufDownload:
        request = self.request
        address = tuf.feed_address(request.url)
        self._where, self._feed = redacted_url(request.url), address
        self._left = MAX_TUF_METADATA
        hosts, moved = KnownHosts(), with_tls(request, address.url)
        self._session = await open_session(hosts).__aenter__()
        self._requests = HttpRequests(self._session, moved)
        try:
            await hosts.learn(address.url, request.redirects)
        except OSError:
            await self._session.close()
            raise FetchError(f"{self._where}: {tuf.UNKNOWN_NAME}") from None
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def body(self, sink: Sink) -> Arrived | NotModified:
        known = self.request.validators
        async with self._get("metadata/timestamp.json", known.etag) as (response, _, _):
            if response.status == 304 and known.etag:
                return NotModified()
            self._expect_ok(response.status)
            etag = response.headers.get("ETag", "")
            timestamp = await self._read(response)
        snapshot = await self._metadata(f"{_version(self, timestamp, 'snapshot.json')}.snapshot.json")
        targets = await self._metadata(f"{_version(self, snapshot, 'targets.json')}.targets.json")
        metadata = SignedMetadata(await self._roots(), timestamp, snapshot, targets)
        target = self._target(targets)
        encoding, continues = await self._list(sink, target)
        return Arrived(
            self.request.url,
            encoding,
            Validators(etag if ETAG.fullmatch(etag) else None, None, f"{target.session} {target.version}"),
            metadata.to_bytes(),
            continues,
            self._requests.peer,
        )

    # -- metadata --------------------------------------------------------------------------------------------------

    async def _roots(self) -> dict[int, bytes]:
        """The versions of root.json after the trusted one (TUF 5.3)."""
        roots: dict[int, bytes] = {}
        trusted = orjson.loads(self.request.key or "")["signed"]["version"]
        for version in range(trusted + 1, trusted + 1 + MAX_TUF_ROOTS):
            async with self._get(f"metadata/{version}.root.json") as (response, _, _):
                if response.status in (403, 404):  # a static mirror may answer 403 for a missing file
                    break
                self._expect_ok(response.status)
                roots[version] = await self._read(response)
        return roots

    async def _metadata(self, name: str) -> bytes:
        async with self._get(f"metadata/{name}") as (response, _, _):
            if response.status == 404:
                raise self._error(tuf.REPLACED)
            self._expect_ok(response.status)
            return await self._read(response)

    async def _read(self, response: Any) -> bytes:
        """The bytes of a metadata file. All files together have at most MAX_TUF_METADATA bytes."""
        if content_coding(response) != "identity":
            raise self._error("a content coding that was not requested: expected identity or zstd")
        expect_transfer_coding(response, self._where)
        content = bytearray()
        async for data in response.content.iter_any():
            content += data
            self._left -= len(data)
            if self._left < 0:
                raise self._error(f"more than {MAX_TUF_METADATA} bytes of metadata: check `url`, or ask the publisher")
        return bytes(content)

    def _target(self, targets: bytes) -> _Target:
        """The version that the targets metadata describes."""
        files = self._part(targets, "targets")
        if files == {}:
            raise self._error(tuf.NO_VERSION)
        try:
            found = files[f"{self._feed.list}.ndjson"]
            custom = found["custom"]
            target = _Target(custom["session"], custom["version"], found["length"], found["hashes"]["sha256"])
            fits = _SESSION.fullmatch(target.session) and _SHA256.fullmatch(target.sha256)
            if not fits or not all(0 <= one < _LARGEST for one in (target.version, target.length)):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise self._error(tuf.NOT_A_FEED) from None
        return target

    def _part(self, metadata: bytes, name: str) -> Any:
        """A field of the signed part of a metadata file, which may be anything."""
        try:
            return orjson.loads(metadata)["signed"][name]
        except (KeyError, TypeError, ValueError):
            raise self._error(tuf.NOT_A_FEED) from None

    # -- the list --------------------------------------------------------------------------------------------------

    async def _list(self, sink: Sink, target: _Target) -> tuple[str, bool]:
        """Write the list to the sink. Returns its content coding, and whether it is only what came after the last."""
        known = _POSITION.fullmatch(self.request.validators.position or "")
        # a diff to an empty list is not fetched: the snapshot is smaller
        if known is not None and known[1] == target.session and target.length:
            version = int(known[2])
            if version == target.version:
                return "identity", True  # signed again: nothing came after it
            if version < target.version and (coding := await self._diff(sink, version, target)) is not None:
                return coding, True
        name = f"targets/{target.sha256}.{self._feed.list}.ndjson"
        async with self._get(name, codings="zstd") as (response, _, _):
            if response.status in (404, 410):
                raise self._error(tuf.REPLACED)
            self._expect_ok(response.status)
            return await self._write(sink, response), False

    async def _diff(self, sink: Sink, version: int, target: _Target) -> str | None:
        """Write the diff from a version to the sink. Returns its content coding; None if the snapshot is to be fetched:
        there is no diff, or it is not much smaller."""
        async with self._get(f"diffs/{version}-{target.version}", codings="zstd") as (response, _, _):
            length = response.content_length
            if response.status != 200 or length is None or length > target.length // DIFF_SHARE:
                return None
            return await self._write(sink, response)

    async def _write(self, sink: Sink, response: Any) -> str:
        coding = content_coding(response)
        if coding not in ("identity", "zstd"):
            raise self._error("a content coding that was not requested: expected identity or zstd")
        expect_transfer_coding(response, self._where)
        sink.expect(response.content_length or 0)
        async for data in response.content.iter_any():
            await sink.write(data)
        return coding

    # -- requests --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _get(self, path: str, etag: str | None = None, codings: str = "identity") -> AsyncIterator[HttpAnswer]:
        """A context with the response to a GET of a path of the list. Errors name the URL of the source."""
        url = f"{self._feed.url}/{path}"
        headers = {"Accept-Encoding": codings, **({"If-None-Match": etag} if etag else {})}
        try:
            async with self._requests.answer(url, headers) as answer:
                yield answer
        except FetchError as error:
            text = str(error).removeprefix(redacted_url(url)).removeprefix(" (redirected)")
            raise (error if text == str(error) else FetchError(f"{self._where}{text}")) from None

    def _expect_ok(self, status: int) -> None:
        if status != 200:
            raise self._error(f"status {status}: expected 200, {tuf.HINTS.get(status, tuf.LATER)}")

    def _error(self, text: str) -> FetchError:
        return FetchError(f"{self._where}: {text}")


def _version(download: TufDownload, metadata: bytes, name: str) -> int:
    """The version of another metadata file that a metadata file names."""
    meta = download._part(metadata, "meta")
    try:
        version = meta[name]["version"]
        if not 0 < version < _LARGEST:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise FetchError(f"{download._where}: {tuf.NOT_A_FEED}") from None
    return int(version)

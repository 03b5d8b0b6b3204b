"""Fetches a log over HTTP: after the first time only the bytes that were appended (RFC 9110 section 14).

A Position contains the end of each file. A pull asks for the bytes from a little before this end, and compares those
before the end with the earlier ones:

| found | result |
|---|---|
| the same bytes, and more after them | the new bytes, from the beginning of the first line that was incomplete |
| the same bytes, and none after them, or status 304 | not modified |
| other bytes, fewer bytes, or status 416 | the log was rewritten: the complete log |
| status 200, from a server without ranges | as above; the bytes before the requested ones are skipped |
| a file of a new year, or a change of the last year's file | the complete log: the files of all years |

The older part of a log can be rewritten without a change of its end. So once in LOG_REREAD the complete log is fetched.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from blocklistd.errors import FetchError
from blocklistd.limits import LOG_OVERLAP, LOG_REREAD, LOG_YEAR_OVERLAP, MAX_LINE
from blocklistd.model import NotModified, Validators
from blocklistd.sources.intake.decode import sniff
from blocklistd.sources.transports.http import HttpDownload, content_coding, expect_ok, is_framed
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import ETAG, Arrived
from blocklistd.sources.transports.yearly import has_years, newest_year, now, of_year, years_of

if TYPE_CHECKING:
    import aiohttp

_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")
_IDENTITY: Final = {"Accept-Encoding": "identity"}  # offsets count the bytes of the file


@dataclass(frozen=True, slots=True)
class FileEnd:
    """The end of a file. `year`: 0 for a log that is one file. `size`: bytes. `lines`: the offset after the last
    newline. `check`: the SHA-256, in hex, of the last LOG_OVERLAP bytes."""

    year: int
    size: int
    lines: int
    check: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where a log ended: the end of the newest file, and at the beginning of a year also that of the file before.
    `complete`: when the log was last fetched completely, in Unix seconds."""

    complete: int
    newest: FileEnd
    last_year: FileEnd | None = None

    def to_text(self) -> str:
        """The position as it is stored."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | None) -> Position | None:
        """The position from its stored form; None if there is none, or one of another version."""
        try:
            fields = json.loads(text or "null")
            ends = [FileEnd(**found) if found else None for found in (fields["newest"], fields["last_year"])]
            return cls(int(fields["complete"]), ends[0], ends[1]) if ends[0] else None
        except (ValueError, TypeError, KeyError):
            return None


class _Outcome(enum.Enum):
    SAME = enum.auto()
    REWRITTEN = enum.auto()


class _End:
    """Follows the bytes of a file, from an offset on, to its end."""

    def __init__(self, offset: int = 0) -> None:
        self.size = self.lines = offset
        self.tail = b""

    def feed(self, data: bytes) -> None:
        newline = data.rfind(b"\n")
        if newline >= 0:
            self.lines = self.size + newline + 1
        self.size += len(data)
        self.tail = (self.tail + data)[-LOG_OVERLAP:]

    def of_year(self, year: int) -> FileEnd:
        return FileEnd(year, self.size, self.lines, hashlib.sha256(self.tail).hexdigest())


class LogDownload(HttpDownload):
    """Fetches a log, or what was appended to it."""

    async def body(self, sink: Sink) -> Arrived | NotModified:
        known = Position.from_text(self.request.validators.position)
        if known is not None and 0 <= now().timestamp() - known.complete < LOG_REREAD:
            found = await self._appended(known, sink)
            if found is not None:
                return found
        return await self._complete(sink)

    async def _appended(self, known: Position, sink: Sink) -> Arrived | NotModified | None:
        """The new bytes; None if the complete log is needed."""
        year = known.newest.year
        if year and year < newest_year() and await self._exists(year + 1):
            return None
        if known.last_year is not None and await self._read_on(known.last_year) is not _Outcome.SAME:
            return None
        found = await self._read_on(known.newest, sink, self.request.validators.etag)
        if isinstance(found, _Outcome):
            return NotModified() if found is _Outcome.SAME else None
        end, etag = found
        return self._arrived(Position(known.complete, end, known.last_year), etag, continues=True)

    async def _complete(self, sink: Sink) -> Arrived:
        """All files, in the order of their years."""
        years = await years_of(self.request.url, self._exists) if has_years(self.request.url) else [0]
        ends: list[FileEnd] = []
        can_continue, etag = True, None
        for year in years:
            end = _End()
            async with self._requests.answer(self._url(year), _IDENTITY) as (response, where, _):
                expect_ok(response, where, "url")
                _expect_bytes(response, where)
                sink.expect(sink.length + (response.content_length or 0))
                async for data in response.content.iter_any():
                    can_continue = can_continue and (end.size > 0 or sniff(data[:4]) == "identity")
                    end.feed(data)
                    await sink.write(data)
                etag = _etag(response)
            if end.tail[-1:] not in (b"", b"\n") and year != years[-1]:
                await sink.write(b"\n")
            ends.append(end.of_year(year))
        newest, time = ends[-1], now()
        is_new_year = newest.year and time - datetime(newest.year, 1, 1, tzinfo=UTC) < LOG_YEAR_OVERLAP
        last_year = ends[-2] if is_new_year and len(ends) > 1 else None
        position = Position(int(time.timestamp()), newest, last_year) if can_continue else None
        return self._arrived(position, etag, continues=False)

    def _arrived(self, position: Position | None, etag: str | None, *, continues: bool) -> Arrived:
        if position is None or position.newest.size - position.newest.lines > MAX_LINE:
            return Arrived(self.request.url, continues=continues, peer=self._requests.peer)
        validators = Validators(etag=etag, position=position.to_text())
        return Arrived(self.request.url, validators=validators, continues=continues, peer=self._requests.peer)

    async def _read_on(
        self, end: FileEnd, sink: Sink | None = None, etag: str | None = None
    ) -> tuple[FileEnd, str | None] | _Outcome:
        """Write what was appended to a file to `sink`, from its last incomplete line on. Returns its new end and its
        ETag; SAME if nothing was appended. Without `sink`, a file with new bytes counts as REWRITTEN."""
        compared = max(0, end.size - LOG_OVERLAP)
        first = min(end.lines, compared)
        headers = {**_IDENTITY, "Range": f"bytes={first}-"}
        if etag is not None:
            headers["If-None-Match"] = etag
        async with self._requests.answer(self._url(end.year), headers) as (response, where, _):
            if response.status == 304 and etag is not None:
                return _Outcome.SAME
            if response.status == 416:
                return _Outcome.REWRITTEN if end.size else _Outcome.SAME
            expect_ok(response, where, "url", (200, 206))
            _expect_bytes(response, where)
            offset = _offset(response)
            if offset not in (0, first):
                return _Outcome.REWRITTEN
            skip, known, new_end, is_new = first - offset, b"", _End(first), False
            async for data in response.content.iter_any():
                rest = data[skip:]
                skip -= len(data) - len(rest)
                new_end.feed(rest)
                if is_new and sink is not None:
                    await sink.write(rest)
                    continue
                known += rest
                if len(known) <= end.size - first:
                    continue
                if not _is_same(known, end, first, compared) or sink is None:
                    return _Outcome.REWRITTEN
                await sink.write(known[end.lines - first :])
                is_new = True
            if is_new:
                return new_end.of_year(end.year), _etag(response)
            return _Outcome.SAME if _is_same(known, end, first, compared) else _Outcome.REWRITTEN

    async def _exists(self, year: int) -> bool:
        """Whether there is a file of the year. Some servers answer 403 for a file that does not exist yet."""
        async with self._requests.answer(self._url(year), {**_IDENTITY, "Range": "bytes=0-0"}) as (response, where, _):
            if response.status in (404, 410) or (400 <= response.status < 500 and year > now().year):
                return False
            expect_ok(response, where, "url", (200, 206, 416))
            return True

    def _url(self, year: int) -> str:
        return of_year(self.request.url, year) if year else self.request.url


def _is_same(known: bytes, end: FileEnd, first: int, compared: int) -> bool:
    """Whether the bytes of a file before `end` are unchanged. `known`: its bytes from `first` on."""
    found = known[compared - first : end.size - first]
    return len(known) >= end.size - first and hashlib.sha256(found).hexdigest() == end.check


def _offset(response: aiohttp.ClientResponse) -> int | None:
    """The offset at which the content begins; None for a range that was not requested."""
    if response.status == 200:
        return 0
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _expect_bytes(response: aiohttp.ClientResponse, where: str) -> None:
    """Raises FetchError for a content coding, and for content whose end is not recognised."""
    if content_coding(response) != "identity":
        raise FetchError(f"{where}: a content coding that was not requested: expected the bytes of the file")
    if not is_framed(response):
        raise FetchError(
            f"{where}: no length and not chunked, so that a truncated body looks complete:"
            " expected Content-Length or chunks; ask the hotline"
        )


def _etag(response: aiohttp.ClientResponse) -> str | None:
    value: Any = response.headers.get("ETag", "")
    return value if ETAG.fullmatch(value) else None

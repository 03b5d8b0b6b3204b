"""Logs that have a file for each year: `{year}` in a URL stands for the four digits of the year.

The clock of a hotline may be ahead of UTC or behind it, so the file of the next year is looked for as soon as the new
year has begun anywhere, and that of the last year is read for a while after it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from blocklistd.errors import FetchError
from blocklistd.limits import FILE_CHUNK, MAX_LOG_YEARS
from blocklistd.model import NotModified, Validators
from blocklistd.sources.transports.file import OpenedFile, open_list, path_of, printable
from blocklistd.sources.transports.transport import Arrived, Download, redacted_url

if TYPE_CHECKING:
    from blocklistd.sources.transports.sink import Sink

YEAR: Final = "{year}"
_QUOTED: Final = quote(YEAR)
_FIRST_ZONE: Final = timedelta(hours=14)
"""How long before UTC a year begins in the first time zone."""


def now() -> datetime:
    """The time in UTC."""
    return datetime.fromtimestamp(time.time(), UTC)


def has_years(url: str) -> bool:
    """Whether a URL stands for a file of each year."""
    return YEAR in url or _QUOTED in url


def of_year(url: str, year: int) -> str:
    """The URL of the file of a year."""
    return url.replace(YEAR, str(year)).replace(_QUOTED, str(year))


def newest_year() -> int:
    """The newest year whose file may exist."""
    return (now() + _FIRST_ZONE).year


async def years_of(url: str, exists: Callable[[int], Awaitable[bool]]) -> list[int]:
    """The years that have a file, in ascending order. Years are tried from the newest one back to the first without a
    file. Raises FetchError if neither this year nor the last has a file, or there are more than MAX_LOG_YEARS."""
    found: list[int] = []
    newest, this_year = newest_year(), now().year
    for year in range(newest, newest - MAX_LOG_YEARS - 1, -1):
        if await exists(year):
            found.append(year)
        elif found or year < this_year:
            break
    else:
        raise FetchError(f"{redacted_url(url)}: files of more than {MAX_LOG_YEARS} years: expected fewer, check `url`")
    if not found:
        raise FetchError(
            f"{redacted_url(url)}: neither a file of {this_year} nor one of {this_year - 1}: expected one, check `url`"
        )
    return found[::-1]


class YearlyFiles(Download):
    """Reads the files of all years on this machine as one log."""

    async def body(self, sink: Sink) -> Arrived | NotModified:
        import asyncio

        url = self.request.url
        path = path_of(url)

        async def exists(year: int) -> bool:
            return await asyncio.to_thread(path_of(of_year(str(path.as_uri()), year)).exists)

        found: list[OpenedFile] = []
        try:
            for year in await years_of(url, exists):
                found.append(await asyncio.to_thread(open_list, of_year(path.as_uri(), year)))
            tags = [one.tag() for one in found]
            tag = f'"{hashlib.sha256(" ".join(tags).encode()).hexdigest()}"'
            if tag == self.request.validators.etag:
                return NotModified()
            sink.expect(sum(one.size for one in found))
            for one, known in zip(found, tags, strict=True):
                length, last = sink.length, b"\n"
                while data := await asyncio.to_thread(one.read, FILE_CHUNK):
                    await sink.write(data)
                    last = data[-1:]
                if one.tag() != known or sink.length - length != one.size:
                    raise FetchError(f"{printable(one.path)}: changed while it was read: the next pull tries again")
                if last != b"\n":
                    await sink.write(b"\n")
        finally:
            for one in found:
                await asyncio.to_thread(one.close)
        return Arrived(url, "identity", Validators(etag=tag))

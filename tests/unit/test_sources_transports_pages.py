"""All pages of a window arrive, or there is an error: a link that fails, or leads elsewhere, is no last page."""

from __future__ import annotations

import io
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from blocklistd.errors import FetchError
from blocklistd.limits import MAX_WALKS, PAGES_DELAY, PAGES_OVERLAP
from blocklistd.model import NotModified, Validators
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.sources.formats.xml_pages import to_lines
from blocklistd.sources.reasons import AllowedMessages
from blocklistd.sources.transports import pages
from blocklistd.sources.transports.page_reasons import PAGE_REASONS
from blocklistd.sources.transports.peer import peer_of_certificate
from blocklistd.sources.transports.sink import Sink
from blocklistd.sources.transports.transport import Arrived, Request, TransferMode
from tests.certificates import context_of, make_certificate
from tests.sim.hashes import PASSWORD, USER, HashServer, SharedItem, document, time_text

NOW = 1_790_000_000
OPTIONS = FormatOptions({"value": "fingerprints/*"})
MD5 = [f"{number:032x}" for number in range(100)]


@pytest_asyncio.fixture(loop_scope="function")
async def server() -> AsyncIterator[HashServer]:
    async with HashServer().serve() as found:
        found.put(*(item(number) for number in range(10)))
        yield found


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "now", lambda: NOW)


def item(number: int, changed: int = NOW - 100_000, value: int | None = None) -> SharedItem:
    return SharedItem(42, f"id{number}", changed, {"md5": MD5[number if value is None else value]})


class Reader:
    """Pulls from the server as the daemon does, and keeps the lines."""

    def __init__(self, server: HashServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.validators = Validators()
        self.lines: bytes | None = None
        self.pulls = 0

    async def pull(self, **changes: Any) -> Arrived | NotModified:
        import base64

        pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        fields = {
            "url": f"{self.server.url}/v2/entries",
            "signature": None,
            "timeout": 10.0,
            "max_bytes": 1 << 20,
            "headers": {"Authorization": f"Basic {pair}"},
            "validators": self.validators,
            "transfer": TransferMode.PAGES,
        }
        request = Request(**{**fields, **changes})
        self.pulls += 1
        sink = Sink(self.folder / f"body{self.pulls}", request)
        self.server.queries.clear()
        async with pages.PageDownload(request) as download:
            arrived = await download.body(sink)
        await sink.finish()
        if isinstance(arrived, Arrived):
            out = io.BytesIO()
            to_lines(sink.path.read_bytes(), self.lines if arrived.continues else None, OPTIONS, out)
            self.lines, self.validators = out.getvalue(), arrived.validators
        return arrived

    async def refused(self, match: str, **changes: Any) -> str:
        """The message of the error, which a process of its own may use."""
        before = self.lines
        with pytest.raises(FetchError, match=match) as error:
            await self.pull(**changes)
        assert self.lines == before
        text = str(error.value)
        url = changes.get("url", f"{self.server.url}/v2/entries")
        allowed = AllowedMessages(PAGE_REASONS, (url,), self.folder)
        assert allowed.fixed(FetchError, text) == text
        return text

    @property
    def values(self) -> set[int]:
        return {MD5.index(orjson.loads(line)["value"]) for line in (self.lines or b"").splitlines()}


@pytest.fixture
def reader(server: HashServer, tmp_path: Path) -> Reader:
    return Reader(server, tmp_path)


async def test_all_pages_of_a_window_are_fetched(server: HashServer, reader: Reader) -> None:
    arrived = await reader.pull()
    assert isinstance(arrived, Arrived)
    assert not arrived.continues
    assert reader.values == set(range(10))
    assert len(server.queries) == 4
    assert {(one["from"], one["to"]) for one in server.queries} == {(time_text(0), time_text(NOW - PAGES_DELAY))}


async def test_the_next_window_begins_a_little_before_the_end_of_the_last_one(
    server: HashServer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await reader.pull()
    assert isinstance(await reader.pull(), NotModified)
    server.put(item(3, NOW + 1, 33), SharedItem(42, "id4", NOW + 2, None), item(11, NOW - 300), item(12, NOW + 60))
    monkeypatch.setattr(pages, "now", lambda: NOW + 1000)
    arrived = await reader.pull()
    assert isinstance(arrived, Arrived)
    assert arrived.continues
    assert server.queries[0]["from"] == time_text(NOW - PAGES_DELAY - PAGES_OVERLAP)
    expected = set(range(10)) - {3, 4} | {33, 11, 12}
    assert reader.values == expected
    lines = reader.lines
    reader.validators = Validators(position=str(NOW - PAGES_DELAY))
    await reader.pull()
    assert reader.lines == lines, "a window that is seen twice changes nothing"


@pytest.mark.parametrize("uses", [0, 1, 2])
async def test_a_stale_link_begins_the_window_again(server: HashServer, reader: Reader, uses: int) -> None:
    server.link_uses = uses
    await reader.pull()
    assert server.refused == 1
    assert reader.values == set(range(10))
    assert len(server.queries) == 4 + 1 + uses


@pytest.mark.parametrize("page", [b"", b"<html></html>", b"<!DOCTYPE html><html></html>", b"<queryResult>", b"\0"])
async def test_a_further_page_that_is_none_is_an_error(server: HashServer, reader: Reader, page: bytes) -> None:
    server.page = page
    await reader.refused(f"a further page did not arrive, {MAX_WALKS} times")
    assert sum("start" not in one for one in server.queries) == MAX_WALKS


async def test_a_window_of_which_a_page_fails_moves_no_position(server: HashServer, reader: Reader) -> None:
    await reader.pull()
    before = reader.validators
    server.put(*(item(number, NOW - 200, number + 20) for number in range(10)))
    server.page = b""
    await reader.refused("a further page did not arrive")
    server.page = None
    assert reader.validators == before
    await reader.pull()
    assert reader.values == set(range(20, 30))


@pytest.mark.parametrize(
    "link",
    [
        "https://other.example/v2/entries?start=3",
        "http://127.0.0.1:1/v2/entries?start=3",
        "//other.example/v2/entries",
        "file:///etc/passwd",
        "http://[::1",
        "javascript:1",
        "a link",
        "http://127.0.0.1:99999/",
    ],
)
async def test_a_link_to_another_origin_is_not_followed(server: HashServer, reader: Reader, link: str) -> None:
    server.next = link
    text = await reader.refused("a link to (another origin|a text that is no URL)")
    assert "other.example" not in text
    assert len(server.queries) == 1


async def test_links_in_a_circle_are_an_error(server: HashServer, reader: Reader) -> None:
    server.next = f"/v2/entries?from={time_text(0)}&to={time_text(NOW)}&start=3"
    await reader.refused("lead in a circle")


async def test_an_empty_page_with_a_link_is_followed(server: HashServer, reader: Reader) -> None:
    for link in ("/v2/entries", "/hashsharing/v2/entries", "entries", f"{server.url}/v2/entries", ""):
        server.once = document([], f"{link}?from={time_text(0)}&to={time_text(NOW - PAGES_DELAY)}&start=3&x={link}")
        reader.validators = Validators()
        await reader.pull()
        assert reader.values == set(range(10)), link
        assert len(server.queries) == 5


async def test_more_pages_than_allowed_are_an_error(
    server: HashServer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGES", 3)
    await reader.refused("more than 3 pages")
    monkeypatch.setattr(pages, "MAX_PAGES", 4)
    await reader.pull()


async def test_all_pages_count_as_one_body(server: HashServer, reader: Reader) -> None:
    with pytest.raises(FetchError, match="raise `max_bytes`"):
        await reader.pull(max_bytes=1500)


async def test_a_page_that_is_too_large_is_an_error(
    server: HashServer, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE", 500)
    await reader.refused("a page of more than 500 bytes")


async def test_the_first_page_has_the_error_of_the_server(server: HashServer, reader: Reader, tmp_path: Path) -> None:
    await reader.refused("status 401: expected 200, check `auth`", headers={})
    await reader.refused("status 404: expected 200, check `url`", url=f"{server.url}/v3/entries")
    await reader.refused("Connection refused", url="http://127.0.0.1:1/v2/entries")
    await reader.refused("does not resolve", url="https://hashes.invalid/v2/entries")


async def test_the_server_of_the_pages_is_known(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "hashes")
    async with HashServer(tls=context_of(certificate, key)).serve() as server:
        server.put(item(1))
        arrived = await Reader(server, tmp_path).pull(ca=certificate)
    assert isinstance(arrived, Arrived)
    assert arrived.peer == peer_of_certificate(ssl.PEM_cert_to_DER_cert(certificate.read_text()))


async def test_an_authority_that_cant_be_read_is_named(reader: Reader, tmp_path: Path) -> None:
    url = "https://hashes.example/v2/entries"
    await reader.refused("its TLS files can't be read: check `ca`", url=url, ca=tmp_path / "none.pem")


async def test_a_position_of_another_form_is_not_used(server: HashServer, reader: Reader) -> None:
    reader.validators = Validators(position='{"complete":1}')
    arrived = await reader.pull()
    assert isinstance(arrived, Arrived)
    assert not arrived.continues

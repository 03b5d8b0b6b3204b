"""A log is read on from where it ended, and completely again when its end is another than it was."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from blocklistd.errors import FetchError
from blocklistd.jobs.runner import Jobs
from blocklistd.limits import LOG_OVERLAP, LOG_REREAD, MAX_LINE
from blocklistd.model import Fetched, NotModified, Validators
from blocklistd.sources.transports import log as log_module
from blocklistd.sources.transports import yearly
from blocklistd.sources.transports.fetch import fetch
from blocklistd.sources.transports.file import OpenedFile, open_list
from blocklistd.sources.transports.transport import Request, TransferMode
from tests.sim.files import FileServer

NO_JOBS = Jobs()
ROWS = [f'{{"v":"n{number}.example"}}\n'.encode() for number in range(1000)]
LOG = b"".join(ROWS)


@pytest_asyncio.fixture(loop_scope="function")
async def server(tmp_path: Path) -> AsyncIterator[FileServer]:
    (tmp_path / "served").mkdir()
    async with FileServer(tmp_path / "served").serve() as found:
        yield found


class Clock:
    """The time of the transports, which a test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(yearly, "now", lambda: found.now)
    monkeypatch.setattr(log_module, "now", lambda: found.now)
    return found


class Reader:
    """Pulls a log as the daemon does, and keeps what it read, `log`. `continued`: of the last pull."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.validators = Validators()
        self.log = b""
        self.length = 0
        self.continued = False

    async def pull(self, **changes: Any) -> bytes | None:
        """The body that arrived; None if the log was not modified."""
        request = Request(
            self.url, None, 10.0, 1 << 20, validators=self.validators, transfer=TransferMode.LOG, **changes
        )
        found = await fetch(request, self.folder, NO_JOBS)
        if isinstance(found, NotModified):
            return None
        assert isinstance(found, Fetched)
        body = found.body.read_bytes()
        self.continued = found.continues
        self.validators = found.validators
        complete_lines = self.log[: self.log.rfind(b"\n") + 1]
        self.log = complete_lines + body if found.continues else body
        return body


Make = Callable[[str], Reader]


@pytest.fixture
def reader(server: FileServer, tmp_path: Path) -> Make:
    return lambda path: Reader(f"{server.url}/{path}", tmp_path)


@pytest.mark.parametrize("has_etags", [True, False])
async def test_a_log_is_read_on(server: FileServer, reader: Make, has_etags: bool) -> None:
    server.has_etags = has_etags
    file, log = server.folder / "log", reader("log")
    file.write_bytes(LOG)
    assert await log.pull() == LOG
    assert not log.continued
    assert await log.pull() is None
    file.write_bytes(LOG + ROWS[0])
    assert await log.pull() == ROWS[0]
    assert log.continued
    assert log.log == file.read_bytes()
    assert await log.pull() is None
    assert max(seen.sent for seen in server.requests[1:]) <= LOG_OVERLAP + len(ROWS[0])


async def test_a_row_that_is_cut_is_read_again_from_its_beginning(server: FileServer, reader: Make) -> None:
    file, log = server.folder / "log", reader("log")
    for end in range(1, 3 * len(ROWS[0]), 5):
        file.write_bytes((b"".join(ROWS[:3]))[:end])
        await log.pull()
        assert log.log == file.read_bytes()
    file.write_bytes(LOG + ROWS[1][:5])
    await log.pull()
    file.write_bytes(LOG + ROWS[1] + ROWS[2])
    assert await log.pull() == ROWS[1] + ROWS[2]


@pytest.mark.parametrize("start", [b"", ROWS[0], LOG])
@pytest.mark.parametrize(
    "now",
    [LOG[: len(LOG) // 2], ROWS[5], LOG.replace(b"n999.", b"x999."), LOG.replace(b"n999.", b"x999.") + ROWS[3], b"{"],
    ids=["shorter", "short", "other", "other-and-longer", "cut"],
)
@pytest.mark.parametrize("has_ranges", [True, False])
async def test_a_rewritten_log_is_read_completely(
    server: FileServer, reader: Make, start: bytes, now: bytes, has_ranges: bool
) -> None:
    server.has_ranges = has_ranges
    file, log = server.folder / "log", reader("log")
    file.write_bytes(start)
    await log.pull()
    file.write_bytes(now)
    await log.pull()
    assert log.log == now
    assert log.continued is now.startswith(start)


async def test_a_server_without_ranges_is_read_on(server: FileServer, reader: Make) -> None:
    server.has_ranges = False
    file, log = server.folder / "log", reader("log")
    file.write_bytes(LOG)
    await log.pull()
    assert await log.pull() is None
    file.write_bytes(LOG + ROWS[0])
    assert await log.pull() == ROWS[0]


async def test_the_complete_log_is_read_once_a_day(server: FileServer, reader: Make, clock: Clock) -> None:
    file, log = server.folder / "log", reader("log")
    file.write_bytes(LOG)
    await log.pull()
    file.write_bytes(ROWS[0].replace(b"n0", b"x0") + LOG[len(ROWS[0]) :])
    clock.now += timedelta(seconds=LOG_REREAD - 1)
    assert await log.pull() is None
    clock.now += timedelta(seconds=2)
    assert await log.pull() == file.read_bytes()
    assert not log.continued


async def test_a_log_in_which_it_cant_be_read_on_is_read_completely(server: FileServer, reader: Make) -> None:
    import gzip

    for content in (gzip.compress(LOG), LOG + b"x" * (MAX_LINE + 1)):
        log = reader("log")
        (server.folder / "log").write_bytes(content)
        await log.pull()
        assert log.validators.position is None
        assert await log.pull() == content


@pytest.mark.parametrize("position", ["", "{}", "null", '{"complete":1,"newest":null,"last_year":null}', "[1]"])
async def test_a_position_of_another_form_is_not_used(server: FileServer, reader: Make, position: str) -> None:
    log = reader("log")
    (server.folder / "log").write_bytes(LOG)
    log.validators = Validators(position=position)
    assert await log.pull() == LOG


# -- a file for each year ----------------------------------------------------------------------------------------------


def write(server: FileServer, year: int, content: bytes) -> None:
    (server.folder / f"actions_{year}.log").write_bytes(content)


async def test_the_files_of_all_years_are_read_in_their_order(server: FileServer, reader: Make) -> None:
    for year, content in ((2022, b"too old\n"), (2024, ROWS[0]), (2025, ROWS[1][:-1]), (2026, ROWS[2])):
        write(server, year, content)
    log = reader("actions_{year}.log")
    assert await log.pull() == ROWS[0] + ROWS[1] + ROWS[2]
    assert await log.pull() is None
    write(server, 2026, ROWS[2] + ROWS[3])
    assert await log.pull() == ROWS[3]


async def test_a_new_year(server: FileServer, reader: Make, clock: Clock) -> None:
    log = reader("actions_{year}.log")
    write(server, 2026, ROWS[0])
    clock.now = datetime(2026, 12, 31, 9, tzinfo=UTC)
    await log.pull()
    server.requests.clear()
    assert await log.pull() is None
    assert {seen.path for seen in server.requests} == {"/actions_2026.log"}, "nowhere is it 2027"

    clock.now = datetime(2026, 12, 31, 11, tzinfo=UTC)
    write(server, 2026, ROWS[0] + ROWS[1])
    assert await log.pull() == ROWS[1], "there is no file of 2027 yet"

    write(server, 2026, ROWS[0] + ROWS[1] + ROWS[2])
    write(server, 2027, ROWS[3])
    assert await log.pull() == b"".join(ROWS[:4]), "the rest of the last year comes first"
    write(server, 2027, ROWS[3] + ROWS[4])
    assert await log.pull() == ROWS[4]

    clock.now = datetime(2027, 1, 1, 3, tzinfo=UTC)
    write(server, 2026, ROWS[0] + ROWS[1] + ROWS[2] + ROWS[9])
    assert await log.pull() == ROWS[0] + ROWS[1] + ROWS[2] + ROWS[9] + ROWS[3] + ROWS[4], "a late row of 2026"
    assert await log.pull() is None

    clock.now = datetime(2027, 1, 9, tzinfo=UTC)
    await log.pull()
    server.requests.clear()
    assert await log.pull() is None
    assert {seen.path for seen in server.requests} == {"/actions_2027.log"}


async def test_the_file_of_this_year_may_come_late(server: FileServer, reader: Make, clock: Clock) -> None:
    clock.now = datetime(2027, 1, 1, 3, tzinfo=UTC)
    log = reader("actions_{year}.log")
    write(server, 2026, ROWS[0])
    assert await log.pull() == ROWS[0]
    assert await log.pull() is None
    write(server, 2027, ROWS[1])
    assert await log.pull() == ROWS[0] + ROWS[1]


async def test_no_file_of_a_year_is_an_error(server: FileServer, reader: Make) -> None:
    write(server, 2024, ROWS[0])
    with pytest.raises(FetchError, match="neither a file of 2026 nor one of 2025: expected one, check `url`"):
        await reader("actions_{year}.log").pull()


async def test_a_file_that_is_no_longer_there_is_an_error(server: FileServer, reader: Make) -> None:
    log = reader("actions_{year}.log")
    write(server, 2026, ROWS[0])
    await log.pull()
    (server.folder / "actions_2026.log").unlink()
    with pytest.raises(FetchError, match="status 404"):
        await log.pull()


async def test_files_of_this_machine_are_read_completely(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    log = Reader((folder / "actions_{year}.log").as_uri(), tmp_path)
    with pytest.raises(FetchError, match="neither a file of 2026 nor one of 2025"):
        await log.pull()
    (folder / "actions_2025.log").write_bytes(ROWS[0][:-1])
    (folder / "actions_2026.log").write_bytes(ROWS[1])
    assert await log.pull() == ROWS[0] + ROWS[1]
    assert await log.pull() is None
    clock.now = datetime(2027, 1, 1, 3, tzinfo=UTC)
    assert await log.pull() is None
    (folder / "actions_2027.log").write_bytes(ROWS[2])
    assert await log.pull() == ROWS[0] + ROWS[1] + ROWS[2]
    assert not log.continued


async def test_a_file_of_this_machine_that_cant_be_opened_leaves_none_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Reader((tmp_path / "actions_{year}.log").as_uri(), tmp_path)
    (tmp_path / "actions_2025.log").write_bytes(ROWS[0])
    os.mkfifo(tmp_path / "actions_2026.log")
    opened: list[OpenedFile] = []

    def opening(url: str) -> OpenedFile:
        opened.append(open_list(url))
        return opened[-1]

    monkeypatch.setattr(yearly, "open_list", opening)
    with pytest.raises(FetchError, match="not a regular file"):
        await log.pull()
    assert [one.file.closed for one in opened] == [True]

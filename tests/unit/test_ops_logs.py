"""The formats of the log, and that an error's text is not in it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from blocklistd.errors import StoreError
from blocklistd.events import Event
from blocklistd.ops.logs import JsonLines, formatter
from blocklistd.ops.loop import log_unhandled, run_steps

MARK = "zq7secret"


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("blocklistd.x", logging.WARNING, "x.py", 1, message, (), None)


def test_a_line_is_an_object_whatever_the_message_holds() -> None:
    for message in ("a\nb", 'quote " and \\', "caf\xe9 \u2028", "/drop/caf\udce9.txt", "\0\x1b[31m"):
        line = JsonLines().format(record(message))
        assert "\n" not in line
        assert json.loads(line)["level"] == "warning"


class Kept(logging.Handler):
    """Keeps the records, where pytest does not: its report of a test has no place for every file name."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def test_an_event_has_its_name_and_its_fields_as_keys() -> None:
    log, kept = logging.Logger("blocklistd.x"), Kept()
    log.addHandler(kept)
    Event.DELTAS_LOST.log(log, list="national", versions=[2, 3])
    Event.CLIENT_REFUSED.log(
        log, protocol="feed", address="192.0.2.1", subscriber=None, reason=Path("caf\udce9"), suppressed=3
    )
    lost, refused = (json.loads(JsonLines().format(found)) for found in kept.records)
    assert [*lost] == ["time", "level", "logger", "event", "message", "list", "versions"]
    assert (lost["event"], lost["level"], lost["list"], lost["versions"]) == (
        "deltas_lost",
        "error",
        "national",
        [2, 3],
    )
    assert "subscriber" not in refused
    assert (refused["suppressed"], refused["reason"]) == (3, "caf\\udce9")
    assert refused["message"] == (
        "feed: 192.0.2.1 was refused: caf\\udce9 (3 more were refused since the last such line)"
    )
    with_error = logging.LogRecord("blocklistd.x", logging.ERROR, "x.py", 1, "text", (), None)
    assert "event" not in json.loads(JsonLines().format(with_error)), "a library's record has none"


def test_auto_is_the_journal_only_where_the_stream_is_the_journals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "log", "w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert formatter("auto", stream).format(record("text")) == "<4>blocklistd.x: text"
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")  # a session's, inherited
        assert json.loads(formatter("auto", stream).format(record("text")))["message"] == "text"


async def test_an_error_that_no_task_waits_for_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_unhandled)

    async def fail() -> None:
        raise ValueError(MARK)

    task = asyncio.ensure_future(fail())
    await asyncio.wait([task])
    del task
    for _ in range(3):
        await asyncio.sleep(0)
    assert "ValueError" in caplog.text
    assert MARK not in caplog.text
    assert "test_ops_logs.py" in caplog.text, "where it was"
    log_unhandled(loop, {"message": "Task was destroyed but it is pending!"})
    assert "destroyed" in caplog.text
    assert sys.exc_info() == (None, None, None)


async def test_only_an_unexpected_error_of_a_step_has_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def known() -> None:
        raise StoreError("the disk is full: free space there")

    async def unexpected() -> None:
        raise ValueError(MARK)

    await run_steps(known, unexpected)
    first, second = caplog.records
    assert (first.exc_info, "the disk is full" in first.getMessage()) == (None, True)
    assert second.exc_info is not None
    assert MARK not in JsonLines().format(second)

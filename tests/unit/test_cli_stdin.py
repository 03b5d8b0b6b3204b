"""An entry on stdin: one line, bounded, never repeated in an error."""

from __future__ import annotations

import io
import os
import sys

import pytest

from blocklistd.cli.stdin import read_line
from blocklistd.daemon.commands.entry_text import ENTRY, entry_text
from blocklistd.errors import RefusedError
from blocklistd.limits import MAX_ENTRY_TEXT


class Stdin(io.TextIOWrapper):
    """stdin with this content; a pipe, as it has no descriptor of a terminal."""

    def __init__(self, content: bytes) -> None:
        self.read_end, write_end = os.pipe()
        os.write(write_end, content)
        os.close(write_end)
        super().__init__(open(self.read_end, "rb"))  # noqa: SIM115 - the wrapper closes it


@pytest.mark.parametrize("content", [b"bad.example", b"bad.example\n", b"  bad.example \r\n", b"\nbad.example\n\n"])
def test_one_line_is_the_entry(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with Stdin(content) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert read_line(ENTRY) == "bad.example"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "stdin is empty"),
        (b" \n\n", "stdin is empty"),
        (b"bad.example\nworse.example\n", "several lines"),
        (b"bad.example" * 800, "too long"),
        (b"\xffbad.example", "not UTF-8"),
    ],
)
def test_anything_else_is_refused_without_repeating_it(
    content: bytes, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stdin(content) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(RefusedError, match=expected) as error:
            read_line(ENTRY)
    assert "bad" not in str(error.value)
    assert error.value.__context__ is None


def test_a_terminal_is_asked_with_a_prompt_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, terminal = os.openpty()
    os.write(master, b"bad.example\n")
    with open(terminal, "rb") as raw, io.TextIOWrapper(raw) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert read_line(ENTRY) == "bad.example"
    os.close(master)
    shown = capsys.readouterr()
    assert "then Enter" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("value", [None, 3, "", " ", "a\nb", "a" * (MAX_ENTRY_TEXT + 1), "\ud800"])
def test_the_daemon_checks_the_text_again(value: object) -> None:
    with pytest.raises(RefusedError):
        entry_text(value)


@pytest.mark.parametrize("length", [4095, 4096, 9000])
def test_a_line_that_a_terminal_may_have_cut_is_refused(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = os.openpty()
    os.write(master, b"https://bad.example/".ljust(length, b"x") + b"\n")
    with open(terminal, "rb") as raw, io.TextIOWrapper(raw) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(RefusedError, match="send it by a pipe") as error:
            read_line(ENTRY)
    os.close(master)
    assert "bad" not in str(error.value)

"""Reads the entry of a command from stdin: one line. Errors never repeat it."""

from __future__ import annotations

import os
import sys
from typing import Final

import click

from blocklistd.daemon.commands.command import Argument
from blocklistd.errors import RefusedError
from blocklistd.language.context import N_, _
from blocklistd.limits import MAX_ENTRY_TEXT

_TERMINAL: Final = 4095
"""Bytes of a line that a terminal passes on (MAX_CANON, termios(3)): it drops the rest."""
_PROMPT: Final = N_("Entry (a URL, a name, a hash or an id e-…), then Enter: ")


def read_line(argument: Argument) -> str:
    """The value of the argument, checked by its `read`. Raises RefusedError unless stdin has exactly one line in UTF-8
    of at most MAX_ENTRY_TEXT bytes."""
    stdin = sys.stdin.buffer
    if os.isatty(stdin.fileno()):
        click.echo(_(_PROMPT), err=True, nl=False)
        raw = stdin.readline(MAX_ENTRY_TEXT + 2)  # a terminal has no end: one line is the whole
        if len(raw.rstrip(b"\n")) >= _TERMINAL:
            raise RefusedError(f"a terminal passes on at most {_TERMINAL} bytes of a line: send it by a pipe")
    else:
        raw = stdin.read(MAX_ENTRY_TEXT + 2)
    lines = [line for line in raw.splitlines() if line.strip()]
    if not lines:
        raise RefusedError("stdin is empty: expected one line with an entry, or with its id (e-…)")
    if len(raw.rstrip(b"\r\n")) > MAX_ENTRY_TEXT:
        raise RefusedError(f"the text on stdin is too long: expected at most {MAX_ENTRY_TEXT} bytes")
    if len(lines) > 1:
        raise RefusedError("stdin has several lines: expected one entry: run the command once for each")
    try:
        text = lines[0].decode()
    except UnicodeDecodeError:
        text = None
    if text is None:  # outside of the except block: the traceback would contain the text
        raise RefusedError("the text on stdin is not UTF-8: expected one entry, or its id (e-…)")
    return str(argument.read(text))

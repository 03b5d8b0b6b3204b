"""`list versions | diff`."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, BinaryIO, Final

from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Document, Exit, Values, number, word
from blocklistd.daemon.commands.text import table

LIST: Final = Argument("list", metavar="LIST", read=word)


def _versions(made: Document, values: Values) -> None:
    table(
        ("VERSION", "TIME", "ENTRIES", "ADDED", "REMOVED", "RELEASED BY"),
        [(v["version"], v["time"], v["entries"], v["added"], v["removed"], v["released_by"]) for v in made],
        optional=("ENTRIES",),
    )


def _not_on_a_terminal(values: Values) -> Exit | None:
    if os.isatty(1) and not values["show_entries"]:
        return Exit(
            1, "a diff contains listed entries: add --show-entries to print it on a terminal, or redirect it to a file"
        )
    return None


def _diff(response: Any, values: Values) -> None:
    out = Array(sys.stdout.buffer) if values["json"] else sys.stdout.buffer
    shutil.copyfileobj(response, out)
    if isinstance(out, Array):
        out.close()
    sys.stdout.buffer.flush()


class Array:
    """Writes a stream of NDJSON as one JSON array. Call `write` for each chunk, then `close`."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._before = b"["

    def write(self, data: bytes, /) -> None:
        """Writes a chunk of NDJSON. A newline at its end is written with the next chunk, as `,` and newline."""
        lines = data.removesuffix(b"\n")
        self._out.write(self._before + lines.replace(b"\n", b",\n"))
        self._before = b",\n" if lines != data else b""

    def close(self) -> None:
        """Ends the array. The underlying file stays open."""
        self._out.write(b"[]\n" if self._before == b"[" else b"]\n")


COMMANDS: Final = (
    Command(
        "list versions",
        "List the versions of a list. Prints time, entries, added, removed, and who released each.",
        OPERATOR,
        lambda daemon, call: daemon.lists.versions(call["list"]),
        _versions,
        (LIST,),
    ),
    Command(
        "list diff",
        "Print the diff from version A to version B. It is NDJSON; with --json, one JSON array.",
        OPERATOR,
        lambda daemon, call: daemon.lists.diff(call["list"], call["from"], call["to"]),
        _diff,
        (
            LIST,
            Argument("from", metavar="A", read=number),
            Argument("to", metavar="B", read=number),
            Argument("show_entries", "Print the entries on a terminal, too.", "--show-entries", flag=True, local=True),
        ),
        copied=True,
        check=_not_on_a_terminal,
    ),
)

"""`list versions | diff`."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, BinaryIO, Final

from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Document, Ending, Values, number, word
from blocklistd.daemon.commands.text import table

LIST: Final = Argument("list", metavar="LIST", read=word)


def _versions(made: Document, values: Values) -> None:
    table(
        ("VERSION", "TIME", "ENTRIES", "ADDED", "REMOVED", "RELEASED BY"),
        [(v["version"], v["time"], v["entries"], v["added"], v["removed"], v["released_by"]) for v in made],
        least=("ENTRIES",),
    )


def _not_on_a_terminal(values: Values) -> Ending | None:
    if os.isatty(1) and not values["show_entries"]:
        return Ending(1, "this prints listed entries on a terminal: add --show-entries, or redirect it to a file")
    return None


def _diff(response: Any, values: Values) -> None:
    out = Array(sys.stdout.buffer) if values["json"] else sys.stdout.buffer
    shutil.copyfileobj(response, out)
    if isinstance(out, Array):
        out.close()
    sys.stdout.buffer.flush()


class Array:
    """Lines of NDJSON as one JSON document, as they come."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._before = b"["

    def write(self, data: bytes, /) -> None:
        """The newline at the end waits until it is known whether another line follows."""
        lines = data.removesuffix(b"\n")
        self._out.write(self._before + lines.replace(b"\n", b",\n"))
        self._before = b",\n" if lines != data else b""

    def close(self) -> None:
        self._out.write(b"[]\n" if self._before == b"[" else b"]\n")


COMMANDS: Final = (
    Command(
        "list versions",
        "Every version: when, how many came and went, who released it.",
        OPERATOR,
        lambda daemon, call: daemon.lists.versions(call["list"]),
        _versions,
        (LIST,),
    ),
    Command(
        "list diff",
        "The exact difference as NDJSON; with --json, the same as one array.",
        OPERATOR,
        lambda daemon, call: daemon.lists.diff(call["list"], call["from"], call["to"]),
        _diff,
        (
            LIST,
            Argument("from", metavar="A", read=number),
            Argument("to", metavar="B", read=number),
            Argument(
                "show_entries", "Also on a terminal, where others may look on.", "--show-entries", flag=True, here=True
            ),
        ),
        copied=True,
        check=_not_on_a_terminal,
    ),
)

"""`list versions | diff`."""

from __future__ import annotations

import os
import sys
from typing import BinaryIO

import click

from blocklistd.cli.common import Session, common, table
from blocklistd.cli.failures import Failed


@click.group("list")
def command() -> None:
    """Versions of a list, and their differences."""


@command.command("versions")
@click.argument("name", metavar="LIST")
@common
def versions(session: Session, name: str) -> None:
    """Every version: when, how many came and went, who released it."""
    session.answer(
        session.ask("GET", "lists", name, "versions"),
        lambda made: table(
            ("VERSION", "TIME", "ENTRIES", "ADDED", "REMOVED", "RELEASED BY"),
            [(v["version"], v["time"], v["entries"], v["added"], v["removed"], v["released_by"]) for v in made],
        ),
    )


@command.command("diff")
@click.argument("name", metavar="LIST")
@click.argument("start", metavar="A", type=click.IntRange(min=1))
@click.argument("end", metavar="B", type=click.IntRange(min=1))
@click.option("--show-entries", is_flag=True, help="Also on a terminal, where others may look on.")
@common
def diff(session: Session, name: str, start: int, end: int, show_entries: bool) -> None:
    """The exact difference as NDJSON; with --json, the same as one array."""
    if os.isatty(1) and not show_entries:
        raise Failed("this prints listed entries on a terminal: add --show-entries, or redirect it to a file")
    from blocklistd.cli.control import path_of

    out = Array(sys.stdout.buffer) if session.json else sys.stdout.buffer
    with session.daemon() as daemon:
        daemon.stream(path_of("lists", name, "diff", str(start), str(end)), out)
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

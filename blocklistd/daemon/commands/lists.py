"""`list versions | diff | freeze | resume | rollback`."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from typing import Any, BinaryIO, Final

import click

from blocklistd.daemon.commands.candidate import WHY
from blocklistd.daemon.commands.command import (
    EDITOR,
    EXAMINER,
    OPERATOR,
    Argument,
    Command,
    Document,
    Exit,
    Values,
    number,
    word,
)
from blocklistd.daemon.commands.text import table
from blocklistd.language.context import _

LIST: Final = Argument("list", metavar="LIST", read=word)


def _versions(made: Document, values: Values) -> None:
    table(
        ("VERSION", "TIME", "ENTRIES", "ADDED", "REMOVED", "KIND", "RELEASED BY"),
        [
            (
                *(v["version"], v["time"], v["entries"], v["added"], v["removed"]),
                *(_(v.get("kind") or ""), v["released_by"]),
            )
            for v in made
        ],
        optional=("KIND", "ENTRIES"),
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


def _resumed(done: Document, values: Values) -> None:
    click.echo(_("{list}: resumed; version {version} is live", list=done["list"], version=done["version"]))


def _resumed_exit(done: Document, values: Values) -> Exit | None:
    if not done["candidates"]:
        return None
    return Exit(
        4,
        f"list {done['list']}: held for review: {', '.join(done['candidates'])}: run `blocklistd candidate list`",
    )


def _rolled_back(done: Document, values: Values) -> None:
    if done["version"] is not None:
        text = _(
            "{list}: version {version} with the content of version {to}: {added} added, {removed} removed, {changed} "
            "changed",
            **done,
        )
        click.echo(text)
    elif done["candidate"] is None:
        click.echo(_("{list}: no version was made: a rollback to version {to} changes nothing", **done))
    click.echo(_("the list is frozen: once the cause is gone, run `blocklistd list resume {list}`", list=done["list"]))


def _rolled_back_exit(done: Document, values: Values) -> Exit | None:
    if done["candidate"] is None:
        return None
    return Exit(
        4,
        f"list {done['list']}: {done['held']} entries of version {done['to']} are not live yet, held as "
        f"{done['candidate']} ({done['reason']}): run `blocklistd candidate show {done['candidate']}`",
    )


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
        "List the versions of a list. Prints time, entries, added, removed, the kind of change, and who released each.",
        OPERATOR,
        lambda daemon, call: daemon.lists.versions(call["list"]),
        _versions,
        (LIST,),
    ),
    Command(
        "list diff",
        "Print the diff from version A to version B. It is NDJSON; with --json, one JSON array.",
        EXAMINER,
        lambda daemon, call: daemon.lists.diff(call["list"], call["from"], call["to"], call.act),
        _diff,
        (
            LIST,
            Argument("from", metavar="A", read=number),
            Argument("to", metavar="B", read=number),
            Argument("show_entries", "Print the entries on a terminal, too.", "--show-entries", flag=True, local=True),
        ),
        copied=True,
        audited=True,
        check=_not_on_a_terminal,
    ),
    Command(
        "list freeze",
        "Freeze a list: nothing but corrections and rollbacks changes it until `list resume`. A pull then ends as "
        "held, without a candidate.",
        EDITOR,
        lambda daemon, call: daemon.lists.freeze(call["list"], call["why"], call.act),
        lambda done, values: click.echo(_("{list}: frozen until `blocklistd list resume {list}`", list=done["list"])),
        (LIST, WHY),
        changes=True,
    ),
    Command(
        "list resume",
        "End the freeze of a list. What its policy and its sources have by now is judged by the guards (exit 4: held).",
        EDITOR,
        lambda daemon, call: daemon.lists.resume(call["list"], call.act),
        _resumed,
        (LIST,),
        changes=True,
        end=_resumed_exit,
        json='`{"list","frozen","version","candidates":[ID…]}`.',
    ),
    Command(
        "list rollback",
        "Make a new version with the content of version N, and freeze the list. The delistings, embargoes and rules of "
        "today apply. What this removes is out at once; what it adds needs the guards and the release rule of the list "
        "(exit 4: held).",
        EDITOR,
        lambda daemon, call: daemon.lists.roll_back(call["list"], call["version"], call["why"], call.act),
        _rolled_back,
        (LIST, Argument("version", metavar="N", read=number), replace(WHY, required=False)),
        changes=True,
        end=_rolled_back_exit,
        json='`{"list","to","version","added","removed","changed","candidate","held","reason"}`. `version`: null if '
        "none was made. `held`: entries of `candidate`, which are not live yet.",
    ),
)

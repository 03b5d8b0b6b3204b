"""`source evidence`: lists the kept bodies of a source, or writes one."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any, Final

import click
import orjson

from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Exit, Values, word
from blocklistd.daemon.commands.source import SOURCE
from blocklistd.daemon.commands.text import table
from blocklistd.language.context import _, known

SHORT: Final = 16  # digits of a digest in the table


def _not_on_a_terminal(values: Values) -> Exit | None:
    if values["body"] and os.isatty(1) and not values["show_entries"]:
        return Exit(
            1, "a body contains listed entries: add --show-entries to print it on a terminal, or redirect it to a file"
        )
    return None


def _show(response: Any, values: Values) -> None:
    """Prints the list, or copies the bytes of a body."""
    if values["body"] is None and not values["json"]:
        _list(orjson.loads(response.read()))
        return
    shutil.copyfileobj(response, sys.stdout.buffer)
    if values["body"] is None:
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def _list(found: list[dict[str, Any]]) -> None:
    table(
        ("TIME", "OUTCOME", "BYTES", "SHA256", "SIGNED", "KEY", "PEER", "NAME", "PROBLEM"),
        [
            (
                *(one["time"], _outcome(one), one["bytes"], _short(one["sha256"]), one["signed"], _short(one["key"])),
                *(_short(one["peer"] and one["peer"]["public_key"]), one["name"], known(one["problem"] or "")),
            )
            for one in found
        ],
        optional=("PEER", "BYTES", "SIGNED", "SHA256", "KEY", "TIME"),
        coloured=("OUTCOME",),
    )
    if not found:
        click.echo(_("no body of this source is kept"), err=True)


def _outcome(one: dict[str, Any]) -> str:
    """The outcome of the pull; `refused` for a body that was not accepted, or the verdict alone."""
    return _(str(one["verdict"] if one["verdict"] == "refused" or one["outcome"] is None else one["outcome"]))


def _short(digest: str | None) -> str:
    return digest[:SHORT] if digest else ""


COMMANDS: Final = (
    Command(
        "source evidence",
        "List the kept bodies of a source: time, outcome, bytes on the disk, and the first digits of the digest, the "
        "key, and the TLS server's public key. With --body (role examiner; audited) write one body, as it arrived.",
        OPERATOR,
        lambda daemon, call: daemon.evidence.list_or_body(call["source"], call["body"], call.caller.roles, call.act),
        _show,
        (
            SOURCE,
            Argument("body", "Write the body with this name to stdout.", "--body", "NAME", word),
            Argument("show_entries", "Print the body on a terminal, too.", "--show-entries", flag=True, local=True),
        ),
        copied=True,
        check=_not_on_a_terminal,
    ),
)

"""`start-above`."""

from __future__ import annotations

from typing import Final

import click

from blocklistd.daemon.commands.command import ADMIN, Argument, Command, Document, Values, number


def _show(document: Document, values: Values) -> None:
    click.echo(f"a new session has begun; every version and serial is above {document['above']} from now on")


COMMANDS: Final = (
    Command(
        "start-above",
        "After a loss of state: a new session, all numbers above N.",
        ADMIN,
        lambda daemon, call: daemon.state.start_above(call["number"], call.act),
        _show,
        (Argument("number", metavar="N", read=number),),
        changes=True,
    ),
)

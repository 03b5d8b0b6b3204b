"""`alarms test`."""

from __future__ import annotations

from typing import Final

import click

from blocklistd.daemon.commands.command import ADMIN, Command, Document, Exit, Values
from blocklistd.language.context import _


def _show(document: Document, values: Values) -> None:
    for one in document["results"]:
        if one["delivered"]:
            click.echo(_("{way}: delivered", way=one["way"]))


def _end(document: Document, values: Values) -> Exit | None:
    failed = [f"{one['way']}: not delivered: {one['reason']}" for one in document["results"] if not one["delivered"]]
    return Exit(1, "\n".join(failed)) if failed else None


COMMANDS: Final = (
    Command(
        "alarms test",
        "Send a test alarm, which is marked as one, by each configured way. Exits with 1 if one failed.",
        ADMIN,
        lambda daemon, call: daemon.alarms.test(),
        _show,
        end=_end,
    ),
)

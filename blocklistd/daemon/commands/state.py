"""`reload`, `start-above`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from blocklistd.daemon.commands.command import ADMIN, Argument, Command, Document, Ending, Values, number
from blocklistd.errors import ConfigProblem


def _show(document: Document, values: Values) -> None:
    click.echo(f"a new session has begun: from now on every version and serial is above {document['above']}")


def _reloaded(document: Document, values: Values) -> None:
    if document["errors"]:
        return
    for one in document["changed"]:
        click.echo(f"{one['key']}: {one['change']}")
    if not document["changed"]:
        click.echo("reloaded: nothing changed")


def _reload_ending(document: Document, values: Values) -> Ending | None:
    if not document["errors"]:
        return None
    lines = [str(ConfigProblem(**one | {"file": Path(one["file"])})) for one in document["errors"]]
    return Ending(2, "\n".join(["the reload is refused, the running configuration stays:", *lines]))


COMMANDS: Final = (
    Command(
        "reload",
        "Read the configuration again and print the changed keys; or, if it is refused, print every error and exit 2.",
        ADMIN,
        lambda daemon, call: daemon.state.reload(call.act),
        _reloaded,
        changes=True,
        end=_reload_ending,
    ),
    Command(
        "start-above",
        "After a loss of state: begin a new session with all numbers above N.",
        ADMIN,
        lambda daemon, call: daemon.state.start_above(call["number"], call.act),
        _show,
        (Argument("number", metavar="N", read=number),),
        changes=True,
    ),
)

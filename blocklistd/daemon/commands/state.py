"""`reload`, `start-above`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from blocklistd.daemon.commands.command import ADMIN, Argument, Command, Document, Exit, Values, number
from blocklistd.daemon.commands.text import paragraph
from blocklistd.errors import ConfigProblem
from blocklistd.language.context import _, known


def _show(document: Document, values: Values) -> None:
    click.echo(_("a new session has begun: every new version and serial is above {number}", number=document["above"]))


def _reloaded(document: Document, values: Values) -> None:
    if document["errors"]:
        return
    for one in document["changed"]:
        click.echo(f"{one['key']}: {known(one['change'])}")
    if not document["changed"]:
        click.echo(_("reloaded: nothing changed"))
    if any(one["key"].startswith(("lists.", "sources.")) for one in document["changed"]):
        click.echo(_("if this changes what a list has, it may be held: see `blocklistd candidate list`"))
    for text in (*document.get("frozen", ()), *document.get("rejected", ())):
        paragraph(known(text))


def _reload_exit(document: Document, values: Values) -> Exit | None:
    if not document["errors"]:
        return None
    lines = [str(ConfigProblem(**one | {"file": Path(one["file"])})) for one in document["errors"]]
    return Exit(
        2,
        "\n".join(
            ["the reload was refused, the running configuration stays; correct these, then reload again:", *lines]
        ),
    )


COMMANDS: Final = (
    Command(
        "reload",
        "Read the configuration again. Prints the changed keys; if there are errors, prints each, keeps the running "
        "configuration and exits with 2.",
        ADMIN,
        lambda daemon, call: daemon.state.reload(call.act),
        _reloaded,
        changes=True,
        end=_reload_exit,
    ),
    Command(
        "start-above",
        "After a loss of state: begin a new session. Every new version and serial is above N.",
        ADMIN,
        lambda daemon, call: daemon.state.start_above(call["number"], call.act),
        _show,
        (Argument("number", metavar="N", read=number),),
        changes=True,
    ),
)

"""`source distrust`."""

from __future__ import annotations

import re
from typing import Any, Final

import click

from blocklistd.daemon.commands.candidate import WHY
from blocklistd.daemon.commands.command import EDITOR, Argument, Command, Document, Exit, Values, word
from blocklistd.daemon.commands.moments import past
from blocklistd.daemon.commands.source import SOURCE
from blocklistd.daemon.commands.text import table
from blocklistd.errors import RefusedError
from blocklistd.language.context import _, known, ngettext

MIN_DIGITS: Final = 8  # of a fingerprint: fewer are a typing error


def fingerprint(value: object) -> str:
    """Reads the first digits of a key's fingerprint. Raises RefusedError."""
    text = word(value).lower()
    if not re.fullmatch(f"[0-9a-f]{{{MIN_DIGITS},64}}", text):
        raise RefusedError(f"expected {MIN_DIGITS} to 64 hex digits, as `blocklistd source show` prints them")
    return text


def _show(done: Document, values: Values) -> None:
    source, key = done["source"], done["key"]
    click.echo(_("{source}: bodies of the key {key} are refused from now on", source=source, key=key))
    since, bodies = done["since"], done["bodies"]
    if done["restored"] is None:
        if not bodies:
            click.echo(_("nothing was taken back out: no body of the key since {since}", since=since))
            return
        click.echo(
            ngettext(
                "nothing was taken back out: the body of the key since {since} is not offered now",
                "nothing was taken back out: none of the {count} bodies of the key since {since} is offered now",
                bodies,
                since=since,
            )
        )
        return
    body = done["restored"]["body"]
    click.echo(
        ngettext(
            "since {since} it brought {count} body", "since {since} it brought {count} bodies", bodies, since=since
        )
    )
    if body:
        text = _(
            "the source now offers the {entries} entries of the body of {body}", entries=done["entries"], body=body
        )
        click.echo(text)
    else:
        click.echo(_("the source now offers no entries, as no earlier body is kept"))
    table(
        ("LIST", "OUTCOME", "CANDIDATE", "REASON"),
        [
            (name, _(one["outcome"]), one["candidate"], known(one["reason"] or ""))
            for name, one in done["lists"].items()
        ],
        coloured=("OUTCOME",),
    )


def _exit(done: Document, values: Values) -> Exit | None:
    lists: dict[str, dict[str, Any]] = done["lists"]
    failed = [f"list {name}: {one['reason']}" for name, one in lists.items() if one["outcome"] == "failed"]
    if failed:
        return Exit(1, f"the key is distrusted, but not every list was composed again: {'; '.join(failed)}")
    held = [one["candidate"] for one in lists.values() if one["outcome"] == "held"]
    if held:
        shown = " and ".join(f"`blocklistd candidate show {candidate}`" for candidate in held)
        return Exit(4, f"{done['source']} held: run {shown}: an approval takes back out what the key brought")
    return None


COMMANDS: Final = (
    Command(
        "source distrust",
        "Distrust a key of a source: its bodies are refused from now on. What they brought since a time is taken back "
        "out of the source's offer, and the change that this makes to each list is held (exit 4).",
        EDITOR,
        lambda daemon, call: daemon.distrust.distrust(
            call["source"], call["key"], call["since"], call["why"], call.act
        ),
        _show,
        (
            SOURCE,
            Argument(
                "key",
                f"Fingerprint of the key, or its first digits, at least {MIN_DIGITS}.",
                "--key",
                "FINGERPRINT",
                fingerprint,
                required=True,
            ),
            Argument(
                "since",
                "When the key was first used wrongly: a time like 2030-01-31T12:00:00Z, or how long ago, like 2d.",
                "--since",
                "T",
                past,
                required=True,
            ),
            WHY,
        ),
        changes=True,
        end=_exit,
    ),
)

"""`audit`, `audit verify`."""

from __future__ import annotations

from typing import Any, Final

import click

from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Document, Exit, Values, number
from blocklistd.daemon.commands.text import table
from blocklistd.language.context import _, ngettext
from blocklistd.limits import MAX_AUDIT_LINES

SHOWN: Final = 1000  # the default of --last


def _show(lines: Document, values: Values) -> None:
    table(
        ("TIME", "ACTOR", "ACTION", "OBJECT", "DETAIL"),
        [(_seconds(line["time"]), line["actor"], line["action"], line["object"], _detail(line)) for line in lines],
        wrapped=("TIME", "ACTOR", "ACTION", "OBJECT"),
    )


def _seconds(time: str) -> str:
    """The time without fractions; in two words, which a narrow terminal shows below each other."""
    return f"{time.partition('.')[0].replace('T', ' ')}Z"


def _detail(line: dict[str, Any]) -> dict[str, Any]:
    """The details without empty values; the reason that a person gave comes last."""
    given = [name for name, value in line["detail"].items() if value not in (None, "")]
    return {name: line["detail"][name] for name in sorted(given, key=lambda name: name == "why")}


def _verified(found: Document, values: Values) -> None:
    if found["wrong"] is None:
        click.echo(
            ngettext(
                "verified {count} line: each contains the hash of the line before it",
                "verified {count} lines: each contains the hash of the line before it",
                found["lines"],
            )
        )
        click.echo(_("last hash: {hash}", hash=found["hash"]))


def _verify_exit(found: Document, values: Values) -> Exit | None:
    return (
        None
        if found["wrong"] is None
        else Exit(1, f"the audit was changed: {found['wrong']}: compare it with a backup of the state_dir")
    )


COMMANDS: Final = (
    Command(
        "audit",
        "Show who did what and when. The oldest line is first.",
        OPERATOR,
        lambda daemon, call: daemon.audit.show(call["last"], call["before"]),
        _show,
        (
            Argument(
                "last",
                f"Show the newest N lines, at most {MAX_AUDIT_LINES} [{SHOWN}].",
                "--last",
                "N",
                number,
                default=SHOWN,
            ),
            Argument("before", "Show only lines before line N.", "--before", "N", number),
        ),
    ),
    Command(
        "audit verify",
        "Verify the hash chain of the audit. Exit 1: a line was changed, moved or removed.",
        OPERATOR,
        lambda daemon, call: daemon.audit.verify(),
        _verified,
        end=_verify_exit,
    ),
)

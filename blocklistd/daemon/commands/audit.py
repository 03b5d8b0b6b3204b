"""`audit`, `audit verify`."""

from __future__ import annotations

from typing import Any, Final

import click

from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Document, Ending, Values, number
from blocklistd.daemon.commands.text import table
from blocklistd.limits import MAX_AUDIT_LINES

SHOWN: Final = 1000  # lines, if --last does not say


def _show(lines: Document, values: Values) -> None:
    table(
        ("TIME", "ACTOR", "ACTION", "OBJECT", "DETAIL"),
        [(_seconds(line["time"]), line["actor"], line["action"], line["object"], _detail(line)) for line in lines],
    )


def _seconds(time: str) -> str:
    return f"{time.partition('.')[0]}Z"


def _detail(line: dict[str, Any]) -> dict[str, Any]:
    """What says nothing is left out; a person's words come last."""
    said = [name for name, value in line["detail"].items() if value not in (None, "")]
    return {name: line["detail"][name] for name in sorted(said, key=lambda name: name == "why")}


def _verified(found: Document, values: Values) -> None:
    if found["wrong"] is None:
        click.echo(f"{found['lines']} lines, each follows from the one before; the last has the hash {found['hash']}")


def _verify_ending(found: Document, values: Values) -> Ending | None:
    return None if found["wrong"] is None else Ending(1, f"the audit was changed: {found['wrong']}")


COMMANDS: Final = (
    Command(
        "audit",
        "Who did what, when; oldest first.",
        OPERATOR,
        lambda daemon, call: daemon.audit.show(call["last"], call["before"]),
        _show,
        (
            Argument(
                "last", f"How many lines, at most {MAX_AUDIT_LINES} [{SHOWN}].", "--last", "N", number, default=SHOWN
            ),
            Argument("before", "Only lines before line N.", "--before", "N", number),
        ),
    ),
    Command(
        "audit verify",
        "Whether a line was altered, moved, taken out or cut off (exit 1).",
        OPERATOR,
        lambda daemon, call: daemon.audit.verify(),
        _verified,
        end=_verify_ending,
    ),
)

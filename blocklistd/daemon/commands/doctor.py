"""The daemon's part of `doctor`, which is a command of the command line: cli/doctor.py."""

from __future__ import annotations

from typing import Final

from blocklistd.daemon.commands.command import ANYBODY, Command, Document, Values


def _show(document: Document, values: Values) -> None:
    """The command line shows it together with other facts."""


COMMANDS: Final = (
    Command(
        "status facts",
        "Facts that only the running daemon knows, for `doctor`.",
        ANYBODY,
        lambda daemon, call: daemon.doctor.facts(),
        _show,
        hidden=True,
    ),
)

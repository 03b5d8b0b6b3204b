"""`keys show`. (`keys init` needs no daemon: cli/keys.py.)"""

from __future__ import annotations

from typing import Final

from blocklistd.daemon.commands.command import ADMIN, Command, Document, Values
from blocklistd.daemon.commands.text import table


def _show(keys: Document, values: Values) -> None:
    table(("", ""), [(f"{role} {name}", value) for role, parts in keys.items() for name, value in parts.items()])


COMMANDS: Final = (
    Command(
        "keys show",
        "The root's version and expiry, and the online key's id.",
        ADMIN,
        lambda daemon, call: daemon.keys.show(),
        _show,
    ),
)

"""`keys show`. (`keys init` needs no daemon: cli/keys.py.)"""

from __future__ import annotations

import json
from typing import Final

import click

from blocklistd.daemon.commands.command import ADMIN, Argument, Command, Document, Values, yes_or_no
from blocklistd.daemon.commands.text import table


def _show(keys: Document, values: Values) -> None:
    if values["root"]:  # byte for byte the file that `keys init` wrote: compact, keys sorted
        click.echo(json.dumps(keys, separators=(",", ":"), sort_keys=True), nl=False)
        return
    table(
        ("", ""),
        [(f"{role} {name}".replace("_", " "), value) for role, parts in keys.items() for name, value in parts.items()],
    )


COMMANDS: Final = (
    Command(
        "keys show",
        "Show the trusted root and the online key. Prints the root's version and expiry and the key's id; with --root, "
        "root.json itself.",
        ADMIN,
        lambda daemon, call: daemon.keys.root() if call["root"] else daemon.keys.show(),
        _show,
        (
            Argument(
                "root",
                "Print root.json, the trusted root that subscribers start from.",
                "--root",
                read=yes_or_no,
                flag=True,
                default=False,
            ),
        ),
    ),
)

"""All commands of the daemon in one table. The control socket, the command line and docs/cli.md are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocklistd.daemon.commands import audit, candidate, keys, lists, source, state, status, subscriber
from blocklistd.daemon.commands.command import Command

COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for group in (status, source, candidate, lists, subscriber, state, keys, audit)
    for command in group.COMMANDS
}
"""The commands by name, in the order of the documentation."""

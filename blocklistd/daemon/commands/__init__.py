"""All commands of the daemon in one table. The control socket, the command line and docs/cli.md are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocklistd.daemon.commands import (
    alarms,
    audit,
    backup,
    candidate,
    candidate_show,
    distrust,
    doctor,
    due,
    entry,
    evidence,
    explain,
    keys,
    lists,
    node_report,
    report,
    source,
    source_test,
    state,
    status,
    subscriber,
    withheld,
)
from blocklistd.daemon.commands.command import Command

COMMANDS: Final[Mapping[str, Command]] = {
    command.name: command
    for group in (
        status,
        doctor,
        source,
        source_test,
        evidence,
        distrust,
        candidate,
        candidate_show,
        entry,
        due,
        explain,
        lists,
        withheld,
        report,
        subscriber,
        node_report,
        state,
        backup,
        keys,
        alarms,
        audit,
    )
    for command in group.COMMANDS
}
"""The commands by name, in the order of the documentation."""

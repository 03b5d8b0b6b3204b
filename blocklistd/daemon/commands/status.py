"""`status`."""

from __future__ import annotations

from typing import Any, Final

import click

from blocklistd.daemon.commands.command import ANYBODY, Command, Document, Values
from blocklistd.daemon.commands.text import age, counted, serial, table


def _show(status: Document, values: Values) -> None:
    table(
        ("LIST", "VERSION", "ENTRIES", "PUBLISHED", "WITHHELD"),
        [
            (name, one["version"], one["entries"], one["published"], counted(one.get("withheld", {})))
            for name, one in status["lists"].items()
        ],
    )
    if status["zones"]:
        click.echo()
        table(
            ("ZONE", "SERIAL", "RECORDS", "COVERED", "OMITTED"),
            [(n, z["serial"], z["records"], z["covered"], z["omitted"]) for n, z in status["zones"].items()],
        )
    click.echo()
    table(
        ("SOURCE", "OUTCOME", "ACCEPTED", "VERIFY", "REASON"),
        [_source(name, one) for name, one in status["sources"].items()],
    )
    if status["candidates"]:
        click.echo()
        table(
            ("HELD", "LIST", "ADDED", "REMOVED", "BECAUSE"),
            [
                (one["id"], one["list"], one["added"], one["removed"], "; ".join(r["guard"] for r in one["reasons"]))
                for one in status["candidates"]
            ],
        )
    if status["subscribers"]:
        click.echo()
        table(
            ("SUBSCRIBER", "LISTS", "ZONES", "REVOKED", "SEEN"),
            [
                (name, " ".join(one["lists"]), _zones(one), one["revoked"], one.get("seen"))
                for name, one in status["subscribers"].items()
            ],
        )
    for alarm in status.get("alarms", ()):
        click.secho(f"\n{alarm}", fg="red", err=True)


def _source(name: str, one: dict[str, Any]) -> tuple[object, ...]:
    accepted = age(one["age"]) + (" OVERDUE" if one["overdue"] else "") + (" FROZEN" if one["frozen"] else "")
    verify = one["verify"] + (", quarantine" if one["quarantine"] else "")
    return name, one["outcome"], accepted, verify, one["reason"]


def _zones(subscriber: dict[str, Any]) -> str:
    """Each zone with the serial of its secondary that is furthest behind; unsigned ones are the weaker."""
    shown = [f"{name} at {serial(zone['serial'])}" for name, zone in subscriber["zones"].items()]
    if wide := subscriber["wide"]:
        shown.append(f"(WIDE: unsigned by anybody in {', '.join(wide)})")
    elif subscriber["unsigned"]:
        shown.append("(weaker: unsigned by address)")
    return " ".join(shown)


COMMANDS: Final = (
    Command(
        "status",
        "Lists, sources and their age, held candidates, subscribers.",
        ANYBODY,
        lambda daemon, call: daemon.overview.status(),
        _show,
    ),
)

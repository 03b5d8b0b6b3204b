"""`status`."""

from __future__ import annotations

from typing import Any, Final

import click

from blocklistd.daemon.commands.command import ANYBODY, Command, Document, Values
from blocklistd.daemon.commands.text import age, counted, serial, since, table, until


def _show(status: Document, values: Values) -> None:
    table(
        ("LIST", "VERSION", "ENTRIES", "PUBLISHED", "WITHHELD"),
        [
            (name, one["version"], one["entries"], one["published"], counted(one.get("withheld", {})))
            for name, one in status["lists"].items()
        ],
        least=("ENTRIES",),
    )
    if status["zones"]:
        click.echo()
        table(
            ("ZONE", "SERIAL", "RECORDS", "COVERED", "OMITTED"),
            [(n, z["serial"], z["records"], z["covered"], z["omitted"]) for n, z in status["zones"].items()],
            least=("COVERED", "RECORDS"),
        )
    click.echo()
    table(
        ("SOURCE", "OUTCOME", "ACCEPTED", "NEXT", "VERIFY", "REASON"),
        [_source(name, one) for name, one in status["sources"].items()],
        least=("VERIFY", "NEXT"),
        coloured=("OUTCOME", "ACCEPTED", "VERIFY"),
    )
    if status["candidates"]:
        click.echo()
        table(
            ("HELD", "AGE", "LIST", "ADDED", "REMOVED", "BECAUSE"),
            [_held(one) for one in status["candidates"]],
            least=("AGE",),
            coloured=("HELD",),
        )
    if status["subscribers"]:
        click.echo()
        table(
            ("SUBSCRIBER", "REVOKED", "SEEN", "LISTS", "ZONES"),
            [
                (name, one["revoked"], _seen(one), " ".join(one["lists"]), _zones(one))
                for name, one in status["subscribers"].items()
            ],
            least=("SEEN",),
            folded=("LISTS",),
            coloured=("ZONES",),
        )
    for alarm in status.get("alarms", ()):
        click.secho(f"\n{alarm}", fg="red", err=True)


def _held(one: dict[str, Any]) -> tuple[object, ...]:
    because = "; ".join(reason["guard"] for reason in one["reasons"])
    return one["id"], since(one["created"]), one["list"], one["added"], one["removed"], because


def _source(name: str, one: dict[str, Any]) -> tuple[object, ...]:
    accepted = age(one["age"]) + (" OVERDUE" if one["overdue"] else "") + (" FROZEN" if one["frozen"] else "")
    verify = one["verify"] + (", quarantine" if one["quarantine"] else "")
    return name, one["outcome"], accepted, until(one.get("next_in")), verify, one["reason"]


def _seen(subscriber: dict[str, Any]) -> str:
    return since(subscriber["seen"]) if subscriber.get("seen") else ""


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

"""`status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from blocklistd.daemon.commands.command import ANYBODY, Call, Command, Document, Values
from blocklistd.daemon.commands.node_report import wrong_nodes
from blocklistd.daemon.commands.subscriber_text import old_credential
from blocklistd.daemon.commands.text import age, age_of, paragraph, serial, table, total, until

if TYPE_CHECKING:
    from blocklistd.daemon.operations import Operations


def _show(status: Document, values: Values) -> None:
    table(
        ("LIST", "VERSION", "ENTRIES", "PUBLISHED", "WITHHELD"),
        [
            (name, one["version"], one["entries"], one["published"], total(one.get("withheld", {})))
            for name, one in status["lists"].items()
        ],
        optional=("ENTRIES",),
    )
    for name, one in status["lists"].items():
        if frozen := one.get("frozen"):
            paragraph(f"list {name} has been frozen since {frozen['since']} by {frozen['user']}: {frozen['why']}")
        if (due := one.get("due")) and due["total"]:
            entries = f"{due['total']} entries are" if due["total"] > 1 else "one entry is"
            paragraph(f"list {name}: {entries} due, since {due['since']}: run `blocklistd entry due {name}`")
        if local := one.get("exceptions"):
            ends = f", the next one ends {local['next_end']}" if local["next_end"] else ""
            paragraph(f"list {name}: {local['in_force']} local exceptions are in force{ends}")
        if rejected := one.get("policy_rejected"):
            paragraph(
                f"list {name}: what is configured is not in force ({', '.join(rejected['keys'])}): "
                f"{rejected['user']} rejected candidate {rejected['candidate']}: {rejected['why']}"
            )
    if status["zones"]:
        click.echo()
        table(
            ("ZONE", "SERIAL", "RECORDS", "COVERED", "OMITTED"),
            [(n, z["serial"], z["records"], z["covered"], z["omitted"]) for n, z in status["zones"].items()],
            optional=("COVERED", "RECORDS"),
        )
    click.echo()
    table(
        ("SOURCE", "OUTCOME", "ACCEPTED", "NEXT", "VERIFY", "REASON"),
        [_source(name, one) for name, one in status["sources"].items()],
        optional=("VERIFY", "NEXT"),
        coloured=("OUTCOME", "ACCEPTED", "VERIFY"),
    )
    if status["candidates"]:
        click.echo()
        table(
            ("HELD", "AGE", "LIST", "ADDED", "REMOVED", "BECAUSE"),
            [_held(one) for one in status["candidates"]],
            optional=("AGE",),
            coloured=("HELD",),
        )
    if status["subscribers"]:
        click.echo()
        table(
            ("SUBSCRIBER", "REVOKED", "SEEN", "LISTS", "ZONES"),
            [
                (name, one["revoked"], _seen(one), _lists(one), _zones(one))
                for name, one in status["subscribers"].items()
            ],
            optional=("SEEN",),
            wrapped=("LISTS",),
            coloured=("ZONES",),
        )
    for name, one in status["subscribers"].items():
        for line in wrong_nodes(one) if not one["revoked"] else ():
            paragraph(f"{name}: {line}: run `blocklistd subscriber show {name}`")
        for old in one["old_keys"] if not one["revoked"] else ():
            click.echo(f"{name}: the old key {old['name']} is {old_credential(old)}")
        for old in one["old_tokens"] if not one["revoked"] else ():
            click.echo(f"{name}: the old token is {old_credential(old)}")
    if root := status.get("root"):
        click.echo(f"\nroot.json {root['version']} expires {root['expires']}, in {root['days_left']} days")
    for alarm in status.get("alarms", ()):
        click.secho(f"\n{alarm}", fg="red", err=True)
    for one in status.get("undelivered", ()):
        name = f"{one['alarm']} {one['subject']}".strip()
        text = f"\nnot delivered by {one['way']}: {name} ({one['state']}), {one['tries']} failed tries"
        click.secho(text + (f": {one['reason']}" if one["reason"] else ""), fg="red", err=True)


def _held(one: dict[str, Any]) -> tuple[object, ...]:
    because = "; ".join(reason["guard"] for reason in one["reasons"])
    return one["id"], age_of(one["created"]), one["list"], one["added"], one["removed"], because


def _source(name: str, one: dict[str, Any]) -> tuple[object, ...]:
    accepted = age(one["age"]) + (" OVERDUE" if one["overdue"] else "") + (" FROZEN" if one["frozen"] else "")
    verify = one["verify"] + (", quarantine" if one["quarantine"] else "")
    verify += "".join(f", distrusted key {key['key'][:8]}" for key in one.get("distrusted", ()))
    return name, one["outcome"], accepted, until(one.get("next_in")), verify, one["reason"]


def _seen(subscriber: dict[str, Any]) -> str:
    return age_of(subscriber["seen"]) if subscriber.get("seen") else ""


def _lists(subscriber: dict[str, Any]) -> str:
    """Each list, with the lowest version of the nodes that have sent a receipt for it."""
    found = subscriber["lists"].items()
    return " ".join(name if one.get("version") is None else f"{name} at {one['version']}" for name, one in found)


def _zones(subscriber: dict[str, Any]) -> str:
    """Each zone with the lowest serial of its secondaries, a note if transfers are unsigned, and the catalog."""
    shown = [f"{name} at {serial(zone['serial'])}" for name, zone in subscriber["zones"].items()]
    if wide := subscriber["wide"]:
        shown.append(f"(WIDE: unsigned for everybody in {', '.join(wide)})")
    elif subscriber["unsigned"]:
        shown.append("(weaker: unsigned, by address)")
    if catalog := subscriber.get("catalog"):
        shown.append(f"{catalog['name']} at {serial(catalog['serial'])}")
    return " ".join(shown)


async def _status(daemon: Operations, call: Call) -> Document:
    return {**await daemon.overview.status(), "undelivered": daemon.alarms.undelivered()}


COMMANDS: Final = (
    Command(
        "status",
        "Show lists, zones and serials, sources and their age, held candidates, subscribers, and active alarms.",
        ANYBODY,
        _status,
        _show,
    ),
)

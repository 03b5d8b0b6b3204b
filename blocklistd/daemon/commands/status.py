"""`status`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from blocklistd.daemon.commands.command import ANYBODY, Call, Command, Document, Values
from blocklistd.daemon.commands.keys import expiry
from blocklistd.daemon.commands.node_report import wrong_nodes
from blocklistd.daemon.commands.subscriber_text import old_credential
from blocklistd.daemon.commands.text import age, age_of, at, paragraph, table, total, until
from blocklistd.language.context import _, known, ngettext

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
            named = {"list": name, "since": frozen["since"], "user": frozen["user"], "why": frozen["why"]}
            paragraph(_("list {list} has been frozen since {since} by {user}: {why}", **named))
        if (due := one.get("due")) and due["total"]:
            paragraph(
                ngettext(
                    "list {list}: one entry is due, since {since}: run `blocklistd entry due {list}`",
                    "list {list}: {count} entries are due, since {since}: run `blocklistd entry due {list}`",
                    due["total"],
                    list=name,
                    since=due["since"],
                )
            )
        if local := one.get("exceptions"):
            text = _("list {list}: local exceptions in force: {count}", list=name, count=local["in_force"])
            if local["next_end"]:
                text = _("{text}, the next one ends {time}", text=text, time=local["next_end"])
            paragraph(text)
        if rejected := one.get("policy_rejected"):
            paragraph(
                _(
                    "list {list}: what is configured is not in force ({keys}): {user} rejected candidate {candidate}: "
                    "{why}",
                    list=name,
                    keys=", ".join(rejected["keys"]),
                    user=rejected["user"],
                    candidate=rejected["candidate"],
                    why=rejected["why"],
                )
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
            paragraph(_("{name}: {text}: run `blocklistd subscriber show {name}`", name=name, text=line))
        for old in one["old_keys"] if not one["revoked"] else ():
            named = {"name": name, "key": old["name"], "state": old_credential(old)}
            paragraph(_("{name}: the old key {key} is {state}", **named))
        for old in one["old_tokens"] if not one["revoked"] else ():
            paragraph(_("{name}: the old token is {state}", name=name, state=old_credential(old)))
    if root := status.get("root"):
        click.echo()
        click.echo(_("root.json {version} expires {expiry}", version=root["version"], expiry=expiry(root)))
    for alarm in status.get("alarms", ()):
        click.echo(err=True)
        paragraph(known(alarm), fg="red", err=True)
    for one in status.get("undelivered", ()):
        name = f"{one['alarm']} {one['subject']}".strip()
        text = ngettext(
            "not delivered by {way}: {alarm} ({state}), {count} failed try",
            "not delivered by {way}: {alarm} ({state}), {count} failed tries",
            one["tries"],
            way=one["way"],
            alarm=name,
            state=_(one["state"]),
        )
        click.echo(err=True)
        paragraph(text + (f": {known(one['reason'])}" if one["reason"] else ""), fg="red", err=True)


def _held(one: dict[str, Any]) -> tuple[object, ...]:
    because = "; ".join(reason["guard"] for reason in one["reasons"])
    return one["id"], age_of(one["created"]), one["list"], one["added"], one["removed"], because


def _source(name: str, one: dict[str, Any]) -> tuple[object, ...]:
    notes = [_(word) for word, key in (("OVERDUE", "overdue"), ("FROZEN", "frozen")) if one[key]]
    accepted = " ".join([age(one["age"]), *notes])
    verify = [one["verify"], *([_("quarantine")] if one["quarantine"] else [])]
    verify += [_("distrusted key {key}", key=key["key"][:8]) for key in one.get("distrusted", ())]
    outcome, reason = _(one["outcome"] or ""), known(one["reason"] or "")
    return name, outcome, accepted, until(one.get("next_in")), ", ".join(verify), reason


def _seen(subscriber: dict[str, Any]) -> str:
    return age_of(subscriber["seen"]) if subscriber.get("seen") else ""


def _lists(subscriber: dict[str, Any]) -> str:
    """Each list, with the lowest version of the nodes that have sent a receipt for it."""
    found = subscriber["lists"].items()
    return " ".join(name if one.get("version") is None else at(name, one["version"]) for name, one in found)


def _zones(subscriber: dict[str, Any]) -> str:
    """Each zone with the lowest serial of its secondaries, a note if transfers are unsigned, and the catalog."""
    shown = [at(name, zone["serial"]) for name, zone in subscriber["zones"].items()]
    if wide := subscriber["wide"]:
        shown.append(_("(WIDE: unsigned for everybody in {prefixes})", prefixes=", ".join(wide)))
    elif subscriber["unsigned"]:
        shown.append(_("(weaker: unsigned, by address)"))
    if catalog := subscriber.get("catalog"):
        shown.append(at(catalog["name"], catalog["serial"]))
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

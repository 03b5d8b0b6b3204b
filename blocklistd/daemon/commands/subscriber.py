"""`subscriber add | list | show | revoke`."""

from __future__ import annotations

from typing import Final

import click

from blocklistd.daemon.commands.command import (
    EDITOR,
    OPERATOR,
    Argument,
    Command,
    Document,
    Values,
    choice,
    word,
    yes_or_no,
)
from blocklistd.daemon.commands.text import age, serial, table

SUBSCRIBER: Final = Argument("id", metavar="ID", read=word)


def _added(done: Document, values: Values) -> None:
    lists, tsig = values["lists"], done["tsig"]
    click.echo(f"{done['token']}\n\nThe line above is the token of {done['id']}, shown this once.")
    if lists:
        url = done["url"]
        click.echo(
            f"With it in the file `token`, and root.json:\n\n"
            f"  printf 'Authorization: Bearer %s' \"$(cat token)\" | curl -s -H @- {url}/v1/lists/{lists[0]}\n"
            f"  blocklistd sync {url} {lists[0]} --root root.json --token-file token --dir DIR"
        )
    if values["zones"]:
        click.echo(f"\nIts TSIG key, shown this once:\n\n  {tsig['algorithm']}:{tsig['name']}:{tsig['secret']}")
    for name, text in done["config"].items():
        if values["software"] in (None, name):
            click.echo(f"\nFor {name}, to paste:\n\n{text}")


def _list(found: Document, values: Values) -> None:
    table(
        ("SUBSCRIBER", "LISTS", "ZONES", "CREATED", "BY", "REVOKED"),
        [
            (name, " ".join(s["lists"]), " ".join(s["zones"]), s["created"], s["created_by"], s["revoked"])
            for name, s in found.items()
        ],
    )


def _show(one: Document, values: Values) -> None:
    zones = one.pop("zones")
    rows = [(key, " ".join(v) if key == "lists" else v) for key, v in one.items() if v not in (None, {}, [])]
    for name, zone in zones.items():
        rows.append(("zone", f"{name} at {serial(zone['serial'])}"))
        for found in zone["secondaries"]:
            where, lag = f"{found['address']} at {serial(found['serial'])}", found["lag"]
            rows.append(("secondary", f"{where}{f', {age(lag)} behind' if lag else ''}, seen {found['seen']}"))
    table(("", ""), rows)


COMMANDS: Final = (
    Command(
        "subscriber add",
        "Register a subscriber. Its token and its key are printed once.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.add(call.values, call.act),
        _added,
        (
            SUBSCRIBER,
            Argument("lists", "Entitles to a list; may be repeated.", "--list", "LIST", word, many=True),
            Argument("zones", "Entitles to a zone; may be repeated.", "--zone", "ZONE", word, many=True),
            Argument("notify", "Tell this secondary of each change.", "--notify", "ADDRESS:PORT", word, many=True),
            Argument(
                "address",
                "Transfers from there go unsigned (Unbound can't sign).",
                "--address",
                "PREFIX",
                word,
                many=True,
            ),
            Argument(
                "wide",
                "An --address may be shorter than /24 (IPv6: /48).",
                "--wide",
                read=yes_or_no,
                flag=True,
                default=False,
            ),
            Argument(
                "algorithm",
                "hmac-sha256 or hmac-sha512.",
                "--tsig-algorithm",
                "ALGORITHM",
                word,
                default="hmac-sha256",
            ),
            Argument(
                "software", "Print this resolver's configuration only.", "--software", "bind", choice("bind"), here=True
            ),
        ),
        changes=True,
    ),
    Command(
        "subscriber list",
        "All subscribers.",
        OPERATOR,
        lambda daemon, call: daemon.subscribers.list(),
        _list,
    ),
    Command(
        "subscriber show",
        "One subscriber, and how far its secondaries are.",
        OPERATOR,
        lambda daemon, call: daemon.subscribers.show(call["id"]),
        _show,
        (SUBSCRIBER,),
    ),
    Command(
        "subscriber revoke",
        "From now on its token is unknown.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.revoke(call["id"], call.act),
        lambda done, values: click.echo(f"{done['id']}: revoked"),
        (SUBSCRIBER,),
        changes=True,
    ),
)

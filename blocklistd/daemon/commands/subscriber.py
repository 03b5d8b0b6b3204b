"""`subscriber add | list | show | revoke`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import click

from blocklistd.daemon.commands.command import (
    EDITOR,
    OPERATOR,
    Argument,
    Command,
    Document,
    Ending,
    Values,
    word,
    yes_or_no,
)
from blocklistd.daemon.commands.text import age, serial, table
from blocklistd.daemon.resolvers import TRIED, comment
from blocklistd.errors import RefusedError

SUBSCRIBER: Final = Argument("id", metavar="ID", read=word)


def _software(value: object) -> str:
    """Reads NAME or NAME:VERSION. Raises RefusedError."""
    name, colon, version = word(value).partition(":")
    if name not in TRIED or bool(colon) != bool(re.fullmatch(r"[0-9]+(\.[0-9]+)*", version)):
        raise RefusedError(f"expected one of {', '.join(TRIED)}, or with a version, like bind:9.18")
    return str(value)


def _check_software(values: Values) -> Ending | None:
    """Refuses an option --software that does not fit the others, before the subscriber is registered."""
    software = values["software"]
    if software and not values["zones"]:
        return Ending(2, "--software is for zones: expected a --zone as well")
    if software and software.startswith("unbound") and not values["address"]:
        return Ending(2, "Unbound can't sign: expected its address with --address as well")
    return None


def _added(done: Document, values: Values) -> None:
    """Prints the token for the lists. For the zones, prints the configuration to paste, with the key or the address."""
    if values["lists"]:
        _show_lists(done, values["lists"])
    if values["lists"] and values["zones"]:
        click.echo()
    if values["zones"]:
        _show_zones(done, values)


def _show_lists(done: Document, lists: Sequence[str]) -> None:
    click.echo(f"{done['token']}\n\nThe line above is the token of {done['id']}, shown this once.")
    url, private = done["url"], done.get("private_ca")
    curl, sync = (" --cacert ca.pem", " --ca ca.pem") if private else ("", "")
    files = "root.json, and the certificate of the feed's authority as ca.pem" if private else "and root.json"
    click.echo(f"With it in the file `token`, {files}:\n")
    header = "printf 'Authorization: Bearer %s' \"$(cat token)\""
    for name in lists:
        click.echo(f"  {header} | curl -sS{curl} -H @- {url}/v1/lists/{name}")
    for name in lists:
        click.echo(f"  blocklistd sync {url} {name} --root root.json --token-file token{sync} --dir {name}")


def _show_zones(done: Document, values: Values) -> None:
    tsig, addresses = done["tsig"], values["address"]
    if addresses:
        click.echo(
            f"{done['id']} is known by its address, unsigned: take care that nobody else has {' '.join(addresses)}"
        )
    else:
        click.echo(f"The TSIG key of {done['id']}, shown this once:\n")
        click.echo(f"  {tsig['algorithm']}:{tsig['name']}:{tsig['secret']}")
    name, _, version = (values["software"] or ("unbound" if addresses else "bind")).partition(":")
    text = done["config"].get(name)
    if text is None:
        return
    if version and version != TRIED[name]:
        text = f"{comment(name)} tried with {TRIED[name]}, not with {version}\n{text}"
    click.echo(f"\nFor {name}, to paste:\n\n{text}", nl=False)
    if not values["software"]:
        others = ", ".join(other for other in done["config"] if other != name)
        click.echo(f"\nFor others ({others}): docs/dns.md, or `--software` of `blocklistd subscriber add`.")


def _list(found: Document, values: Values) -> None:
    table(
        ("SUBSCRIBER", "CREATED", "BY", "REVOKED", "LISTS", "ZONES"),
        [
            (name, s["created"], s["created_by"], s["revoked"], " ".join(s["lists"]), " ".join(s["zones"]))
            for name, s in found.items()
        ],
        least=("BY", "CREATED"),
        folded=("LISTS",),
    )


def _show(one: Document, values: Values) -> None:
    zones = one.pop("zones")
    rows = [(key, " ".join(v) if key == "lists" else v) for key, v in one.items() if v not in (None, {}, [])]
    for name, zone in zones.items():
        rows.append(("zone", f"{name} at {serial(zone['serial'])}"))
        for found in zone["secondaries"]:
            rows.append(("secondary", _secondary(found)))
    table(("", ""), rows)


def _secondary(found: Document) -> str:
    """A secondary in a line: the serial that it holds, and the one that it was sent, where that is another."""
    held, sent, lag = found["serial"], found.get("sent"), found["lag"]
    parts = [f"{found['address']} at {serial(held)}"]
    if sent not in (None, held):
        parts.append(f"sent {sent}")
    if lag:
        parts.append(f"{age(lag)} behind")
    return ", ".join([*parts, f"seen {found['seen']}"])


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
                "software",
                f"Print the configuration of {', '.join(TRIED)}; without it, bind's, or unbound's with --address.",
                "--software",
                "NAME[:VERSION]",
                _software,
                here=True,
            ),
        ),
        changes=True,
        check=_check_software,
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

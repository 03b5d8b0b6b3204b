"""`subscriber add | list | show | rotate | revoke`."""

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
    Exit,
    Values,
    word,
    yes_or_no,
)
from blocklistd.daemon.commands.moments import duration, grace
from blocklistd.daemon.commands.text import age, serial, table
from blocklistd.daemon.resolvers import TESTED_VERSIONS, comment_marker
from blocklistd.errors import RefusedError

SUBSCRIBER: Final = Argument("id", metavar="ID", read=word)


def _software(value: object) -> str:
    """Reads the value of --software: NAME or NAME:VERSION, of at most 64 characters. Raises RefusedError."""
    name, colon, version = word(value).partition(":")
    if (
        len(str(value)) > 64
        or name not in TESTED_VERSIONS
        or bool(colon) != bool(re.fullmatch(r"[0-9]+(\.[0-9]+)*", version))
    ):
        raise RefusedError(f"expected one of {', '.join(TESTED_VERSIONS)}, or with a version, like bind:9.18")
    return str(value)


def _check_software(values: Values) -> Exit | None:
    """Refuses a --software that contradicts other options, before the subscriber is registered."""
    software = values["software"]
    if software and not values["zones"]:
        return Exit(2, "--software needs a zone: add --zone ZONE")
    if software and software.startswith("unbound") and not values["address"]:
        return Exit(2, "Unbound can't use TSIG: add its address with --address")
    return None


def _added(done: Document, values: Values) -> None:
    """Prints the token, if lists were given; if zones were given, the key or address and the configuration to paste."""
    if values["lists"]:
        _show_lists(done, values["lists"])
    if values["lists"] and values["zones"]:
        click.echo()
    if values["zones"]:
        _show_zones(done, values)


def _show_lists(done: Document, lists: Sequence[str]) -> None:
    click.echo(f"{done['token']}\n\nThe line above is the token of {done['id']}. It is shown only now: keep it.")
    url, private = done["url"], done.get("private_ca")
    curl, sync = (" --cacert ca.pem", " --ca ca.pem") if private else ("", "")
    files = "root.json, and the feed's certificate authority as ca.pem" if private else "and root.json"
    click.echo(f"With the token in the file `token`, {files}, run:\n")
    header = "printf 'Authorization: Bearer %s' \"$(cat token)\""
    for name in lists:
        click.echo(f"  {header} |\n    curl -sS{curl} -H @- {url}/v1/lists/{name}")
    for name in lists:
        click.echo(f"  blocklistd sync {url} {name} \\\n    --root root.json --token-file token{sync} --dir {name}")


def _show_zones(done: Document, values: Values) -> None:
    tsig, addresses = done["tsig"], values["address"]
    if addresses:
        click.echo(
            f"{done['id']} is identified by its address; transfers are unsigned.\n"
            f"Make sure that nobody else can use {' '.join(addresses)}."
        )
    else:
        click.echo(f"The TSIG key of {done['id']}. It is shown only now: keep it.\n")
        click.echo(f"  {tsig['algorithm']}:{tsig['name']}:{tsig['secret']}")
    name, _, version = (values["software"] or ("unbound" if addresses else "bind")).partition(":")
    text = done["config"].get(name)
    if text is None:
        return
    if version and version != TESTED_VERSIONS[name]:
        text = f"{comment_marker(name)} tested with version {TESTED_VERSIONS[name]}, not with {version}\n{text}"
    click.echo(f"\nPaste into the configuration of {name}:\n\n{text}", nl=False)
    if not values["software"]:
        others = ", ".join(other for other in done["config"] if other != name)
        click.echo(
            f"\nThe configurations of {others} are in docs/resolvers.md; the option --software prints one of them."
        )


def _rotated(done: Document, values: Values) -> None:
    """Prints what `add` prints, and until when the old token and key are valid."""
    software = values["software"] or done["software"]
    given = {"lists": done["lists"], "zones": done["zones"], "address": done["unsigned"], "software": software}
    _added(done, given)
    click.echo(
        f"\nThe old token and TSIG key of {done['id']} are valid until {done['until']}.\n"
        f"`blocklistd subscriber show {done['id']}` says when they were last used."
    )


def _identified_by(one: Document) -> str:
    """What identifies the secondaries of a subscriber."""
    names = ("address" if one["unsigned"] else "key", "certificate" if one["certs"] else "")
    return ", ".join(filter(None, names)) if one["zones"] else ""


def _list(found: Document, values: Values) -> None:
    table(
        ("SUBSCRIBER", "CREATED", "BY", "REVOKED", "LISTS", "IDENTIFIED BY", "ZONES"),
        [
            (
                *(name, s["created"], s["created_by"], s["revoked"]),
                *(" ".join(s["lists"]), _identified_by(s), " ".join(s["zones"])),
            )
            for name, s in found.items()
        ],
        optional=("BY", "CREATED", "IDENTIFIED BY"),
        wrapped=("LISTS",),
    )


def _show(one: Document, values: Values) -> None:
    zones, old_keys, old_tokens = (one.pop(key, []) for key in ("zones", "old_keys", "old_tokens"))
    rows = [
        (key.replace("_", " "), " ".join(v) if key in ("lists", "own_names", "keys", "certs") else v)
        for key, v in one.items()
        if v not in (None, {}, [])
    ]
    rows += [("old key", f"{key['name']}, {old_credential(key)}") for key in old_keys]
    rows += [("old token", old_credential(token)) for token in old_tokens]
    for name, zone in zones.items():
        rows.append(("zone", f"{name} at {serial(zone['serial'])}"))
        for found in zone["secondaries"]:
            rows.append(("secondary", _secondary(found)))
    table(("", ""), rows)


def old_credential(old: Document) -> str:
    """Until when a replaced key or token is valid, and its last use."""
    unused = "never used" if "name" in old else "not used since it was replaced"
    used = f"last used {old['used']}" if old["used"] else unused
    by = f" by {', '.join(old['secondaries'])}" if old.get("secondaries") else ""
    return f"valid until {old['until']}, {used}{by}"


def _secondary(found: Document) -> str:
    """One line about a secondary: the serial that it holds, and the last serial sent to it if that differs."""
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
        "Register a subscriber. Prints its token, its TSIG key and the configuration to paste, once.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.add(call.values, call.act),
        _added,
        (
            SUBSCRIBER,
            Argument("lists", "Grant this list; may be repeated.", "--list", "LIST", word, many=True),
            Argument("zones", "Grant this zone; may be repeated.", "--zone", "ZONE", word, many=True),
            Argument(
                "notify",
                "Send NOTIFY for each new serial to this secondary; may be repeated.",
                "--notify",
                "ADDRESS:PORT",
                word,
                many=True,
            ),
            Argument(
                "address",
                "Allow unsigned transfers to these addresses (Unbound can't use TSIG); may be repeated.",
                "--address",
                "PREFIX",
                word,
                many=True,
            ),
            Argument(
                "cert",
                "Identify the subscriber on TLS by the public key (SPKI) of this client certificate; may be repeated.",
                "--cert",
                "sha256:HEX",
                word,
                many=True,
            ),
            Argument(
                "wide",
                "Allow an --address prefix shorter than /24 (IPv6: /48).",
                "--wide",
                read=yes_or_no,
                flag=True,
                default=False,
            ),
            Argument(
                "own_names",
                "A name of the subscriber's own services, which no list may block; may be repeated.",
                "--own-name",
                "NAME",
                word,
                many=True,
            ),
            Argument(
                "algorithm",
                "Algorithm of the TSIG key: hmac-sha256 or hmac-sha512 [hmac-sha256].",
                "--tsig-algorithm",
                "ALGORITHM",
                word,
                default="hmac-sha256",
            ),
            Argument(
                "software",
                f"Print the configuration of {', '.join(TESTED_VERSIONS)} [bind; with --address: unbound].",
                "--software",
                "NAME[:VERSION]",
                _software,
            ),
        ),
        changes=True,
        check=_check_software,
    ),
    Command(
        "subscriber list",
        "List the subscribers with their lists and zones.",
        OPERATOR,
        lambda daemon, call: daemon.subscribers.list(),
        _list,
    ),
    Command(
        "subscriber show",
        "Show one subscriber and its secondaries' serials.",
        OPERATOR,
        lambda daemon, call: daemon.subscribers.show(call["id"]),
        _show,
        (SUBSCRIBER,),
    ),
    Command(
        "subscriber rotate",
        "Make a new token and a new TSIG key, and print them once. The old ones stay valid for a grace period.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.rotate(call["id"], duration(call["grace"]), call.act),
        _rotated,
        (
            SUBSCRIBER,
            Argument(
                "grace",
                "How long the old token and key stay valid; 0s ends them at once [7d].",
                "--grace",
                "DURATION",
                grace,
                default="7d",
            ),
            Argument(
                "software",
                f"Print the configuration of {', '.join(TESTED_VERSIONS)} [as registered].",
                "--software",
                "NAME[:VERSION]",
                _software,
                local=True,
            ),
        ),
        changes=True,
    ),
    Command(
        "subscriber revoke",
        "Revoke a subscriber. Its token and its TSIG key are refused at once.",
        EDITOR,
        lambda daemon, call: daemon.subscribers.revoke(call["id"], call.act),
        lambda done, values: click.echo(f"{done['id']}: revoked"),
        (SUBSCRIBER,),
        changes=True,
    ),
)

"""The texts of the subscriber commands."""

from __future__ import annotations

from collections.abc import Sequence

import click

from blocklistd.daemon.commands.command import Document, Values
from blocklistd.daemon.commands.moments import duration
from blocklistd.daemon.commands.text import age, serial, table
from blocklistd.daemon.profiles.request import SECRET
from blocklistd.daemon.profiles.versions import software_of


def show_added(done: Document, values: Values) -> None:
    """Prints the token, if lists were given; if zones were given, the key or address; the configuration to paste."""
    if values["lists"]:
        _show_lists(done, values["lists"])
    if values["lists"] and values["zones"]:
        click.echo()
    if values["zones"]:
        _show_key(done, values["address"])
    if values["zones"] or values["software"]:
        _show_config(done, values["software"], unsigned=bool(values["address"]))


def _show_lists(done: Document, lists: Sequence[str]) -> None:
    click.echo(f"{done['token']}\n\nThe line above is the token of {done['id']}. It is shown only now: keep it.")
    url, private = done["url"], done.get("private_ca")
    curl, sync = (" --cacert ca.pem", " --ca ca.pem") if private else ("", "")
    files = "root.json, and the feed's\ncertificate authority as ca.pem" if private else "and root.json"
    click.echo(f"With the token in the file `token`, {files}, run:\n")
    header = "printf 'Authorization: Bearer %s' \"$(cat token)\""
    for name in lists:
        click.echo(f"  {header} |\n    curl -sS{curl} -H @- {url}/v1/lists/{name}")
    for name in lists:
        click.echo(f"  blocklistd sync {url} {name} \\\n    --root root.json --token-file token{sync} --dir {name}")


def _show_key(done: Document, addresses: Sequence[str]) -> None:
    if addresses:
        click.echo(
            f"{done['id']} is identified by its address; transfers are unsigned.\n"
            f"Make sure that nobody else can use {' '.join(addresses)}."
        )
        return
    tsig = done["tsig"]
    click.echo(f"The TSIG key of {done['id']}. It is shown only now: keep it.\n")
    click.echo(f"  {tsig['algorithm']}:{tsig['name']}:{tsig['secret']}")


def _show_config(done: Document, software: str | None, *, unsigned: bool) -> None:
    """Prints the configuration of the software, or the default one."""
    name = software_of(software, unsigned=unsigned).name
    text = done["config"].get(name)
    if text is None:
        return
    click.echo(f"\nPaste into the configuration of {name}:\n\n{text}", nl=False)
    if not software:
        others = ", ".join(other for other in done["config"] if other != name)
        click.echo(f"\nThe configurations of {others} are in docs/dns/; the option --software prints one of them.")


def show_rotated(done: Document, values: Values) -> None:
    """Prints what `add` prints, and until when the old token and key are valid."""
    software = values["software"] or done["software"]
    given = {"lists": done["lists"], "zones": done["zones"], "address": done["unsigned"], "software": software}
    show_added(done, given)
    old = f"The old token and TSIG key of {done['id']} are"
    if not duration(values["grace"]):
        click.echo(f"\n{old} invalid from now on.")
        return
    click.echo(
        f"\n{old} valid until {done['until']}.\n"
        f"`blocklistd subscriber show {done['id']}` says when they were last used."
    )


def show_changed(done: Document, values: Values) -> None:
    """Prints what was added and removed. If software was given, prints its configuration too."""
    name, software = done["id"], values["software"]
    if values["objective"]:
        click.echo(f"{name}: its objective is {values['objective']}")
    for node in done["nodes"]:
        click.echo(f"{name}: forgot node {node}")
    for verb in ("added", "removed"):
        for what, found in done[verb].items():
            click.echo(f"{name}: {verb} {what} {' '.join(found)}")
    if software:
        click.echo(f"{name}: its software is {software}")
        _show_again(done, software)
    elif done["zones"] and (any(done["added"].values()) or any(done["removed"].values())):
        registered = software_of(done["software"], unsigned=bool(done["unsigned"])).name
        click.echo(
            f"\nIts name servers may need another configuration:\n"
            f"  blocklistd subscriber show {name} --software {done['software'] or registered}"
        )


def _show_again(done: Document, software: str) -> None:
    """Prints a configuration with a placeholder for the secret, and how to get another one."""
    _show_config(done, software, unsigned=False)
    if SECRET in done["config"].get(software_of(software, unsigned=False).name, ""):
        click.echo(
            f"\nInstead of {SECRET}: the secret of the key, which was shown once. If it is lost,\n"
            f"`blocklistd subscriber rotate {done['id']}` makes a new key."
        )


def _identified_by(one: Document) -> str:
    """What identifies the secondaries of a subscriber."""
    names = ("address" if one["unsigned"] else "key", "certificate" if one["certs"] else "")
    return ", ".join(filter(None, names)) if one["zones"] else ""


def show_list(found: Document, values: Values) -> None:
    """Prints a table of subscribers."""
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


def show_one(one: Document, values: Values) -> None:
    """Prints what a subscriber has, and its secondaries. If software was given, prints its configuration too."""
    config, catalog = one.pop("config", None), one.pop("catalog", None)
    zones, old_keys, old_tokens, nodes = (one.pop(key, []) for key in ("zones", "old_keys", "old_tokens", "nodes"))
    objective = one.pop("objective", None)
    rows = [
        (key.replace("_", " "), " ".join(v) if key in ("lists", "own_names", "keys", "certs") else v)
        for key, v in one.items()
        if v not in (None, {}, [])
    ]
    rows += [("objective", age(objective))] * bool(objective)
    rows += [("old key", f"{key['name']}, {old_credential(key)}") for key in old_keys]
    rows += [("old token", old_credential(token)) for token in old_tokens]
    for name, zone in zones.items():
        rows.append(("zone", f"{name} at {serial(zone['serial'])}"))
        for found in zone["secondaries"]:
            rows.append(("secondary", _secondary(found)))
    rows += [("node", _node(found)) for found in nodes]
    if catalog:
        rows.append(("catalog", f"{catalog['name']} at {serial(catalog['serial'])}"))
    table(("", ""), rows)
    if config is not None:
        _show_again({"id": one["id"], "config": config}, values["software"])


def old_credential(old: Document) -> str:
    """Until when a replaced key or token is valid, and its last use."""
    unused = "never used" if "name" in old else "not used since it was replaced"
    used = f"last used {old['used']}" if old["used"] else unused
    by = f" by {', '.join(old['secondaries'])}" if old.get("secondaries") else ""
    return f"valid until {old['until']}, {used}{by}"


def _wrong(found: Document) -> list[str]:
    return [name.upper() for name in ("late", "silent") if found.get(name)]


def _node(found: Document) -> str:
    """One line about a node: the version that is live there, its last receipt if that failed, its last probe."""
    parts = [f"{found['node']}: {found['list']} at {found['version'] or '?'}"]
    if found["state"] != "applied":
        parts.append(f"{found['state']} {found['reported']}" + (f" ({found['reason']})" if found["reason"] else ""))
    if found["lag"]:
        parts.append(f"{age(found['lag'])} behind")
    if found["probe"]:
        parts.append(f"probe {found['probe'] if found['probe'] == 'blocked' else 'FAILED'}")
    return ", ".join([*parts, f"seen {found['seen']}", *_wrong(found)])


def _secondary(found: Document) -> str:
    """One line about a secondary: the serial that it holds, and the last serial sent to it if that differs."""
    held, sent, lag = found["serial"], found.get("sent"), found["lag"]
    parts = [f"{found['address']} at {serial(held)}"]
    if sent not in (None, held):
        parts.append(f"sent {sent}")
    if lag:
        parts.append(f"{age(lag)} behind")
    return ", ".join([*parts, f"seen {found['seen']}", *_wrong(found)])

"""The texts of the subscriber commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from blocklistd.daemon.commands.command import Document, Values
from blocklistd.daemon.commands.moments import duration
from blocklistd.daemon.commands.text import age, at, table
from blocklistd.daemon.profiles.request import SECRET
from blocklistd.daemon.profiles.versions import software_of
from blocklistd.language.context import N_, _, known

_ADDED: Final = N_("{name}: added {what} {values}")
_REMOVED: Final = N_("{name}: removed {what} {values}")
_NEVER_USED: Final = N_("valid until {until}, never used")
_NOT_USED: Final = N_("valid until {until}, not used since it was replaced")
_USED: Final = N_("valid until {until}, last used {used}")
_USED_BY: Final = N_("valid until {until}, last used {used} by {secondaries}")


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
    click.echo(f"{done['token']}\n")
    click.echo(_("The line above is the token of {id}. It is shown only now: keep it.", id=done["id"]))
    url, private = done["url"], done.get("private_ca")
    curl, sync = (" --cacert ca.pem", " --ca ca.pem") if private else ("", "")
    if private:
        text = N_(
            "With the token in the file `token`, root.json, and the feed's\ncertificate authority as ca.pem, run:"
        )
    else:
        text = N_("With the token in the file `token`, and root.json, run:")
    click.echo(_(text))
    click.echo()
    header = "printf 'Authorization: Bearer %s' \"$(cat token)\""
    for name in lists:
        click.echo(f"  {header} |\n    curl -sS{curl} -H @- {url}/v1/lists/{name}")
    for name in lists:
        click.echo(f"  blocklistd sync {url} {name} \\\n    --root root.json --token-file token{sync} --dir {name}")


def _show_key(done: Document, addresses: Sequence[str]) -> None:
    if addresses:
        click.echo(
            _(
                "{id} is identified by its address; transfers are unsigned.\n"
                "Make sure that nobody else can use {addresses}.",
                id=done["id"],
                addresses=" ".join(addresses),
            )
        )
        return
    tsig = done["tsig"]
    click.echo(_("The TSIG key of {id}. It is shown only now: keep it.", id=done["id"]))
    click.echo()
    click.echo(f"  {tsig['algorithm']}:{tsig['name']}:{tsig['secret']}")


def _show_config(done: Document, software: str | None, *, unsigned: bool) -> None:
    """Prints the configuration of the software, or the default one."""
    name = software_of(software, unsigned=unsigned).name
    text = done["config"].get(name)
    if text is None:
        return
    title = _("Paste into the configuration of {name}:", name=name)
    click.echo(f"\n{title}\n\n{text}", nl=False)
    if not software:
        others = ", ".join(other for other in done["config"] if other != name)
        click.echo()
        click.echo(
            _("The configurations of {names} are in docs/dns/; the option --software prints one of them.", names=others)
        )


def show_rotated(done: Document, values: Values) -> None:
    """Prints what `add` prints, and until when the old token and key are valid."""
    software = values["software"] or done["software"]
    given = {"lists": done["lists"], "zones": done["zones"], "address": done["unsigned"], "software": software}
    show_added(done, given)
    click.echo()
    if not duration(values["grace"]):
        click.echo(_("The old token and TSIG key of {id} are invalid from now on.", id=done["id"]))
        return
    click.echo(
        _(
            "The old token and TSIG key of {id} are valid until {time}.\n"
            "`blocklistd subscriber show {id}` says when they were last used.",
            id=done["id"],
            time=done["until"],
        )
    )


def show_changed(done: Document, values: Values) -> None:
    """Prints what was added and removed. If software was given, prints its configuration too."""
    name, software = done["id"], values["software"]
    if values["objective"]:
        click.echo(_("{name}: its objective is {objective}", name=name, objective=values["objective"]))
    for node in done["nodes"]:
        click.echo(_("{name}: forgot node {node}", name=name, node=node))
    for verb in ("added", "removed"):
        for what, found in done[verb].items():
            text = _ADDED if verb == "added" else _REMOVED
            click.echo(_(text, name=name, what=_(what), values=" ".join(found)))
    if software:
        click.echo(_("{name}: its software is {software}", name=name, software=software))
        _show_again(done, software)
    elif done["zones"] and (any(done["added"].values()) or any(done["removed"].values())):
        registered = software_of(done["software"], unsigned=bool(done["unsigned"])).name
        click.echo()
        click.echo(_("Its name servers may need another configuration:"))
        click.echo(f"  blocklistd subscriber show {name} --software {done['software'] or registered}")


def _show_again(done: Document, software: str) -> None:
    """Prints a configuration with a placeholder for the secret, and how to get another one."""
    _show_config(done, software, unsigned=False)
    if SECRET in done["config"].get(software_of(software, unsigned=False).name, ""):
        click.echo()
        click.echo(
            _(
                "Instead of {placeholder}: the secret of the key, which was shown once. If it is lost,\n"
                "`blocklistd subscriber rotate {id}` makes a new key.",
                placeholder=SECRET,
                id=done["id"],
            )
        )


def _identified_by(one: Document) -> str:
    """What identifies the secondaries of a subscriber."""
    names = (_("address") if one["unsigned"] else _("key"), _("certificate") if one["certs"] else "")
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
        rows.append(("zone", at(name, zone["serial"])))
        for found in zone["secondaries"]:
            rows.append(("secondary", _secondary(found)))
    rows += [("node", _node(found)) for found in nodes]
    if catalog:
        rows.append(("catalog", at(catalog["name"], catalog["serial"])))
    table(("", ""), rows)
    if config is not None:
        _show_again({"id": one["id"], "config": config}, values["software"])


def old_credential(old: Document) -> str:
    """Until when a replaced key or token is valid, and its last use."""
    named = {"until": old["until"], "used": old["used"], "secondaries": ", ".join(old.get("secondaries") or ())}
    if not old["used"]:
        text = _NEVER_USED if "name" in old else _NOT_USED
    else:
        text = _USED_BY if named["secondaries"] else _USED
    return _(text, **named)


def _wrong(found: Document) -> list[str]:
    return [_(name.upper()) for name in ("late", "silent") if found.get(name)]


def _node(found: Document) -> str:
    """One line about a node: the version that is live there, its last receipt if that failed, its last probe."""
    parts = [f"{found['node']}: {at(found['list'], found['version'] or None)}"]
    if found["state"] != "applied":
        reason = f" ({known(found['reason'])})" if found["reason"] else ""
        parts.append(f"{_(found['state'])} {found['reported']}{reason}")
    if found["lag"]:
        parts.append(_("{duration} behind", duration=age(found["lag"])))
    if found["probe"]:
        parts.append(_("probe blocked") if found["probe"] == "blocked" else _("probe FAILED"))
    if found.get("clock"):
        parts.append(_("its clock is BEHIND") if found["clock"] == "behind" else _("its clock is AHEAD"))
    return ", ".join([*parts, _("seen {time}", time=found["seen"]), *_wrong(found)])


def _secondary(found: Document) -> str:
    """One line about a secondary: the serial that it holds, and the last serial sent to it if that differs."""
    held, sent, lag = found["serial"], found.get("sent"), found["lag"]
    parts = [at(found["address"], held)]
    if sent not in (None, held):
        parts.append(_("sent {serial}", serial=sent))
    if lag:
        parts.append(_("{duration} behind", duration=age(lag)))
    return ", ".join([*parts, _("seen {time}", time=found["seen"]), *_wrong(found)])

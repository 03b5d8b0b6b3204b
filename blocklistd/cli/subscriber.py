"""`subscriber add | list | show | revoke`."""

from __future__ import annotations

from typing import Any

import click

from blocklistd.cli.common import Session, age, common, table


@click.group("subscriber")
def command() -> None:
    """Who may have which lists."""


@command.command("add")
@click.argument("subscriber", metavar="ID")
@click.option("--list", "lists", metavar="LIST", multiple=True, help="Entitles to a list; may be repeated.")
@click.option("--zone", "zones", metavar="ZONE", multiple=True, help="Entitles to a zone; may be repeated.")
@click.option("--notify", metavar="ADDRESS:PORT", multiple=True, help="Tell this secondary of each change.")
@click.option(
    "--address", metavar="PREFIX", multiple=True, help="Transfers from there go unsigned (Unbound can't sign)."
)
@click.option("--tsig-algorithm", "algorithm", default="hmac-sha256", show_default=True, help="Or hmac-sha512.")
@click.option("--software", type=click.Choice(["bind"]), help="Print this resolver's configuration only.")
@common
def add(session: Session, subscriber: str, software: str | None, **wish: Any) -> None:
    """Register a subscriber. Its token and its key are printed once."""
    body = {"id": subscriber} | {key: list(v) if isinstance(v, tuple) else v for key, v in wish.items()}
    done = session.ask("POST", "subscribers", body=body)
    session.answer(done, lambda _: _say(done, wish, software))


def _say(done: dict[str, Any], wish: dict[str, Any], software: str | None) -> None:
    lists, tsig = wish["lists"], done["tsig"]
    click.echo(f"{done['token']}\n\nThe line above is the token of {done['id']}, shown this once.")
    if lists:
        url = done["url"]
        click.echo(
            f"With it in the file `token`, and root.json:\n\n"
            f"  printf 'Authorization: Bearer %s' \"$(cat token)\" | curl -s -H @- {url}/v1/lists/{lists[0]}\n"
            f"  blocklistd sync {url} {lists[0]} --root root.json --token-file token --dir DIR"
        )
    if wish["zones"]:
        click.echo(f"\nIts TSIG key, shown this once:\n\n  {tsig['algorithm']}:{tsig['name']}:{tsig['secret']}")
    for name, text in done["config"].items():
        if software in (None, name):
            click.echo(f"\nFor {name}, to paste:\n\n{text}")


@command.command("list")
@common
def list_(session: Session) -> None:
    """All subscribers."""
    session.answer(
        session.ask("GET", "subscribers"),
        lambda found: table(
            ("SUBSCRIBER", "LISTS", "ZONES", "CREATED", "BY", "REVOKED"),
            [
                (name, " ".join(s["lists"]), " ".join(s["zones"]), s["created"], s["created_by"], s["revoked"])
                for name, s in found.items()
            ],
        ),
    )


@command.command("show")
@click.argument("subscriber", metavar="ID")
@common
def show(session: Session, subscriber: str) -> None:
    """One subscriber, and how far its secondaries are."""
    session.answer(session.ask("GET", "subscribers", subscriber), _show)


def _show(one: dict[str, Any]) -> None:
    zones = one.pop("zones")
    rows = [(key, " ".join(v) if key == "lists" else v) for key, v in one.items() if v not in (None, {}, [])]
    for name, zone in zones.items():
        rows.append(("zone", f"{name} at {zone['serial'] or '?'}"))
        for found in zone["secondaries"]:
            where, lag = f"{found['address']} at {found['serial'] or '?'}", found["lag"]
            rows.append(("secondary", f"{where}{f', {age(lag)} behind' if lag else ''}, seen {found['seen']}"))
    table(("", ""), rows)


@command.command("revoke")
@click.argument("subscriber", metavar="ID")
@common
def revoke(session: Session, subscriber: str) -> None:
    """From now on its token is unknown."""
    done = session.ask("POST", "subscribers", subscriber, "revoke", body={})
    session.answer(done, lambda _: click.echo(f"{subscriber}: revoked"))

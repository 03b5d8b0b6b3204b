"""`subscriber add | list | show | revoke`."""

from __future__ import annotations

from typing import Any

import click

from blocklistd.cli.common import Session, common, table


@click.group("subscriber")
def command() -> None:
    """Who may have which lists."""


@command.command("add")
@click.argument("subscriber", metavar="ID")
@click.option(
    "--list", "lists", metavar="LIST", multiple=True, required=True, help="Entitles to a list; may be repeated."
)
@common
def add(session: Session, subscriber: str, lists: tuple[str, ...]) -> None:
    """Register a subscriber. Its token is printed once, and is not kept."""
    done = session.ask("POST", "/subscribers", {"id": subscriber, "lists": list(lists)})
    session.answer(done, lambda _: _say(session, done, lists))


def _say(session: Session, done: dict[str, Any], lists: tuple[str, ...]) -> None:
    url = session.config().feed.public_url or "https://FEED"
    click.echo(
        f"{done['token']}\n\n"
        f"The line above is the token of {done['id']}, shown this once. With it in the file `token`, and root.json:\n\n"
        f'  curl -s -H "Authorization: Bearer $(cat token)" {url}/v1/lists/{lists[0]}\n'
        f"  blocklistd sync {url} {lists[0]} --root root.json --token-file token --dir DIR"
    )


@command.command("list")
@common
def list_(session: Session) -> None:
    """All subscribers."""
    session.answer(
        session.ask("GET", "/subscribers"),
        lambda found: table(
            ("SUBSCRIBER", "LISTS", "CREATED", "BY", "REVOKED"),
            [(n, " ".join(s["lists"]), s["created"], s["created_by"], s["revoked"]) for n, s in found.items()],
        ),
    )


@command.command("show")
@click.argument("subscriber", metavar="ID")
@common
def show(session: Session, subscriber: str) -> None:
    """One subscriber."""
    session.answer(
        session.ask("GET", f"/subscribers/{subscriber}"),
        lambda one: table(
            ("", ""),
            [
                (key, " ".join(value) if key == "lists" else value)
                for key, value in one.items()
                if value not in (None, {}, [])
            ],
        ),
    )


@command.command("revoke")
@click.argument("subscriber", metavar="ID")
@common
def revoke(session: Session, subscriber: str) -> None:
    """From now on its token is unknown."""
    done = session.ask("POST", f"/subscribers/{subscriber}/revoke", {})
    session.answer(done, lambda _: click.echo(f"{subscriber}: revoked"))

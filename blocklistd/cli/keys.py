"""`keys init`: needs no daemon."""

from __future__ import annotations

import getpass
import warnings
from pathlib import Path
from typing import Any

import click

from blocklistd.cli.common import Session, common
from blocklistd.cli.failures import Failed
from blocklistd.language.context import _


@click.command("init")
@click.option(
    "--root-out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the root keys and root.json into this folder.",
)
@click.option(
    "--root-keys", default=1, show_default=True, metavar="N", type=click.IntRange(1, 32), help="Number of root keys."
)
@click.option(
    "--threshold",
    default=1,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 32),
    help="Number of root keys that must sign a new root.json.",
)
@click.option("--encrypt", is_flag=True, help="Encrypt the root keys with a passphrase, which the terminal asks for.")
@common
def command(session: Session, root_out: Path, root_keys: int, threshold: int, encrypt: bool) -> None:
    """Make the keys. Writes the online key (keys.online), and the root keys and root.json into --root-out.

    Take the root keys off this host afterwards.
    """
    from blocklistd.signing.keys import init as make
    from blocklistd.times import rfc3339, utc_now

    passphrase = new_passphrase() if encrypt else ""
    made = make(session.config(), root_out, root_keys, threshold, utc_now(), passphrase)
    document = {
        "online": str(made.online),
        "root_keys": [str(path) for path in made.root_keys],
        "root": str(made.root),
        "expires": rfc3339(made.expires),
    }
    session.answer(document, _print_made)


def _print_made(made: dict[str, Any]) -> None:
    click.echo(_("online key, for the daemon: {path}", path=made["online"]))
    click.echo(_("root keys, take them off this host now:"))
    for path in made["root_keys"]:
        click.echo(f"  {path}")
    click.echo(_("trusted root, give it to the subscribers: {path}", path=made["root"]))
    click.echo(_("  expires {time}", time=made["expires"]))


def passphrase_of(name: str) -> str:
    """Asks the terminal for the passphrase of a key. Raises Failed without a terminal."""
    return _ask(_("Passphrase of {name}: ", name=name))


def new_passphrase() -> str:
    """Asks the terminal twice for a new passphrase. Raises Failed."""
    first = _ask(_("New passphrase of the root keys: "))
    if not first or first != _ask(_("Again: ")):
        raise Failed("the passphrase is empty, or not the same twice: run the command again")
    return first


def _ask(prompt: str) -> str:
    with warnings.catch_warnings():
        # getpass warns where the terminal would show the passphrase
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(prompt)
        except (getpass.GetPassWarning, EOFError):
            raise Failed("a passphrase is asked for on a terminal: run the command on one") from None

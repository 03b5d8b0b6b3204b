"""`keys init`: needs no daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from blocklistd.cli.common import Session, common


@click.command("init")
@click.option(
    "--root-out", required=True, type=click.Path(file_okay=False, path_type=Path), help="For root keys and root.json."
)
@click.option(
    "--root-keys", default=1, show_default=True, metavar="N", type=click.IntRange(1, 32), help="How many root keys."
)
@click.option(
    "--threshold",
    default=1,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 32),
    help="How many must sign a root.",
)
@common
def command(session: Session, root_out: Path, root_keys: int, threshold: int) -> None:
    """Write the online key where the configuration says, root keys and root.json into --root-out; no daemon needed."""
    from blocklistd.signing.keys import init as make
    from blocklistd.times import rfc3339, utc_now

    made = make(session.config(), root_out, root_keys, threshold, utc_now())
    document = {
        "online": str(made.online),
        "root_keys": [str(path) for path in made.root_keys],
        "root": str(made.root),
        "expires": rfc3339(made.expires),
    }
    session.answer(document, lambda _: _said(document))


def _said(made: dict[str, Any]) -> None:
    keys = "\n".join(f"  {path}" for path in made["root_keys"])
    click.echo(
        f"online key, for the daemon: {made['online']}\n"
        f"root keys, to be taken off this host now:\n{keys}\n"
        f"trusted root, for subscribers: {made['root']} (expires {made['expires']})"
    )

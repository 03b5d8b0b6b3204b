"""`keys init`: needs no daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from blocklistd.cli.common import Session, common


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
@common
def command(session: Session, root_out: Path, root_keys: int, threshold: int) -> None:
    """Make the keys. Writes the online key (keys.online), and the root keys and root.json into --root-out.

    Take the root keys off this host afterwards.
    """
    from blocklistd.signing.keys import init as make
    from blocklistd.times import rfc3339, utc_now

    made = make(session.config(), root_out, root_keys, threshold, utc_now())
    document = {
        "online": str(made.online),
        "root_keys": [str(path) for path in made.root_keys],
        "root": str(made.root),
        "expires": rfc3339(made.expires),
    }
    session.answer(document, lambda _: _print_made(document))


def _print_made(made: dict[str, Any]) -> None:
    keys = "\n".join(f"  {path}" for path in made["root_keys"])
    click.echo(
        f"online key, for the daemon: {made['online']}\n"
        f"root keys, take them off this host now:\n{keys}\n"
        f"trusted root, give it to the subscribers: {made['root']}\n  expires {made['expires']}"
    )

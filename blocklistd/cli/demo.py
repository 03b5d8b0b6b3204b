"""`demo`."""

from __future__ import annotations

from pathlib import Path

import click

from blocklistd.cli.common import Session, common


@click.command("demo")
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep everything in this new or empty folder.",
)
@common
def command(session: Session, directory: Path | None) -> int:
    """Run a signed demo hotline, the daemon and a subscriber on loopback, with changing data under reserved names.
    Ctrl-C stops them.
    """
    from blocklistd.demo.run import demo

    return demo(directory, session.document if session.json else None)

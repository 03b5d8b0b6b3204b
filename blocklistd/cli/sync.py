"""`sync`."""

from __future__ import annotations

import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from blocklistd.cli.common import Session, common
from blocklistd.outputs import OUTPUTS

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("sync")
@click.argument("url")
@click.argument("name", metavar="LIST")
@click.option("--root", required=True, type=_FILE, help="The trusted root.json.")
@click.option(
    "--dir",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the list is kept.",
)
@click.option("--token-file", type=_FILE, help="Holds the subscriber's token.")
@click.option("--ca", type=_FILE, help="Trust this authority instead of the system's.")
@click.option("--format", "rendering", type=click.Choice(["ndjson", *OUTPUTS]), help="Also keep a rendering.")
@click.option("--exec", "command_", metavar="CMD", help="Run after each change.")
@click.option("--group", metavar="GROUP", help="Who may read what is kept, beside its owner.")
@click.option("--watch", is_flag=True, help="Stay, and wait for changes.")
@common
def command(
    session: Session,
    url: str,
    name: str,
    root: Path,
    directory: Path,
    token_file: Path | None,
    ca: Path | None,
    rendering: str | None,
    command_: str | None,
    group: str | None,
    watch: bool,
) -> None:
    """Follow a list, verified: first the snapshot, then differences."""
    from blocklistd.client.sync import Options, Result, sync_once
    from blocklistd.client.sync import watch as watch_list

    options = Options(
        url=url,
        list=name,
        root=root,
        dir=directory,
        token_file=token_file,
        ca=ca,
        format=rendering,
        exec=command_,
        group=group,
    )

    def say(text: str) -> None:
        click.echo(f"blocklistd: {text}", err=True)

    def done(result: Result) -> None:
        session.answer(asdict(result), _line)

    if not watch:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what --exec has started, too
        done(sync_once(options, say))
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    watch_list(options, say, stop, done)


def _line(result: dict[str, Any]) -> None:
    what = f"{result['entries']} entries, {result['how']}, {result['bytes']} bytes"
    click.echo(f"{result['list']} version {result['version']}: {what}")

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
@click.option("--root", required=True, type=_FILE, help="The trusted root.json, from the publisher.")
@click.option(
    "--dir",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the list in this folder.",
)
@click.option("--token-file", type=_FILE, help="File that contains the subscriber's token.")
@click.option("--ca", type=_FILE, help="Trust this certificate authority, not the system's.")
@click.option(
    "--format", "rendering", type=click.Choice(["ndjson", *OUTPUTS]), help="Also keep the list in this format."
)
@click.option("--exec", "command_", metavar="CMD", help="Run this command after each change.")
@click.option("--group", metavar="GROUP", help="Let this group read the files.")
@click.option("--watch", is_flag=True, help="Keep running, and follow each new version.")
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
    """Fetch a list and keep it up to date: first the snapshot, then diffs, all verified against the TUF metadata."""
    from blocklistd.client.sync import Options, SyncResult, sync_once
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

    def done(result: SyncResult) -> None:
        session.answer(asdict(result), _line)

    if not watch:
        # sys.exit unwinds, and so ends the processes that --exec has started
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        done(sync_once(options, say))
        return
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    watch_list(options, say, stop, done)


def _line(result: dict[str, Any]) -> None:
    what = f"{result['entries']} entries, {result['how']}, {result['bytes']} bytes"
    click.echo(f"{result['list']} version {result['version']}: {what}")

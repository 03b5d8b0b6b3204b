"""`sync`."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from blocklistd.cli.common import Session, common
from blocklistd.language.context import _, known
from blocklistd.limits import CLIENT_EXEC
from blocklistd.outputs import OUTPUTS

if TYPE_CHECKING:
    from blocklistd.client.download import Progress
    from blocklistd.client.options import Options, SyncResult

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Duration(click.ParamType[float]):
    """A duration as in the configuration: 30s, 15m, 6h. Its value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value)
        if found is None:
            self.fail(f"{value!r}: expected a duration like 30s, 15m or 6h", param, ctx)
        return float(found[1]) * _SECONDS[found[2]]


@click.command("sync")
@click.argument("url")
@click.argument("name", metavar="LIST")
@click.option("--root", required=True, type=_FILE, help="The trusted root.json, from the publisher.")
@click.option(
    "--dir",
    "dir",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the list in this folder.",
)
@click.option("--token-file", type=_FILE, help="File that contains the subscriber's token.")
@click.option("--cert", type=_FILE, help="Client certificate, in PEM, that is registered for the subscriber.")
@click.option("--key", type=_FILE, help="The key of --cert, in PEM.")
@click.option("--ca", type=_FILE, help="Trust this certificate authority, not the system's.")
@click.option("--proxy", metavar="URL", help="Connect through this proxy [$HTTPS_PROXY, but for $NO_PROXY].")
@click.option("--proxy-file", type=_FILE, help="File that contains the proxy's address, with USER:PASSWORD@.")
@click.option(
    "--mirror", "mirrors", metavar="URL", multiple=True, help="Ask this mirror if the feed fails; repeatable."
)
@click.option("--mirror-token-file", type=_FILE, help="File that contains the token for the mirrors.")
@click.option("--format", "format", type=click.Choice(["ndjson", *OUTPUTS]), help="Also keep the list in this format.")
@click.option("--group", metavar="GROUP", help="Let this group read the files.")
@click.option("--exec", "exec", metavar="CMD", help="Run this command after each change.")
@click.option(
    "--exec-timeout",
    type=_Duration(),
    default=CLIENT_EXEC,
    metavar="DURATION",
    help=f"End the command after this time [{CLIENT_EXEC / 60:.0f}m].",
)
@click.option("--exceptions", type=_FILE, help="Leave the entries that this file names out of the format's file.")
@click.option("--node", metavar="NAME", help="This node's name in receipts [the host's name].")
@click.option("--no-receipt", is_flag=True, help="Send no receipts.")
@click.option(
    "--probe", metavar="ADDRESS:PORT", help="Ask this resolver for the list's test entries after each change."
)
@click.option("--probe-control", metavar="NAME", help="Ask for this name beside a test entry [the name above it].")
@click.option(
    "--probe-stop",
    "probe_stops",
    metavar="NAME|ADDRESS",
    multiple=True,
    help="The resolver redirects listed names there; repeatable.",
)
@click.option("--watch", is_flag=True, help="Keep running, and follow each new version.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@common
def command(session: Session, url: str, name: str, watch: bool, quiet: bool, no_receipt: bool, **given: Any) -> None:
    """Fetch a list and keep it up to date: first the snapshot, then diffs, all verified against the TUF metadata.

    Exit codes: 0 the copy is the newest version, and --exec and --probe succeeded; 1 it is not, or they did not: the
    copy stays in use, and stderr has the reason; 2 wrong usage.
    """
    from blocklistd.client.options import Options
    from blocklistd.client.sync import sync_once

    options = Options(url=url, list=name, receipts=not no_receipt, **given)
    lock = threading.Lock()

    def say(text: str) -> None:
        with lock:
            click.echo(f"blocklistd: {known(text)}", err=True)

    def done(result: SyncResult) -> None:
        if session.json or not (quiet or (result.how == "unchanged" and not sys.stdout.isatty())):
            session.answer({key: value for key, value in asdict(result).items() if value is not None}, _line)

    with _progress(quiet) as progress:
        if watch:
            _watch(options, say, done, progress)
        else:
            # exit by an exception, which also ends the processes that --exec has started
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
            result = sync_once(options, say, progress=progress)
    if not watch:
        done(result)


def _watch(options: Options, say: Any, done: Any, progress: Progress) -> None:
    """Follows the list until SIGINT or SIGTERM; SIGHUP ends a pause. Exit 1 if the last attempt failed."""
    from blocklistd.client.watch import watch as watch_list
    from blocklistd.errors import SyncError

    stop, hurry = threading.Event(), threading.Event()
    outcome: list[bool | SyncError] = []

    def run() -> None:
        try:
            outcome.append(watch_list(options, say, stop, done, hurry, progress))
        except SyncError as error:
            outcome.append(error)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    signal.signal(signal.SIGHUP, lambda *_: hurry.set())
    # in a thread of its own: a signal's handler, in the main thread, must not interrupt a wait for the same event
    watching = threading.Thread(target=copy_context().run, args=(run,), name="watch")
    watching.start()
    while watching.is_alive():
        watching.join(0.5)
    if not outcome or isinstance(outcome[0], SyncError):
        raise outcome[0] if outcome else SystemExit(1)  # type: ignore[misc]
    if not outcome[0]:
        sys.exit(1)


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress]:
    """A progress bar of the snapshot's download, on a terminal only."""
    with ExitStack() as stack:
        bars: list[Any] = []

        def show(here: int, length: int) -> None:
            if quiet or not sys.stderr.isatty():
                return
            if not bars:
                shown: Any = click.progressbar(length=length, label=_("snapshot"), file=sys.stderr, show_pos=True)
                bars.append(stack.enter_context(shown))
            bars[0].update(here - bars[0].pos)
            if here == length:
                stack.close()
                bars.clear()

        yield show


def _line(result: dict[str, Any]) -> None:
    values = {**result, "how": _(result["how"])}
    if "excepted" in result:
        text = _("{list} version {version}: {entries} entries ({excepted} excepted), {how}, {bytes} bytes", **values)
    else:
        text = _("{list} version {version}: {entries} entries, {how}, {bytes} bytes", **values)
    click.echo(text)

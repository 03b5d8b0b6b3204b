"""What the commands share: the configuration's place, one way to print, one way to fail."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from blocklistd.cli.failures import Failed, Unreachable
from blocklistd.errors import BlocklistError, ConfigError

if TYPE_CHECKING:
    from blocklistd.cli.control import Control
    from blocklistd.config import Config

DEFAULT_CONFIG: Final = "/etc/blocklistd/blocklistd.yaml"

NO_LIMIT: Final = 100_000  # characters
FOLDED: Final = 24  # characters that the last column of a table has at least

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One call of a command: where the configuration is, and how to answer."""

    def __init__(self, config: str | None, as_json: bool) -> None:
        self.path = Path(config or os.environ.get("BLOCKLISTD_CONFIG") or DEFAULT_CONFIG)
        self.json = as_json
        self.answered = False

    def config(self) -> Config:
        """Raises ConfigError."""
        from blocklistd.config import load

        return load(self.path)

    @contextmanager
    def daemon(self) -> Iterator[Control]:
        """The daemon of this configuration. Raises ConfigError, Unreachable, Failed with its refusal."""
        from blocklistd.cli.control import Control
        from blocklistd.config import control_socket

        try:
            yield Control(control_socket(self.path))
        except Unreachable:
            self.config()  # what is wrong there may be why it does not run
            raise

    def ask(self, method: str, *names: str, body: dict[str, Any] | None = None) -> Any:
        """The daemon's answer to a request on the resource of these names."""
        from blocklistd.cli.control import path_of

        with self.daemon() as daemon:
            return daemon.ask(method, path_of(*names), body)

    def document(self, value: Any) -> None:
        """One JSON document on stdout."""
        import orjson

        self.answered = True
        click.echo(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode())

    def answer(self, value: Any, text: Callable[[Any], None]) -> None:
        """The document for machines, or what `text` prints for people."""
        if self.json:
            self.document(value)
        else:
            text(value)


def common(command: F) -> F:
    """-c and --json, for every command; the command gets a Session first."""

    @click.option("-c", "--config", metavar="FILE", help=f"The configuration [$BLOCKLISTD_CONFIG, {DEFAULT_CONFIG}].")
    @click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(context: click.Context, /, config: str | None, as_json: bool, **options: Any) -> Any:
        session = Session(config or context.find_root().obj, as_json)
        try:
            return command(session, **options)
        except ConfigError:
            raise
        except (BlocklistError, Failed) as error:
            if as_json and not session.answered:  # a document for every exit code but those of wrong usage
                session.document({"error": str(error)})
            raise

    return wrapped  # type: ignore[return-value]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; in a pipe, lines with columns apart by tabs.

    The last column is folded where the terminal is narrow; the others stay whole, so that an id can be copied.
    """
    shown = [[_cell(value) for value in row] for row in rows]
    if not os.isatty(1):
        for row in shown:
            click.echo("\t".join(row))
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    made = Table(box=None, header_style="bold", pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        longest = max(cell_len(cell) for cell in [column, *(row[number] for row in shown)])
        least = longest if number < len(columns) - 1 else min(longest, FOLDED)
        made.add_column(column, overflow="fold", min_width=least)
    for row in shown:
        made.add_row(*row)
    console = Console(highlight=False, markup=False)
    wanted = Measurement.get(console, console.options.update(max_width=NO_LIMIT), made)
    console.width = max(console.width, wanted.minimum)
    console.print(made)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name} {_cell(found)}".rstrip() for name, found in value.items())
        case list():
            return ", ".join(map(_cell, value))
    return str(value)


def age(seconds: float | None) -> str:
    """A time span as a person says it."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

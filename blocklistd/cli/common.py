"""What the commands share: the configuration's place, one way to print, one way to fail."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from blocklistd.cli.failures import Failed
from blocklistd.errors import BlocklistError, ConfigError

if TYPE_CHECKING:
    from blocklistd.cli.control import Control
    from blocklistd.config import Config

DEFAULT_CONFIG: Final = "/etc/blocklistd/blocklistd.yaml"

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One call of a command: where the configuration is, and how to answer."""

    def __init__(self, config: str | None, as_json: bool) -> None:
        self.path = Path(config or os.environ.get("BLOCKLISTD_CONFIG") or DEFAULT_CONFIG)
        self.json = as_json

    def config(self) -> Config:
        """Raises ConfigError."""
        from blocklistd.config import load

        return load(self.path)

    def control(self) -> Control:
        """The daemon of this configuration."""
        from blocklistd.cli.control import Control

        return Control(self.config().control.socket)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The daemon's answer; raises Failed with its refusal, which --json prints as a document too."""
        try:
            return self.control().ask(method, path, body)
        except Failed as failed:
            if self.json:
                self.document({"error": str(failed)})
            raise

    def document(self, value: Any) -> None:
        """One JSON document on stdout."""
        import orjson

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
        except BlocklistError as error:
            if as_json:  # a document for every exit code but those of wrong usage
                session.document({"error": str(error)})
            raise

    return wrapped  # type: ignore[return-value]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; in a pipe, lines with columns apart by tabs."""
    shown = [[_cell(value) for value in row] for row in rows]
    if not os.isatty(1):
        for row in shown:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in shown:
        made.add_row(*row)
    Console(highlight=False, markup=False).print(made)


def _cell(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {count}" for key, count in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return {None: "", True: "yes", False: "no"}[value] if value is None or isinstance(value, bool) else str(value)


def age(seconds: float | None) -> str:
    """A time span as a person says it."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

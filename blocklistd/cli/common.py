"""Shared by the commands: the options -c and --json, the daemon's socket, printing, and errors."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from blocklistd.cli.failures import Failed, Unreachable
from blocklistd.errors import BlocklistError, ConfigError
from blocklistd.language.context import _, known

if TYPE_CHECKING:
    from blocklistd.cli.control import ControlClient
    from blocklistd.config import Config
    from blocklistd.errors import ConfigProblem

DEFAULT_CONFIG: Final = "/etc/blocklistd/blocklistd.yaml"

F = TypeVar("F", bound=Callable[..., Any])


class Session:
    """One call of a command. `path`: the configuration file. `json`: print one JSON document. `answered`: whether that
    was printed."""

    def __init__(self, config: str | None, as_json: bool) -> None:
        self.path = Path(config or os.environ.get("BLOCKLISTD_CONFIG") or DEFAULT_CONFIG)
        self.json = as_json
        self.answered = False

    def config(self) -> Config:
        """The checked configuration. Raises ConfigError."""
        from blocklistd.config import load

        return load(self.path)

    @contextmanager
    def daemon(self) -> Iterator[ControlClient]:
        """A client of the daemon with this configuration. Raises ConfigError, Unreachable, Failed (a refusal)."""
        from blocklistd.cli.control import ControlClient
        from blocklistd.config import check, control_socket

        try:
            yield ControlClient(control_socket(self.path))
        except Unreachable:
            check(self.path)  # raises ConfigError: the reason why the daemon does not run
            raise

    def document(self, value: Any) -> None:
        """Prints one JSON document on stdout."""
        import orjson

        self.answered = True
        click.echo(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode())

    def answer(self, value: Any, text: Callable[[Any], None]) -> None:
        """Prints the document with --json, else calls `text` with it, which prints for people."""
        if self.json:
            self.document(value)
        else:
            text(value)


def problem_text(problem: ConfigProblem) -> str:
    """An error of the configuration, in the language in force."""
    return _(
        "{file}:{line}: {key}: found {found}, expected {expected}",
        file=problem.file,
        line=problem.line,
        key=problem.key,
        found=known(problem.found),
        expected=known(problem.expected),
    )


def common(command: F) -> F:
    """Adds -c and --json to a command; its first argument becomes a Session."""

    @click.option(
        "-c", "--config", metavar="FILE", help=f"The configuration file [$BLOCKLISTD_CONFIG, {DEFAULT_CONFIG}]."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(context: click.Context, /, config: str | None, as_json: bool, **options: Any) -> Any:
        session = Session(config or context.find_root().obj, as_json)
        try:
            return command(session, **options)
        except ConfigError:
            raise
        except (BlocklistError, Failed) as error:
            if as_json and not session.answered:  # a document for every exit code but 2
                session.document({"error": str(error)})
            raise

    return wrapped  # type: ignore[return-value]

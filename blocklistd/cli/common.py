"""What the commands share: the configuration's place, one way to print, one way to fail."""

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
        self.answered = False

    def config(self) -> Config:
        """Raises ConfigError."""
        from blocklistd.config import load

        return load(self.path)

    @contextmanager
    def daemon(self) -> Iterator[Control]:
        """The daemon of this configuration. Raises ConfigError, Unreachable, Failed with its refusal."""
        from blocklistd.cli.control import Control
        from blocklistd.config import check, control_socket

        try:
            yield Control(control_socket(self.path))
        except Unreachable:
            check(self.path)  # an error in the configuration may be why the daemon does not run
            raise

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

"""A command as a value: its name, the roles that may run it, its arguments, its effect, how its answer is printed.

The control socket (daemon/control.py), the command line (cli/commanded.py) and docs/cli.md follow from these values.
This module and those of the commands import nothing heavy: the command line loads them at each call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blocklistd.errors import RefusedError
from blocklistd.limits import MAX_FREE_TEXT
from blocklistd.model import Act

if TYPE_CHECKING:
    from aiohttp import web

    from blocklistd.daemon.operations import Operations

Document = Any
"""What a command answers, as JSON."""
Values = Mapping[str, Any]
"""A command's arguments by their names."""

CALL: Final = "Blocklistd-Call"
"""The header in which a caller names its call, so that it can ask at STAGE which stage that is at."""
STAGE: Final = "/stage"

Roles = frozenset[str]
"""Roles of `control.operators`, any of which allows a command. Empty: everybody may give it."""
ANYBODY: Final[Roles] = frozenset()
ADMIN: Final[Roles] = frozenset({"admin"})
REVIEWER: Final[Roles] = ADMIN | {"reviewer"}
EDITOR: Final[Roles] = ADMIN | {"editor"}
OPERATOR: Final[Roles] = REVIEWER | EDITOR


@dataclass(frozen=True, slots=True)
class Caller:
    """Who gives a command: a uid, by SO_PEERCRED; `roles` are those of the configuration."""

    uid: int
    user: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument. With an `option` (`--why`) it is given by that, else by its place.

    `read` checks and converts a value, on the command line and once more in the daemon: it raises RefusedError with
    what was expected. `many`: an option that may be repeated; the value is a list. `flag`: an option without a value.
    `here`: the command line alone uses it. An option that is not `required` has `default` where it is not given.
    """

    name: str
    help: str = ""
    option: str = ""
    metavar: str = ""
    read: Callable[[Any], Any] = str
    many: bool = False
    flag: bool = False
    here: bool = False
    required: bool = False
    default: Any = None

    def take(self, given: Values) -> Any:
        """The value among those that were sent. Raises RefusedError."""
        value = given.get(self.name)
        if value is None:
            if self.required or not self.option:
                raise RefusedError(f"{self.name}: it is missing")
            return [] if self.many else self.default
        if self.many and not isinstance(value, list):
            raise RefusedError(f"{self.name}: expected a list")
        try:
            return [self.read(one) for one in value] if self.many else self.read(value)
        except RefusedError as error:
            raise RefusedError(f"{self.option or self.name}: {error}") from None


def word(value: object) -> str:
    """A text in UTF-8. Whether it is the id of anything is checked where it is looked up."""
    if not isinstance(value, str) or value.encode(errors="replace").decode() != value:
        raise RefusedError("expected a text in UTF-8")
    return value


def choice(*values: str) -> Callable[[Any], str]:
    """One of these texts."""

    def read(value: object) -> str:
        if value not in values:
            raise RefusedError(f"expected {' or '.join(values)}")
        return str(value)

    return read


def number(value: object) -> int:
    """A whole number from 1."""
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise RefusedError("expected a whole number from 1")
    return int(text)


def yes_or_no(value: object) -> bool:
    """Of a flag."""
    if not isinstance(value, bool):
        raise RefusedError("expected true or false")
    return value


def free_text(value: object) -> str:
    """One line for the record. The daemon also looks that it names no entry (operations/free_text.py)."""
    text = word(value).strip()
    if not text or not text.isprintable():
        raise RefusedError("expected one line of text without control characters")
    if len(text) > MAX_FREE_TEXT:
        raise RefusedError(f"expected at most {MAX_FREE_TEXT} characters, found {len(text)}")
    return text


@dataclass(frozen=True, slots=True)
class Call:
    """A command with its arguments' values, and who gives it."""

    command: Command
    values: Values
    caller: Caller

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def act(self) -> Act:
        """As the audit names it."""
        return Act(self.command.name, self.caller.user, self.caller.uid)


class Ending(NamedTuple):
    """An exit code that is not 0, and a line for stderr."""

    code: int
    text: str


def _no_ending(document: Document, values: Values) -> Ending | None:
    return None


@dataclass(frozen=True, slots=True)
class Command:
    """`name` is as typed, `summary` its help. `effect` answers a document, or a response that is copied to stdout.
    `show` prints the document for a person. `changes`: it alters something, and writes its line in the audit in the
    same transaction. `copied`: the answer is no document, but bytes that `show` gets as a file."""

    name: str
    summary: str
    role: Roles
    effect: Callable[[Operations, Call], Awaitable[Document | web.StreamResponse]]
    show: Callable[[Document, Values], None]
    arguments: tuple[Argument, ...] = ()
    changes: bool = False
    copied: bool = False
    end: Callable[[Document, Values], Ending | None] = _no_ending
    check: Callable[[Values], Ending | None] = lambda values: None
    """Called by the command line before it connects to the daemon; an Ending stops the command."""

    @property
    def path(self) -> str:
        """Where it is on the control socket."""
        return "/" + self.name.replace(" ", "/")

"""A command as a value: its name, the roles that may run it, its arguments, its effect, the text of its result.

The control socket (daemon/control.py), the command line (cli/daemon_commands.py) and docs/cli.md use these
values. This module and the modules of the commands import nothing heavy, because the command line loads them at each
call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from blocklistd.errors import RefusedError
from blocklistd.limits import MAX_FREE_TEXT
from blocklistd.lines.ids import FORM
from blocklistd.model import Act

if TYPE_CHECKING:
    from aiohttp import web

    from blocklistd.daemon.operations import Operations

Document = Any
"""The result of a command, as JSON values."""
Values = Mapping[str, Any]
"""Values of a command's arguments, by argument name."""

CALL: Final = "Blocklistd-Call"
"""The request header with the id of a call. With the same id, the caller asks at STAGE for its current stage."""
UPLOAD: Final = "Blocklistd-Upload"
"""The request header of a call that sends a file. Its body is a line of JSON with the arguments, then the file; the
caller sends the file after the daemon has answered 100 Continue (RFC 9110, 15.2.1)."""
STAGE: Final = "/stage"
"""The path that returns the current stage of a call under way."""

Roles = frozenset[str]
"""Roles of `control.operators`, any of which allows a command. Empty: every local user may run it."""
ANYBODY: Final[Roles] = frozenset()
ADMIN: Final[Roles] = frozenset({"admin"})
REVIEWER: Final[Roles] = ADMIN | {"reviewer"}
EDITOR: Final[Roles] = ADMIN | {"editor"}
EXAMINER: Final[Roles] = ADMIN | {"examiner"}
OPERATOR: Final[Roles] = REVIEWER | EDITOR | EXAMINER


@dataclass(frozen=True, slots=True)
class Caller:
    """Who runs a command: the uid from SO_PEERCRED, its user name, and the roles from the configuration."""

    uid: int
    user: str
    roles: frozenset[str]


def require_examiner(roles: Roles) -> None:
    """Raises RefusedError if a user with these roles may not see entries."""
    if not roles & EXAMINER:
        raise RefusedError(
            "--show-entries needs the role examiner: give it to the user in control.operators, then run "
            "`blocklistd reload`"
        )


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: an option if `option` is set (`--why`), else positional.

    `read` checks and converts a value, on the command line and again in the daemon; it raises RefusedError with the
    expected form. `many`: it may be repeated; its value is a list. `flag`: an option without a value.
    `local`: used by the command line only, not sent to the daemon. `default`: the value of an option that is not given.
    `stdin`: `option` has no value; the command line reads the value from stdin, so that it is in no argument list.
    """

    name: str
    help: str = ""
    option: str = ""
    metavar: str = ""
    read: Callable[[Any], Any] = str
    many: bool = False
    flag: bool = False
    local: bool = False
    stdin: bool = False
    required: bool = False
    default: Any = None

    def read_from(self, given: Values) -> Any:
        """The argument's checked value in a request. Raises RefusedError."""
        value = given.get(self.name)
        if value is None:
            if self.required or not self.option:
                raise RefusedError(f"{self.name}: missing: give a value")
            return [] if self.many else self.default
        if self.many and not isinstance(value, list):
            raise RefusedError(f"{self.name}: expected a list")
        try:
            return [self.read(one) for one in value] if self.many else self.read(value)
        except RefusedError as error:
            raise RefusedError(f"{self.option or self.name}: {error}") from None


def word(value: object) -> str:
    """Reads a text in UTF-8. Whether an object has this id is checked later. Raises RefusedError."""
    if not isinstance(value, str) or value.encode(errors="replace").decode() != value:
        raise RefusedError("expected a text in UTF-8")
    return value


def entry_id(value: object) -> str:
    """Reads the id of an entry. Raises RefusedError, without the value: it may be an entry."""
    text = word(value).strip()
    if not FORM.fullmatch(text):
        raise RefusedError("expected the id of an entry, `e-` and 32 hex digits")
    return text


def choice(*values: str) -> Callable[[Any], str]:
    """A reader that accepts one of these texts."""

    def read(value: object) -> str:
        if value not in values:
            raise RefusedError(f"expected {' or '.join(values)}")
        return str(value)

    return read


def number(value: object) -> int:
    """Reads a whole number from 1, of at most 18 digits. Raises RefusedError."""
    text = str(value)
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise RefusedError("expected a whole number from 1")
    return int(text)


def yes_or_no(value: object) -> bool:
    """Reads the value of a flag. Raises RefusedError."""
    if not isinstance(value, bool):
        raise RefusedError("expected true or false")
    return value


def free_text(value: object) -> str:
    """Reads one line of at most MAX_FREE_TEXT characters for the audit. Raises RefusedError.

    The daemon also checks that the text contains no entry (operations/free_text.py).
    """
    text = word(value).strip()
    if not text or not text.isprintable():
        raise RefusedError("expected one line of text without control characters")
    if len(text) > MAX_FREE_TEXT:
        raise RefusedError(f"expected at most {MAX_FREE_TEXT} characters, found {len(text)}")
    return text


@dataclass(frozen=True, slots=True)
class Call:
    """A command with the values of its arguments, and its caller. `call["why"]` is the value of the argument `why`.
    `upload`: the chunks of the file that the caller sends, None without one; RefusedError if it does not arrive."""

    command: Command
    values: Values
    caller: Caller
    upload: AsyncIterator[bytes] | None = None

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def act(self) -> Act:
        """The command and its caller, for the audit."""
        return Act(self.command.name, self.caller.user, self.caller.uid)


class Exit(NamedTuple):
    """An exit code other than 0, and the text for stderr."""

    code: int
    text: str


class Sent(NamedTuple):
    """What the command line sends: the values of the arguments, and an open file, None without one."""

    values: Values
    file: BufferedReader | None = None


Effect = Callable[["Operations", Call], Awaitable["Document | web.StreamResponse"]]
"""What a command does in the daemon."""


def _no_exit(document: Document, values: Values) -> Exit | None:
    return None


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    `name`: the words to type; `summary`: the help text. `effect`: runs in the daemon; returns a document, or with
    `copied` a response whose bytes `show` receives as a file. `show`: prints the document for a person. `changes`: the
    command changes the state; its audit line is written in the same transaction. `audited`: the command changes nothing
    and has an audit line nevertheless. `uploads`: the caller may send a file. `end`: the exit code other than 0 for a
    document.
    """

    name: str
    summary: str
    roles: Roles
    effect: Effect
    show: Callable[[Document, Values], None]
    arguments: tuple[Argument, ...] = ()
    changes: bool = False
    copied: bool = False
    audited: bool = False
    uploads: bool = False
    end: Callable[[Document, Values], Exit | None] = _no_exit
    check: Callable[[Values], Exit | None] = lambda values: None
    """Called by the command line before it connects to the daemon; an Exit ends the command."""
    json: str = ""
    """A description of the document, for docs/cli.md."""
    hidden: bool = False
    """A step of other commands of the command line, which has none of this name."""
    prepare: Callable[[Values, Values], Sent] = lambda values, sent: Sent(sent)
    """Makes the request body that the command line sends, from (values of all arguments, values of the arguments that
    are sent). Called after `check`. Raises RefusedError."""

    @property
    def path(self) -> str:
        """The command's path on the control socket."""
        return "/" + self.name.replace(" ", "/")

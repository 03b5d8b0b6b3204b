"""The daemon's commands (daemon/commands) as click commands: send the arguments to the daemon, print the result."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from io import BufferedReader
from typing import TYPE_CHECKING, Any

import click

from blocklistd.cli.common import Session, common
from blocklistd.cli.failures import Failed
from blocklistd.cli.stages import show_stage
from blocklistd.cli.stdin import read_line
from blocklistd.daemon.commands.command import Argument, Command, Values
from blocklistd.errors import RefusedError

if TYPE_CHECKING:
    from blocklistd.cli.control import ControlClient


def command_of(command: Command) -> click.Command:
    """The click command for a command; its name is the last word of the command's name."""

    @common
    def called(session: Session, **values: Any) -> None:
        _end(command.check(values))
        values |= {a.name: read_line(a) for a in command.arguments if a.stdin}
        sent = {a.name: values[a.name] for a in command.arguments if not a.local and values[a.name] is not None}
        to_send, file = command.prepare(values, sent)
        with session.daemon() as daemon:
            if command.copied:
                daemon.copy(command, to_send, lambda found: command.show(found, values | {"json": session.json}), file)
                return
            document = _ask(
                daemon, command, to_send, file, show=(command.changes or command.uploads) and not session.json
            )
        session.answer(document, lambda found: command.show(found, values))
        _end(command.end(document, values))

    made = click.command(command.name.split()[-1], help=command.summary)(called)
    made.params = [*map(_parameter, command.arguments), *made.params]
    return made


def _ask(daemon: ControlClient, command: Command, sent: Values, file: BufferedReader | None, *, show: bool) -> Any:
    """Runs a command in the daemon and returns its document. `show`: the terminal shows the stage until it ends."""
    if not show:
        return daemon.ask(command, sent, file=file)
    call = secrets.token_hex(8)
    with show_stage(lambda: daemon.stage(call)):
        return daemon.ask(command, sent, call, file)


def _end(ending: tuple[int, str] | None) -> None:
    if ending is not None:
        code, text = ending
        raise Failed(text, code)


class _Read(click.ParamType):  # type: ignore[type-arg]  # generic for the type checker alone
    """Checks a value with the argument's `read`, before the request is sent."""

    name = "value"

    def __init__(self, argument: Argument) -> None:
        self._argument = argument

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        try:
            return self._argument.read(value)
        except RefusedError as error:
            self.fail(str(error), parameter, context)


class _Stdin(click.Option):
    """The option of a value that is read from stdin. Its error is the first one, before that of an argument in its
    place, which click would repeat."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more, is_eager=True)

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        if not opts.get(self.name or ""):
            raise click.UsageError(
                f"the entry is read from stdin, so that nobody else sees it: add {self.opts[0]}", ctx
            )
        if args:
            raise click.UsageError("too many arguments: the entry is read from stdin, and stands in no argument", ctx)
        return super().handle_parse_result(ctx, opts, args)


def _parameter(argument: Argument) -> click.Parameter:
    if not argument.option:
        number = -1 if argument.many else 1
        return click.Argument(
            [argument.name], metavar=argument.metavar or None, type=_Read(argument), nargs=number, required=True
        )
    if argument.stdin:
        return _Stdin([argument.option, argument.name], help=argument.help, is_flag=True, required=True)
    if argument.flag:
        return click.Option([argument.option, argument.name], help=argument.help, is_flag=True)
    default = {"default": argument.default} if argument.default is not None else {}  # None would be one, to click
    return click.Option(
        [argument.option, argument.name],
        help=argument.help,
        metavar=argument.metavar or "TEXT",
        multiple=argument.many,
        required=argument.required,
        type=_Read(argument),
        **default,
    )

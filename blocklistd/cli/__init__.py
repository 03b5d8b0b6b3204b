"""The command line. Commands that need no daemon have a module each; those of the daemon come from daemon/commands
(commanded.py). A module is imported when its command is called.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Final

import click

from blocklistd import __version__
from blocklistd.cli.failures import Failed, Unreachable
from blocklistd.errors import BlocklistError, ConfigError

LOCAL: Final = {
    "serve": ("serve", "Run the daemon in the foreground."),
    "demo": ("demo", "Run the whole system on this machine, with data of its own."),
    "check-config": ("checkconfig", "Print every error in the configuration."),
    "keys init": ("keys", "Make the keys."),
    "sync": ("sync", "Follow a list, as a subscriber does."),
}
"""Commands that need no daemon: name → (module, short help)."""

GROUPS: Final = {
    "status": "Lists, sources, held candidates and subscribers.",
    "source": "What the hotlines said, and pulls by hand.",
    "candidate": "What is held, and the decision on it.",
    "list": "Versions of a list, and their differences.",
    "subscriber": "Who may have which lists.",
    "reload": "Read the configuration again.",
    "start-above": "After a loss of state: begin all numbers above N.",
    "keys": "Make the keys, and show them.",
    "audit": "Who did what, when.",
}
"""The first words of the other commands (daemon/commands), and their short helps."""

FIRST_WORDS: Final = {
    name: LOCAL[name][1] if name in LOCAL else GROUPS[name]
    for name in ("serve", "demo", "check-config", *GROUPS, "sync")
}


class LazyGroup(click.Group):
    """Knows the first words of its commands and their short helps, and imports a command when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(FIRST_WORDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in LOCAL:
            return _local(name)
        return _group(name) if name in GROUPS else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(FIRST_WORDS.items()))


def _local(name: str) -> click.Command:
    command: click.Command = importlib.import_module(f"blocklistd.cli.{LOCAL[name][0]}").command
    return command


def _group(word: str) -> click.Command:
    """All commands that begin with this word; the one that is this word alone, too."""
    from blocklistd.cli.commanded import command_of
    from blocklistd.daemon.commands import COMMANDS

    parts = {name: command_of(command) for name, command in COMMANDS.items() if name.split()[0] == word}
    parts |= {name: _local(name) for name in LOCAL if name.startswith(f"{word} ")}
    itself = parts.pop(word, None)
    if itself is not None and not parts:
        return itself
    group = click.Group(word, help=GROUPS[word])
    if itself is not None:
        group = click.Group(
            word, help=GROUPS[word], callback=_unless_more(itself), params=itself.params, invoke_without_command=True
        )
    for name, command in parts.items():
        group.add_command(command, name.split()[-1])
    return group


def _unless_more(command: click.Command) -> Callable[..., object]:
    """The command of a group's own name: called unless another word follows."""

    @click.pass_context
    def called(context: click.Context, /, **values: object) -> object:
        if not context.invoked_subcommand:
            return context.invoke(command, **values)
        if any(context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT for name in values):
            raise click.UsageError(f"options stand behind the last word: `{context.info_name} … --option`", context)
        return None

    return called


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="blocklistd")
@click.option("-c", "--config", metavar="FILE", help="The configuration; every command takes it too.")
@click.pass_context
def program(context: click.Context, config: str | None) -> None:
    """A trustworthy pipe from hotlines to those who block.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 the daemon is not reachable, 4 held for
    review.
    """
    context.obj = config


def run(arguments: list[str]) -> int:
    """The exit code; every error is a line on stderr that says what to do."""
    try:
        code = program.main(arguments, prog_name="blocklistd", standalone_mode=False)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        return 1
    except click.ClickException as error:
        error.show()
        return 2
    except ConfigError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        return 2
    except Unreachable as error:
        click.echo(f"blocklistd: {error}", err=True)
        return 3
    except Failed as error:
        if str(error):
            click.echo(f"blocklistd: {error}", err=True)
        return error.code
    except BlocklistError as error:
        click.echo(f"blocklistd: {error}", err=True)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "blocklistd").split(".")[0] == "blocklistd":
            raise
        rest = "for `blocklistd sync` install requirements-client.lock, for every other command requirements.lock"
        click.echo(f"blocklistd: {error.name} is not installed here: {rest}", err=True)
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # whatever else is written goes where the caller sent it: to a disk that is full
        click.echo(f"blocklistd: {error.filename or 'the output'}: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in the buffer, and would fail again at the end
        return 1
    return code if isinstance(code, int) else 0

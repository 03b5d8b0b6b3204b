"""The command line: a file a command group, no logic. A command's module is imported when it is called, not before."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

import click

from blocklistd import __version__
from blocklistd.cli.failures import Failed, Unreachable
from blocklistd.errors import BlocklistError, ConfigError

COMMANDS: Final = {
    "serve": ("serve", "Run the daemon in the foreground."),
    "demo": ("demo", "Run the whole system on this machine, with data of its own."),
    "check-config": ("checkconfig", "Print every error in the configuration."),
    "status": ("status", "Lists, sources, held candidates and subscribers."),
    "source": ("source", "What the hotlines said, and pulls by hand."),
    "candidate": ("candidate", "What is held, and the decision on it."),
    "list": ("lists", "Versions of a list, and their differences."),
    "subscriber": ("subscriber", "Who may have which lists."),
    "keys": ("keys", "Make the keys, and show them."),
    "sync": ("sync", "Follow a list, as a subscriber does."),
}
"""Name → (module, short help)."""


class LazyGroup(click.Group):
    """Knows the names and the short helps of its commands, and imports one when it is called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"blocklistd.cli.{COMMANDS[name][0]}")
        command: click.Command = module.command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


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
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # whatever else is written goes where the caller sent it: to a disk that is full
        click.echo(f"blocklistd: {error.filename or 'the output'}: {error.strerror}", err=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in the buffer, and would fail again at the end
        return 1
    return code if isinstance(code, int) else 0

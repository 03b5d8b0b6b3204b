"""The command line. Each command that needs no daemon has a module here; daemon_commands.py makes the others from
daemon/commands. A module is imported when its command is called.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Final

import click

from blocklistd import __version__
from blocklistd.cli.common import DEFAULT_CONFIG, problem_text
from blocklistd.cli.failures import Failed, Unreachable
from blocklistd.cli.languages import TranslatedHelp, language_for, show_usage_error
from blocklistd.errors import BlocklistError, ConfigError
from blocklistd.language.context import _, known, speaking

LOCAL: Final = {
    "serve": ("serve", "Run the daemon in the foreground."),
    "demo": ("demo", "Run the whole system on this machine, with demo data."),
    "check-config": ("checkconfig", "Check the configuration; print every error."),
    "doctor": ("doctor", "Check the installation; print what is wrong."),
    "keys init": ("keys", "Make the online key, the root keys and root.json."),
    "keys rotate": ("keys_ceremony:rotate", "Replace the online key or root keys."),
    "keys renew": ("keys_ceremony:renew", "Give root.json a later expiry."),
    "keys sign": ("keys_ceremony:sign", "Sign the next root.json, as a holder of a root key."),
    "restore": ("restore", "Put a backup in the place of the state."),
    "sync": ("sync", "Fetch and verify a list, as a subscriber."),
}
"""Commands with a module of their own here: (module, or module:function; short help) by name."""

ASKING: Final = {"doctor": "status facts", "keys rotate": "keys adopt", "keys renew": "keys adopt"}
"""Those that ask the daemon, each with the command whose roles it needs and which is in the audit."""

GROUPS: Final = {
    "status": "Show lists, zones, sources, candidates and subscribers.",
    "source": "Show the sources and their last pulls; test and pull a source.",
    "candidate": "Show, approve and reject held candidates.",
    "list": "Show the versions of a list and their diffs.",
    "entry": "Take single entries out of a list, and bring them back.",
    "subscriber": "Add, show and revoke subscribers.",
    "reload": "Read the configuration again.",
    "start-above": "After a loss of state: number everything above N.",
    "keys": "Make, show, replace and renew the keys.",
    "alarms": "Test the ways by which alarms reach people.",
    "audit": "Show who did what and when; verify the audit.",
    "backup": "Write a backup of the state, while the daemon runs.",
}
"""Short help of the other commands (daemon/commands), by first word."""

FIRST_WORDS: Final = {
    name: LOCAL[name][1] if name in LOCAL else GROUPS[name]
    for name in ("serve", "demo", "check-config", "doctor", *GROUPS, "restore", "sync")
}
"""Short help of every first word, in the order of `blocklistd --help`."""


HELP: Final = ["-h", "--help"]


class LazyGroup(click.Group):
    """A click group that prints first words and short helps without an import, and imports a command when called."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(FIRST_WORDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in LOCAL:
            return _local(name)
        return _group(name) if name in GROUPS else None

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(FIRST_WORDS.items()))


click.Context.formatter_class = TranslatedHelp  # of every command: click has no other way for all of them


def _local(name: str) -> click.Command:
    module, _, function = LOCAL[name][0].partition(":")
    command: click.Command = getattr(importlib.import_module(f"blocklistd.cli.{module}"), function or "command")
    return command


def _group(word: str) -> click.Command:
    """The group of all commands that begin with this word, or the one command that is this word alone."""
    from blocklistd.cli.daemon_commands import command_of
    from blocklistd.daemon.commands import COMMANDS

    shown = {name: one for name, one in COMMANDS.items() if name.split()[0] == word and not one.hidden}
    parts = {name: command_of(command) for name, command in shown.items()}
    parts |= {name: _local(name) for name in LOCAL if name.startswith(f"{word} ")}
    itself = parts.pop(word, None)
    if itself is not None and not parts:
        return itself
    group = click.Group(word, help=GROUPS[word])
    if itself is not None:
        group = click.Group(
            word,
            help=GROUPS[word],
            callback=_without_subcommand(itself),
            params=itself.params,
            invoke_without_command=True,
        )
    for name, command in parts.items():
        command.short_help = (
            " ".join((command.help or "").split("\n\n")[0].split()).partition(". ")[0].rstrip(".") + "."
        )
        group.add_command(command, name.split()[-1])
    return group


def _first_sentence(text: str) -> str:
    """The short help of a command, complete: click would cut it where the line ends."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


def _without_subcommand(command: click.Command) -> Callable[..., object]:
    """Runs the command that has the group's own name (`audit`), unless a subcommand follows."""

    @click.pass_context
    def called(context: click.Context, /, **values: object) -> object:
        if not context.invoked_subcommand:
            return context.invoke(command, **values)
        if any(context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT for name in values):
            raise click.UsageError(f"write options after the last word: `{context.info_name} … --option`", context)
        return None

    return called


@click.group(cls=LazyGroup, context_settings={"help_option_names": HELP})
@click.version_option(__version__, prog_name="blocklistd")
@click.option("-c", "--config", metavar="FILE", help="The configuration file; every command takes it, too.")
@click.pass_context
def program(context: click.Context, config: str | None) -> None:
    """Pulls blocklists from hotlines, verifies, reviews and signs them, and serves
    them to those who block, over HTTPS and DNS.

    Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 the daemon is not reachable, 4 held for
    review.
    """
    context.obj = config


def run(arguments: list[str], command: click.Command = program, name: str = "blocklistd") -> int:
    """Runs a command line of a program and returns the exit code. Each error is a line on stderr that ends with what to
    do, on a terminal wrapped between words. Texts are in the language of the configuration or of the user."""
    words = arguments if command is program else [command.name or "", *arguments]
    with speaking(language_for(words, os.environ, DEFAULT_CONFIG)):
        return _run(arguments, command, name)


def _run(arguments: list[str], command: click.Command, name: str) -> int:
    try:
        code = command.main(arguments, prog_name=name, standalone_mode=False, help_option_names=HELP)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        return 1
    except click.ClickException as error:
        show_usage_error(error)
        return 2
    except ConfigError as error:
        for problem in error.problems:
            _complain(problem_text(problem))
        return 2
    except Unreachable as error:
        _complain(f"blocklistd: {known(str(error))}")
        return 3
    except Failed as error:
        if str(error):
            _complain(f"blocklistd: {known(str(error))}")
        return error.code
    except BlocklistError as error:
        _complain(f"blocklistd: {known(str(error))}")
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "blocklistd").split(".")[0] == "blocklistd":
            raise
        text = _(
            "{module} is not installed here: install requirements-client.lock for `blocklistd sync`, requirements.lock "
            "for every other command",
            module=error.name,
        )
        _complain(f"blocklistd: {text}")
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # of writing the output: the disk to which the caller redirected it is full
        _complain(f"blocklistd: {error.filename or _('the output')}: {known(error.strerror or '')}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the rest of the buffer would fail again at exit
        return 1
    return code if isinstance(code, int) else 0


def _complain(text: str) -> None:
    if os.isatty(2):
        columns = shutil.get_terminal_size().columns
        lines = (
            textwrap.wrap(line, columns, break_on_hyphens=False, break_long_words=False) for line in text.split("\n")
        )
        text = "\n".join("\n".join(line) for line in lines)
    click.echo(text, err=True)

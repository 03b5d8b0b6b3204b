"""The language of a command: which one, and the texts of click in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from blocklistd.language import LANGUAGES, Language, from_environment, language_of
from blocklistd.language.context import _, known

WITHOUT_CONFIGURATION: Final = (("sync",), ("demo",), ("keys", "sign"))
"""Commands that read no configuration: the environment names their language."""
_KEY: Final = re.compile(r"""^language:[ \t]*["']?([a-z]*)""", re.MULTILINE)
_MAX_BYTES: Final = 1 << 20  # of the configuration that are searched for the key
_EXTRAS: Final = re.compile(r"  \[([^\]]*)\]$")
_DEFAULT: Final = re.compile("default: (.*)")


def language_for(arguments: Sequence[str], environment: Mapping[str, str], default: str = "") -> Language:
    """The language of a command line: `language:` of the configuration, or the environment's if the command has no
    configuration, or it can't be read. `default`: the configuration where none is named."""
    given = _config_of(arguments)
    words = tuple(one for one in arguments if not one.startswith("-"))
    if given is None and any(words[: len(name)] == name for name in WITHOUT_CONFIGURATION):
        return from_environment(environment)
    path = given or environment.get("BLOCKLISTD_CONFIG") or default
    code = _configured(Path(path)) if path else None
    return language_of(code) if code is not None else from_environment(environment)


def _config_of(arguments: Sequence[str]) -> str | None:
    """The value of -c or --config; None if it is not given."""
    for place, one in enumerate(arguments):
        if one in ("-c", "--config"):
            return arguments[place + 1] if place + 1 < len(arguments) else None
        if one.startswith("--config="):
            return one.removeprefix("--config=")
        if one.startswith("-c") and not one.startswith("--"):
            return one.removeprefix("-c")
    return None


def _configured(path: Path) -> str | None:
    """`language:` of a configuration, which may have errors elsewhere; None if it can't be read, or is none of
    LANGUAGES."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer must not wait
        with open(descriptor, "rb") as file:
            text = file.read(_MAX_BYTES).decode(errors="replace")
    except (OSError, ValueError, TypeError):
        return None
    found = _KEY.search(text)
    code = found[1] if found else "en"
    return code if code in LANGUAGES else None


class TranslatedHelp(click.HelpFormatter):
    """Writes the help of commands in the language in force. The commands have it in English."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        for word in ("[OPTIONS]", "COMMAND [ARGS]..."):
            args = args.replace(word, _(word))
        super().write_usage(prog, args, _("Usage: ") if prefix is None else prefix)

    def write_heading(self, heading: str) -> None:
        super().write_heading(_(heading))

    def write_text(self, text: str) -> None:
        super().write_text("\n\n".join(_(" ".join(part.split())) for part in text.split("\n\n")))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(name, _help(text)) for name, text in rows], col_max, col_spacing)


def _help(text: str) -> str:
    """The help of an option or a command. click adds ` [required]` and the like to it."""
    extras = _EXTRAS.search(text)
    if extras is None:
        return _(" ".join(text.split()))
    made = (_extra(one) for one in extras[1].split("; "))
    return f"{_(' '.join(text[: extras.start()].split()))}  [{'; '.join(made)}]"


def _extra(text: str) -> str:
    default = _DEFAULT.fullmatch(text)
    return _("default: {value}", value=default[1]) if default else _(text)


def show_usage_error(error: click.ClickException) -> None:
    """Prints an error of the command line's usage on stderr, as click does, in the language in force."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):  # its message is the help
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
        if context.command.get_help_option(context) is not None:
            named = {"command": context.command_path, "option": max(context.help_option_names, key=len)}
            click.echo(_("Try '{command} {option}' for help.", **named) + "\n", err=True)
    click.echo(_("Error: {message}", message=known(error.format_message())), err=True)

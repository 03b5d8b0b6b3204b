"""Makes docs/cli.md from the commands: `python -m blocklistd.cli.reference > docs/cli.md` (`make docs`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from blocklistd.cli import ASKING, FIRST_WORDS, program
from blocklistd.daemon.commands import COMMANDS

HEAD = """\
# The command line

Made by `make docs` from the source code of the commands. Every command takes `-c FILE` (the configuration file) and
`--json` (print one JSON document on stdout). Exit codes: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3
the daemon is not reachable, 4 held for review.

`control.operators` gives roles to users. A user with any of the roles of a command may run it. An *audited* command
writes a line that `blocklistd audit` shows.
"""

BAR = "\\|"
"""A vertical bar in a cell of a table."""


def document() -> str:
    """The text of docs/cli.md."""
    return "\n".join([HEAD, *(_section(name, command) for name, command in commands())])


def commands() -> Iterator[tuple[str, click.Command]]:
    """(name, command) of every command that can be called, in the order of `blocklistd --help`."""
    context = click.Context(program)
    for word in FIRST_WORDS:
        command = program.get_command(context, word)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield word, command
        if isinstance(command, click.Group):
            yield from ((f"{word} {name}", part) for name, part in command.commands.items())


def _section(name: str, command: click.Command) -> str:
    lines = [f"## `{usage(name, command)}`", "", summary(name, command), "", who(name), ""]
    if own_options(command):
        lines += ["| option | meaning |", "|---|---|", *map(_option, own_options(command)), ""]
    return "\n".join(lines)


def usage(name: str, command: click.Command) -> str:
    """The words of a command and its arguments, without the options."""
    places = [p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)]
    return " ".join(filter(None, [name, *places]))


def summary(name: str, command: click.Command) -> str:
    """The description of a command, in paragraphs. The last one describes its output with --json."""
    if name not in COMMANDS:
        return re.sub(r"\s+", " ", command.help or "").strip()
    with_json = f"\n\nWith `--json`: {COMMANDS[name].json}" if COMMANDS[name].json else ""
    return COMMANDS[name].summary + with_json


def own_options(command: click.Command) -> list[click.Option]:
    """The options of a command, without those that every command takes."""
    return [p for p in command.params if isinstance(p, click.Option) and p.name not in ("config", "as_json")]


def who(name: str) -> str:
    """Who may run a command, and whether the audit has it."""
    command = COMMANDS.get(ASKING.get(name, name))
    if command is None:
        return "Needs no daemon."
    roles = ", ".join(sorted(command.roles - {"admin"}, key=["reviewer", "editor", "examiner"].index))
    who = "Every user may run it." if not command.roles else f"Roles: {roles + ', ' if roles else ''}admin."
    return f"{who} Audited." if command.changes or command.audited else who


def _option(option: click.Option) -> str:
    taken = f" {takes(option)}".rstrip().replace("|", "\\|")
    return f"| `{option.opts[0]}{taken}` | {meaning(option).replace('|', BAR)} |"


def takes(option: click.Option) -> str:
    """The placeholder of an option's value: empty if the option is a flag."""
    return "" if option.is_flag else option.make_metavar(click.Context(click.Command("x")))


def meaning(option: click.Option) -> str:
    """The help of an option, with its default, and whether it is required or may be repeated."""
    notes = [f"default: {option.default}"] if option.show_default else []
    notes += [note for note, true in (("required", option.required), ("may be repeated", option.multiple)) if true]
    text = option.help or ""
    if notes and not all(note in text for note in notes):
        text += f" ({', '.join(notes)})"
    return text


if __name__ == "__main__":
    click.echo(document(), nl=False)

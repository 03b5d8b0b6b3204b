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


def document() -> str:
    """The text of docs/cli.md."""
    return "\n".join([HEAD, *(_section(name, command) for name, command in _commands())])


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(program)
    for word in FIRST_WORDS:
        command = program.get_command(context, word)
        assert command is not None
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield word, command
        if isinstance(command, click.Group):
            yield from ((f"{word} {name}", part) for name, part in command.commands.items())


def _section(name: str, command: click.Command) -> str:
    parameters = [p for p in command.params if p.name not in ("config", "as_json")]
    places = " ".join(p.make_metavar(click.Context(command)) for p in parameters if isinstance(p, click.Argument))
    summary = COMMANDS[name].summary if name in COMMANDS else re.sub(r"\s+", " ", command.help or "").strip()
    if name in COMMANDS and COMMANDS[name].json:
        summary += f"\n\nWith `--json`: {COMMANDS[name].json}"
    lines = [f"## `{' '.join(filter(None, [name, places]))}`", "", summary, "", _who(name), ""]
    options = [p for p in parameters if isinstance(p, click.Option)]
    if options:
        lines += ["| option | meaning |", "|---|---|", *map(_option, options), ""]
    return "\n".join(lines)


def _who(name: str) -> str:
    command = COMMANDS.get(ASKING.get(name, name))
    if command is None:
        return "Needs no daemon."
    roles = ", ".join(sorted(command.roles - {"admin"}, key=["reviewer", "editor", "examiner"].index))
    who = "Every user may run it." if not command.roles else f"Roles: {roles + ', ' if roles else ''}admin."
    return f"{who} Audited." if command.changes or command.audited else who


def _option(option: click.Option) -> str:
    takes = "" if option.is_flag else f" {option.make_metavar(click.Context(click.Command('x')))}".replace("|", "\\|")
    notes = [f"default: {option.default}"] if option.show_default else []
    notes += [note for note, true in (("required", option.required), ("may be repeated", option.multiple)) if true]
    text = (option.help or "").replace("|", "\\|")
    if notes and not all(note in text for note in notes):
        text += f" ({', '.join(notes)})"
    return f"| `{option.opts[0]}{takes}` | {text} |"


if __name__ == "__main__":
    click.echo(document(), nl=False)

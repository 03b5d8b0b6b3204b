"""Makes the completions of shells from the commands: `python -m blocklistd.cli.completion bash blocklistd`.

A completion is a script that names every command and option: it calls no program, so a key press costs nothing. All
three scripts go the same way. The *level* is the longest known name of a command before the cursor (`subscriber add`);
the option before the cursor decides what its value can be; else the words of the level are offered.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import click

from blocklistd.cli import FIRST_WORDS, HELP, program
from blocklistd.cli.sync import command as sync

FILE: Final = "file"
FOLDER: Final = "folder"
PROGRAMS: Final[dict[str, click.Command]] = {"blocklistd": program, "blocklistd-sync": sync}


@dataclass(frozen=True, slots=True)
class OptionOffer:
    """One option of a level. `takes`: None for a flag, FILE, FOLDER, or the values to offer, which may be none."""

    names: tuple[str, ...]
    help: str
    takes: str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class CommandLevel:
    """A command, or the program itself: its words and options. `words`: short help by subcommand. `files`: an argument
    is a file."""

    words: dict[str, str] = field(default_factory=dict)
    offers: list[OptionOffer] = field(default_factory=list)
    files: bool = False

    def described(self) -> dict[str, str]:
        """What may be written at this level, each with its short help."""
        return self.words | {name: offer.help for offer in self.offers for name in offer.names}


def levels(command: click.Command) -> dict[str, CommandLevel]:
    """Every level of a program by its name; the program itself is the level without a name."""
    found: dict[str, CommandLevel] = {}

    def add(name: str, command: click.Command) -> None:
        context = click.Context(command, help_option_names=HELP)
        options = [one for one in command.get_params(context) if isinstance(one, click.Option) and not one.hidden]
        offers = [OptionOffer((*one.opts,), _line(one.help or ""), _takes(one)) for one in options]
        files = any(isinstance(one, click.Argument) and _takes(one) == FILE for one in command.params)
        parts = _parts(command, context)
        helps = FIRST_WORDS if command is program else {word: part.help or "" for word, part in parts.items()}
        words = {word: _line(text) for word, text in helps.items()}
        found[name] = CommandLevel(words, offers, files)
        for word, part in parts.items():
            add(f"{name} {word}".strip(), part)

    add("", command)
    return found


def _parts(command: click.Command, context: click.Context) -> dict[str, click.Command]:
    if not isinstance(command, click.Group):
        return {}
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: part for name, part in found.items() if part is not None}


def _line(text: str) -> str:
    """The first sentence of a help."""
    return re.split(r"(?<=\.)\s", re.sub(r"\s+", " ", text).strip())[0].rstrip(".")


def _takes(parameter: click.Parameter) -> str | tuple[str, ...] | None:
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return None
    if isinstance(parameter.type, click.Choice):
        return tuple(map(str, parameter.type.choices))
    if isinstance(parameter.type, click.Path):
        return FILE if parameter.type.file_okay else FOLDER
    return FILE if parameter.metavar == "FILE" else ()


def _values(levels: dict[str, CommandLevel]) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    """Each option that has a value: the text `level:option`, and the kind of the value."""
    for name, level in levels.items():
        for offer in level.offers:
            if offer.takes is not None:
                yield from ((f"{name}:{option}", offer.takes) for option in offer.names)


def _by_kind(levels: dict[str, CommandLevel]) -> dict[str | tuple[str, ...], str]:
    """For each kind of value, one pattern of the shell's `case`: the `level:option` of all options with it."""
    found: dict[str | tuple[str, ...], list[str]] = {}
    for key, takes in _values(levels):
        found.setdefault(takes, []).append(shlex.quote(key))
    return {takes: "|".join(keys) for takes, keys in found.items()}


def _names(levels: dict[str, CommandLevel]) -> str:
    """A pattern of `case` with the name of each level."""
    return "|".join(shlex.quote(name) for name in levels if name) or "''"


def bash(name: str, levels: dict[str, CommandLevel]) -> Iterator[str]:
    """The script for bash-completion."""
    function = f"_{name.replace('-', '_')}"
    yield f"{function}() {{"
    yield "    local cur=${COMP_WORDS[COMP_CWORD]} level= word offered="
    yield '    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do'
    yield '        case "${level:+$level }$word" in'
    yield f'            {_names(levels)}) level="${{level:+$level }}$word" ;;'
    yield from ("        esac", "    done", '    case "$level:${COMP_WORDS[COMP_CWORD-1]}" in')
    for takes, pattern in _by_kind(levels).items():
        yield f"        {pattern})"
        if isinstance(takes, str):
            kind = "-f" if takes == FILE else "-d"
            yield f'            compopt -o filenames; mapfile -t COMPREPLY < <(compgen {kind} -- "$cur"); return ;;'
        else:
            values = shlex.quote(" ".join(takes))
            yield f'            mapfile -t COMPREPLY < <(compgen -W {values} -- "$cur"); return ;;'
    yield from ("    esac", '    case "$level" in')
    for level, one in levels.items():
        yield f"        {shlex.quote(level)}) offered={shlex.quote(' '.join(one.described()))} ;;"
    yield from ("    esac", '    mapfile -t COMPREPLY < <(compgen -W "$offered" -- "$cur")', "}")
    yield f"complete -o default -F {function} {name}  # an argument that is no word of these may be a file"


def zsh(name: str, levels: dict[str, CommandLevel]) -> Iterator[str]:
    """The script for zsh, a function of $fpath."""
    yield f"#compdef {name}"
    yield from ("local level= word", "local -a offered", 'for word in "${(@)words[2,CURRENT-1]}"; do')
    yield '    case "${level:+$level }$word" in'
    yield f'        ({_names(levels)}) level="${{level:+$level }}$word" ;;'
    yield from ("    esac", "done", 'case "$level:${words[CURRENT-1]}" in')
    for takes, pattern in _by_kind(levels).items():
        if isinstance(takes, str):
            yield f"    ({pattern}) {'_files' if takes == FILE else '_files -/'}; return ;;"
        else:
            yield f"    ({pattern}) compadd -- {shlex.join(takes)}; return ;;"
    yield from ("esac", 'case "$level" in')
    for level, one in levels.items():
        offered = (f"{word.replace(':', chr(92) + ':')}:{text}" for word, text in one.described().items())
        yield f"    ({shlex.quote(level)}) offered=({shlex.join(offered)}) ;;"
    yield from ("esac", f"_describe {name} offered || _files")


def fish(name: str, levels: dict[str, CommandLevel]) -> Iterator[str]:
    """The script for fish."""
    at = f"__{name.replace('-', '_')}_at"
    yield f"set -g {at}_levels {' '.join(map(_fish_quoted, filter(None, levels)))}"
    yield f"function {at}"
    yield "    set -l level"
    yield "    for word in (commandline -opc)[2..]"
    yield '        set -l longer (string trim -- "$level $word")'
    yield f'        contains -- "$longer" ${at}_levels; and set level "$longer"'
    yield from ("    end", '    test "$level" = "$argv[1]"', "end", f"complete -c {name} -f")
    for level, one in levels.items():
        here = f"complete -c {name} -n {_fish_quoted(f'{at} {_fish_quoted(level)}')}"
        for word, text in one.words.items():
            yield f"{here} -a {word} -d {_fish_quoted(text)}"
        if one.files:
            yield f"{here} -F"
        for offer in one.offers:
            yield f"{here} {_fish_option(offer)} -d {_fish_quoted(offer.help)}"


def _fish_option(offer: OptionOffer) -> str:
    names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in offer.names)
    if offer.takes is None:
        return names
    if isinstance(offer.takes, str):
        return f"{names} -r -F" if offer.takes == FILE else f"{names} -x -a '(__fish_complete_directories)'"
    return f"{names} -x -a {_fish_quoted(' '.join(offer.takes))}"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Final[dict[str, Callable[[str, dict[str, CommandLevel]], Iterator[str]]]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}


def script(shell: str, name: str) -> str:
    """The completion of a program of PROGRAMS for a shell of SHELLS."""
    return "\n".join(SHELLS[shell](name, levels(PROGRAMS[name]))) + "\n"


if __name__ == "__main__":
    click.echo(script(sys.argv[1], sys.argv[2]), nl=False)

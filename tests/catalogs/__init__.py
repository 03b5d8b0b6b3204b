"""The texts of the package that people read, from its source: the keys of blocklistd/language/catalogs.

`texts()` has the texts that code translates: arguments of `_`, `N_`, `ngettext` and Language's `text` and `plural`,
headings and keys of tables, and the help of commands. `messages()` has the finished English messages, as templates: of
errors, and of the tables of reasons.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import click

from blocklistd.cli import FIRST_WORDS, program
from blocklistd.language.messages import CONTEXT, places
from blocklistd.language.po import PoEntry
from blocklistd.telemetry import ALARMS

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "blocklistd"
CATALOGS: Final = PACKAGE / "language" / "catalogs"

TRANSLATED: Final = {"_", "N_", "text"}
PLURALS: Final = {"ngettext", "plural"}
RAISED: Final = {
    *("Failed", "Exit", "Unreachable", "Problem", "ConfigProblem", "InvalidValue", "Reader", "fail", "report"),
    *("report_nonfatal", "warn", "add_file", "problem_at", "Finding"),
}
"""Functions and classes beside `…Error` whose texts are finished messages, or parts of one."""
NO_MESSAGES: Final = {"ValueError", "AssertionError", "TypeError", "OSError", "ConnectionResetError", "KeyError"}
"""Errors that are caught before a person could read their text."""
PARTS: Final = ("language", "ops", "serve", "jobs", "outputs", "lines", "kinds", "compose", "rpz", "demo")
"""Parts of the package whose errors the command line does not print: the log has them."""
TABLES: Final = {
    "sources/reject_words.py": ("WORDS",),
}
WHOLE: Final = ("config/", "daemon/doctor/", "daemon/alarm_texts.py", "daemon/backups/")
"""Modules of which every sentence is a message or a part of one: they put several together."""
CLICK: Final = (
    "Missing argument {param}.",
    "Missing option {param}.",
    "Missing parameter: {param}",
    "Missing command.",
    "Invalid value for {param}: {message}",
    "Invalid value: {message}",
    "No such option {name}.",
    "No such option {name}. Did you mean {possibility}?",
    "No such command {name}.",
    "No such command {name}. Did you mean {possibility}?",
    "Got unexpected extra argument ({args})",
    "Got unexpected extra arguments ({args})",
    "Option {name} does not take a value.",
    "Option {name} requires an argument.",
    "{value} is not one of {choices}.",
    "{value} is not in the range {range}.",
    "{value} is not a valid {number_type}.",
    "File {filename} does not exist.",
    "File {filename} is a directory.",
    "File {filename} is not readable.",
    "Path {filename} does not exist.",
    "Directory {filename} is a file.",
    "Directory {filename} is not writable.",
)
"""Messages of click, version of requirements.lock."""
SYSTEM: Final = (
    "No such file or directory",
    "Permission denied",
    "Is a directory",
    "Not a directory",
    "File exists",
    "Connection refused",
    "No space left on device",
    "Read-only file system",
)
"""Messages of the system's errors (strerror) that are part of one of ours."""
JOINED: Final = (
    "nothing",
    "`{first}` or `{last}`",
    "`{first}` or `{last}` ({notes})",
    "{first} or {last}",
    "{scheme}: to loopback only",
)
"""Parts of messages that code puts together: alternatives, and what is absent."""
CLICK_HELP: Final = ("[OPTIONS]", "COMMAND [ARGS]...", "Options", "Commands", "Show this message and exit.")
CLICK_MORE: Final = ("Show the version and exit.", "required", "Usage: ", "1<=x<=32")


class Text(NamedTuple):
    """A key of the catalogs. `places`: file:line of its uses."""

    context: str
    message: str
    plural: str
    place: str


@cache
def trees() -> dict[Path, ast.Module]:
    """The syntax tree of each module of the package."""
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py")) if "versions" not in path.parts}


def texts() -> Iterator[Text]:
    """The texts that code translates."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from _called(path, node)
            elif isinstance(node, ast.Yield) and "commands" in path.parts and isinstance(node.value, ast.Tuple):
                yield from _key(path, node.value)
    for text in ALARMS.values():
        yield Text("", text, "", "the kinds of alarms")
    for text in (*CLICK_HELP, *CLICK_MORE):
        yield Text("", text, "", "click")
    yield from ((Text("", text, "", f"help of {name}")) for name, text in helps())


def _called(path: Path, node: ast.Call) -> Iterator[Text]:
    name = _name(node.func)
    strings = [one.value if isinstance(one, ast.Constant) else None for one in node.args]
    place = f"{path.relative_to(ROOT)}:{node.lineno}"
    if name in TRANSLATED and strings and isinstance(strings[0], str) and strings[0]:
        if name != "text" or (isinstance(node.func, ast.Attribute) and "config" not in path.parts):
            yield Text("", strings[0], "", place)
    elif name in PLURALS and len(strings) > 2 and isinstance(strings[0], str) and isinstance(strings[1], str):
        yield Text("", strings[0], strings[1], place)
    elif name == "table" and node.args and "config" not in path.parts:
        yield from _table(path, node)


def _table(path: Path, node: ast.Call) -> Iterator[Text]:
    headings = [one for one in ast.walk(node.args[0]) if isinstance(one, ast.Constant)]
    for one in headings:
        if one.value:
            yield Text("", str(one.value), "", f"{path.relative_to(ROOT)}:{node.lineno}")
    if not any(one.value for one in headings) and len(node.args) > 1:
        for row in ast.walk(node.args[1]):
            if isinstance(row, ast.Tuple):
                yield from _key(path, row)


def _key(path: Path, row: ast.Tuple) -> Iterator[Text]:
    """The key of a row of keys and values."""
    first = row.elts[0]
    if len(row.elts) == 2 and isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value:
        yield Text("", first.value, "", f"{path.relative_to(ROOT)}:{row.lineno}")


def helps() -> Iterator[tuple[str, str]]:
    """(command, text) of each help text: paragraphs of commands, and options."""
    for name, command in commands():
        for part in (command.help or "").split("\n\n"):
            if part.strip():
                yield name, " ".join(part.split())
        short = FIRST_WORDS.get(name) or command.short_help
        if short and name:
            yield name, " ".join(short.split())
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.help:
                yield name, " ".join(parameter.help.split())


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and group, with its words."""
    yield "", program
    context = click.Context(program)
    for word in FIRST_WORDS:
        command = program.get_command(context, word)
        assert command is not None
        yield word, command
        if isinstance(command, click.Group):
            yield from ((f"{word} {name}", part) for name, part in command.commands.items())


def messages() -> Iterator[Text]:
    """The finished English messages, as templates."""
    for path, tree in trees().items():
        part = path.relative_to(PACKAGE).parts[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and part not in PARTS and _is_raised(_name(node.func)):
                for value in [*node.args, *(one.value for one in node.keywords)]:
                    yield from _templates(path, value)
        if str(path.relative_to(PACKAGE)).startswith(WHOLE):
            yield from _whole(path, tree)
        for name in TABLES.get(str(path.relative_to(PACKAGE)), ()):
            yield from _table_of(path, tree, name)
    for text in (*CLICK, *SYSTEM, *JOINED):
        yield Text(CONTEXT, text, "", "click, system, joined")


def _is_raised(name: str) -> bool:
    return (name.endswith("Error") or name in RAISED) and name not in NO_MESSAGES


def _whole(path: Path, tree: ast.Module) -> Iterator[Text]:
    """The sentences of a module without its docstrings and the descriptions of its checks."""
    skipped = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in {"Check", *TRANSLATED}:
            skipped |= {id(one) for one in ast.walk(node)}
        elif isinstance(node, ast.JoinedStr):
            skipped |= {id(one) for one in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in skipped:
            yield from _templates(path, node)


def _table_of(path: Path, tree: ast.Module, name: str) -> Iterator[Text]:
    """The texts of a table of the module: a constant `NAME: Final = {…}`."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            assert isinstance(node.value, ast.Dict)
            for value in node.value.values:
                yield from _templates(path, value)


def _templates(path: Path, value: ast.expr) -> Iterator[Text]:
    """The templates in an expression: its strings and f-strings, also those within values of an f-string."""
    if isinstance(value, ast.Constant):
        if isinstance(value.value, str) and is_sentence(value.value):
            yield Text(CONTEXT, value.value, "", f"{path.relative_to(ROOT)}:{value.lineno}")
        return
    if isinstance(value, ast.JoinedStr):
        template = template_of(value)
        if is_sentence(re.sub(r"\{[a-z_0-9]+\}", "", template)):
            yield Text(CONTEXT, template, "", f"{path.relative_to(ROOT)}:{value.lineno}")
        for one in value.values:
            if isinstance(one, ast.FormattedValue):
                yield from _templates(path, one.value)
        return
    if isinstance(value, ast.IfExp | ast.BoolOp | ast.BinOp | ast.Tuple | ast.List):
        for child in ast.iter_child_nodes(value):
            if isinstance(child, ast.expr):
                yield from _templates(path, child)


def is_sentence(text: str) -> bool:
    """Whether a string is for people: several words, one of them of three letters."""
    return " " in text.strip() and bool(re.search("[A-Za-z]{3,}", text)) and not re.search(r"[\\^]|\(\?| [|] ", text)


def template_of(value: ast.JoinedStr) -> str:
    """The template of an f-string. Each value has the last name of its expression, with a number if that is used."""
    made, used = "", dict[str, int]()
    for one in value.values:
        if isinstance(one, ast.Constant):
            made += str(one.value)
        elif isinstance(one, ast.FormattedValue):
            name = _place(one.value)
            used[name] = used.get(name, 0) + 1
            made += "{" + name + (str(used[name]) if used[name] > 1 else "") + "}"
    return made


def _place(value: ast.AST) -> str:
    match value:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            made = name
        case ast.Subscript(slice=ast.Constant(value=str(name))):
            made = name
        case ast.Subscript(value=inner) | ast.Call(args=[ast.expr() as inner, *_]):
            return _place(inner)
        case ast.Call(func=inner):
            return _place(inner)
        case _:
            made = "value"
    return re.sub("[^a-z0-9_]", "", made.lower()).strip("_") or "value"


def _name(function: ast.expr) -> str:
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def entries() -> list[PoEntry]:
    """The keys of the catalogs, sorted, each once, with the files that use it as a comment."""
    found: dict[tuple[str, str], PoEntry] = {}
    for text in (*texts(), *messages()):
        entry = found.setdefault((text.context, text.message), PoEntry(text.context, text.message))
        entry.plural = entry.plural or text.plural
        place = f"#: {text.place.rpartition(':')[0] or text.place}"
        if place not in entry.comments:
            entry.comments.append(place)
    for entry in found.values():
        if places(entry.message + entry.plural):
            entry.comments.append("#, python-brace-format")
    return sorted(found.values(), key=lambda one: (one.context, one.comments[0], one.message))

"""Keeps the language of the package: docstrings, one word for one thing, named results, errors with a next step.

Everything is judged from the source text and its syntax trees; a failure lists each place as file:line.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "blocklistd"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def trees() -> dict[Path, ast.Module]:
    """The syntax tree of each module, the database's migrations excepted: a released one never changes."""
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py")) if "versions" not in path.parts}


def at(path: Path, line: int, text: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {text}"


def is_public(name: str) -> bool:
    return not name.startswith("_")


def decorators(function: Function) -> set[str]:
    """The last names of a function's decorators: `setter` of `@size.setter`."""
    return {ast.unparse(one).partition("(")[0].rpartition(".")[2] for one in function.decorator_list}


def methods(kind: ast.ClassDef) -> dict[str, Function]:
    return {one.name: one for one in kind.body if isinstance(one, Function)}


# -- docstrings --------------------------------------------------------------------------------------------------------
@cache
def classes() -> dict[str, list[tuple[Path, ast.ClassDef]]]:
    """The classes of the package by name; test_no_two_classes_have_one_name holds one place each."""
    found: dict[str, list[tuple[Path, ast.ClassDef]]] = defaultdict(list)
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append((path, node))
    return found


def imported(tree: ast.Module) -> dict[str, str]:
    """The full name of each imported name: `web` is aiohttp.web."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
    return names


def library_class(name: str) -> object:
    """An object of another package by its full name; None if there is none."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute, None) if module else None
    except ImportError:
        return None


def inherited(path: Path, kind: ast.ClassDef) -> set[str]:
    """The names that a class gets from its bases, in the package or in a library."""
    names: set[str] = set()
    for base in kind.bases:
        written = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        own = classes().get(written.rpartition(".")[2], [])
        for own_path, own_kind in own:
            documented = {name for name, method in methods(own_kind).items() if ast.get_docstring(method)}
            names |= documented | inherited(own_path, own_kind)
        if not own:
            first, _, rest = written.partition(".")
            full = imported(trees()[path]).get(first, f"builtins.{first}")
            names |= set(dir(library_class(f"{full}.{rest}" if rest else full)))
    return names


@cache
def protocols() -> list[frozenset[str]]:
    """The documented methods of each Protocol of the package."""
    found = []
    for places in classes().values():
        for _, kind in places:
            documented = {name for name, method in methods(kind).items() if ast.get_docstring(method)}
            if documented and any(ast.unparse(base).startswith("Protocol") for base in kind.bases):
                found.append(frozenset(documented))
    return found


def undocumented(
    path: Path, body: list[ast.stmt], inside: str = "", known: frozenset[str] = frozenset()
) -> Iterator[str]:
    """The public classes, functions and methods without a docstring. `known`: names that need none here."""
    for node in body:
        if isinstance(node, ast.ClassDef) and is_public(node.name):
            if not ast.get_docstring(node):
                yield at(path, node.lineno, f"class {inside}{node.name}")
            own = frozenset(methods(node))
            free = frozenset(inherited(path, node)).union(*(names for names in protocols() if names <= own))
            yield from undocumented(path, node.body, f"{inside}{node.name}.", free)
        elif isinstance(node, Function) and is_public(node.name) and node.name not in known:
            if not ast.get_docstring(node) and not decorators(node) & {"setter", "deleter", "overload", "override"}:
                yield at(path, node.lineno, f"{inside}{node.name}()")
        elif isinstance(node, ast.If):
            yield from undocumented(path, [*node.body, *node.orelse], inside, known)


def test_public_things_have_docstrings() -> None:
    """Not asked of nested functions, `__dunder__` methods, and overrides of a documented method."""
    missing = [at(path, 1, "module") for path, tree in trees().items() if not ast.get_docstring(tree)]
    for path, tree in trees().items():
        missing += undocumented(path, tree.body)
    assert not missing, "write a docstring:\n" + "\n".join(missing)


# -- words -------------------------------------------------------------------------------------------------------------
class Word(NamedTuple):
    """`pattern` (of whole words, in any case) is not used; `instead` is."""

    pattern: str
    instead: str


def listed(*, of_names: bool) -> list[Word]:
    """The words of words.txt: those of names only, or the others."""
    lines = (line.partition(" = ") for line in (Path(__file__).parent / "words.txt").read_text().splitlines())
    return [
        Word(pattern.removeprefix("name:").strip(), instead)
        for pattern, _, instead in lines
        if instead and not pattern.startswith("#") and pattern.startswith("name:") == of_names
    ]


WORDS: Final = listed(of_names=False)
NAMES: Final = [*WORDS, *listed(of_names=True)]


def compiled(words: list[Word]) -> re.Pattern[str]:
    """One expression for all the words; the name of the group that matched is `w` and the index of its word."""
    groups = "|".join(f"(?P<w{index}>{word.pattern})" for index, word in enumerate(words))
    return re.compile(rf"(?<![\w-])(?:{groups})(?![\w-])", re.IGNORECASE)


IN_SENTENCES: Final = compiled(WORDS)
IN_NAMES: Final = compiled(NAMES)


def search(words: re.Pattern[str], text: str) -> Iterator[tuple[int, str]]:
    """(line from 0, complaint) of each word of WORDS or NAMES in a text."""
    for match in words.finditer(text):
        instead = NAMES[int(str(match.lastgroup)[1:])].instead
        yield text.count("\n", 0, match.start()), f"{match[0]!r}, better {instead}"


def parts(name: str) -> str:
    """The words of an identifier: `_MaxOf_one` has max, of, one."""
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))


def defined(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of everything that the module names: not the names of others that it uses."""
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every comment, and of every string with a space: docstrings and messages."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and " " in token.string):
            yield token.start[0], token.string


def test_words_that_are_not_used() -> None:
    found = set()
    for path, tree in trees().items():
        found |= {(path, 1, f"name of the module: {text}") for _, text in search(IN_NAMES, parts(path.stem))}
        for line, name in defined(tree):
            found |= {(path, line, f"name {name}: {text}") for _, text in search(IN_NAMES, parts(name))}
        for line, text in sentences(path):
            found |= {(path, line + more, complaint) for more, complaint in search(IN_SENTENCES, text)}
    for document in DOCUMENTS:
        found |= {(document, line + 1, complaint) for line, complaint in search(IN_SENTENCES, document.read_text())}
    assert not found, "use instead:\n" + "\n".join(at(*place) for place in sorted(found))


def test_no_two_classes_have_one_name() -> None:
    double = {name: places for name, places in classes().items() if len(places) > 1}
    lines = [f"{name}: " + ", ".join(at(path, kind.lineno, "")[:-2] for path, kind in double[name]) for name in double]
    assert not lines, "name them apart:\n" + "\n".join(lines)


# -- results -----------------------------------------------------------------------------------------------------------
def is_wide(types: ast.expr) -> bool:
    return isinstance(types, ast.Tuple) and len(types.elts) > 2


def wide_tuples(annotation: ast.expr) -> Iterator[str]:
    """Each `tuple[A, B, C…]` with three or more types in an annotation, at any depth."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            with suppress(SyntaxError):  # the text of a Literal
                yield from wide_tuples(ast.parse(node.value, mode="eval").body)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "tuple" and is_wide(node.slice):
            yield ast.unparse(node)


def test_three_results_have_a_type_with_names() -> None:
    found = []
    for path, tree in trees().items():
        aliases = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and list(wide_tuples(node.value))
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, Function) and node.returns is not None:
                named = {one.id for one in ast.walk(node.returns) if isinstance(one, ast.Name)} & aliases
                found += [at(path, node.lineno, f"{node.name}: {wide}") for wide in wide_tuples(node.returns)]
                found += [at(path, node.lineno, f"{node.name}: {alias}") for alias in named]
    assert not found, "return a NamedTuple or a frozen dataclass:\n" + "\n".join(found)


# -- errors ------------------------------------------------------------------------------------------------------------
FAMILIES: Final = {"ConfigError", "RefusedError", "StoreError", "SigningError", "SubscriberError"}
"""Errors of the administrator, the operator and the subscriber. A SourceError is for the hotline: the guide has the
next step for each of its reasons."""
ADDED_ELSEWHERE: Final = {"DamagedError"}
"""Its class adds the rest of the text."""
VERBS: Final = (
    "add|ask|call|check|choose|configure|connect|copy|correct|create|delete|do|edit|enter|"
    "free|give|go|install|leave|list|log|look|lower|make|mount|move|name|open|pass|pull|"
    "put|raise|read|reject|remove|rename|renew|repeat|replace|report|request|restart|restore|run|see|send|"
    "set|shorten|start|stop|try|update|upgrade|use|wait|write"
)
ADVICE: Final = re.compile(
    rf"(?:^|[:;,.(] |\b(?:and|or|then|first|else|please) )(?:{VERBS})\b|`[a-z]|\bexpected ", re.I
)


@cache
def subclasses() -> set[str]:
    """The names of the error classes of FAMILIES and their subclasses."""
    names = set(FAMILIES)
    for _ in range(3):
        for name, places in classes().items():
            names |= {name for _, kind in places if {ast.unparse(base) for base in kind.bases} & names}
    return names - ADDED_ELSEWHERE


def literal(text: ast.expr) -> str | None:
    """A message with … for each value in it; None if the text is not written at the `raise`."""
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return text.value
    if isinstance(text, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in text.values)
    return None


def test_errors_end_with_what_to_do() -> None:
    """The message has an imperative of VERBS at the beginning of a clause, a command in backquotes, or `expected …`.

    A message that ends with a value alone (`…: {error}`) ends with the text of that error, which is judged itself.
    """
    found = []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args):
                continue
            name = ast.unparse(node.exc.func).rpartition(".")[2]
            message = literal(node.exc.args[0]) if name in subclasses() else None
            if message and not re.search(r"(?:^|: )…\)?$", message) and not ADVICE.search(message):
                found.append(at(path, node.lineno, f"{name}: {message}"))
    assert not found, "say what to do:\n" + "\n".join(found)

"""Readers of sections, mappings, lists and choices; other modules combine them to the schema.

A section is a dataclass made by `config_section`: each field has the reader of its key, so a new key is one new line. A
section reads all its keys and reports every problem, then calls its check with the values that are valid.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, dataclass_transform

from blocklistd.config.document import (
    INVALID,
    KINDS,
    MAX_EXCERPT,
    AlreadyReported,
    ConfigDocument,
    ConfigNode,
    InvalidValue,
    Reader,
    excerpt,
    shorten,
)

T = TypeVar("T")
S = TypeVar("S", bound=str)

NOT_BUILT: Final = "not built in this version"


@dataclass(frozen=True, slots=True)
class SectionValues:
    """The argument of a section's check: `values` are the valid values by name, defaults included.

    `key` is the dotted key of the section. A name with an invalid value is missing in `values`.
    """

    document: ConfigDocument
    key: str
    values: Mapping[str, Any]

    def has(self, *names: str) -> bool:
        """Whether all these keys have valid values."""
        return all(name in self.values for name in names)

    def is_written(self, name: str) -> bool:
        """Whether the key is in the file, and not only a default."""
        return f"{self.key}.{name}" in self.document.nodes

    def text(self, name: str) -> str:
        """The scalar at the key `name` as written, which need not be valid; "" if there is none."""
        node = self.document.nodes.get(f"{self.key}.{name}")
        return node.yaml_node.value if node and node.yaml_node and node.yaml_node.id == "scalar" else ""

    def items(self, name: str) -> list[tuple[str, int]]:
        """(text, line) of each scalar in the list `name`, as written."""
        node = self.document.nodes.get(f"{self.key}.{name}")
        nodes = node.yaml_node.value if node and node.yaml_node and node.yaml_node.id == "sequence" else []
        return [(yaml_node.value, yaml_node.start_mark.line + 1) for yaml_node in nodes if yaml_node.id == "scalar"]

    def report(self, name: str, expected: str, found: str = "", line: int = 0) -> None:
        """Adds a fatal problem of the key `name` (ConfigDocument.report)."""
        self.document.report(self.dotted(name), expected, found, line)

    def report_nonfatal(self, name: str, expected: str, found: str) -> None:
        """Adds a problem of the key `name` with which the daemon can still start."""
        self.document.report_nonfatal(self.dotted(name), expected, found)

    def dotted(self, name: str) -> str:
        """The dotted key of `name` in this section."""
        return f"{self.key}.{name}" if self.key else name


def setting(reader: Reader[T], *, default: Any = dataclasses.MISSING, default_factory: Any = dataclasses.MISSING) -> T:
    """A field that is read from the key of the same name; the key is required if there is no default.

    A relative path, written or default, is relative to the folder of the configuration file.
    """
    made: T = field(default=default, default_factory=default_factory, metadata={"reader": reader})
    return made


def derived(derive: Callable[[ConfigNode], T]) -> T:
    """A field that is not a key: `derive` makes it from the section's node, for example from its name."""
    made: T = field(metadata={"derive": derive})
    return made


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting, derived))
def config_section(cls: type[T]) -> type[T]:
    """Makes a frozen dataclass of a section. Its fields are made by `setting` and `derived`."""
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


def section(cls: type[T], *checks: Callable[[SectionValues], None]) -> Reader[T]:
    """Reads a mapping into a `config_section` class.

    Each of `checks` looks for problems that involve several keys. They run even if some values are invalid.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    keys = [entry.name for entry in fields if "reader" in entry.metadata]

    def convert(node: ConfigNode) -> T:
        before = len(node.document.problems)
        written = _known(node, keys)
        values: dict[str, Any] = {}
        for entry in fields:
            if "derive" in entry.metadata:
                values[entry.name] = entry.metadata["derive"](node)
            elif (value := _field(node, entry, written.get(entry.name))) is not INVALID:
                values[entry.name] = value
        node.document.sections[node.key] = values
        for check in checks:
            check(SectionValues(node.document, node.key, values))
        if len(node.document.problems) > before:
            raise AlreadyReported
        return cls(**values)

    return Reader("a mapping", convert, null_is_absent=True, is_section=True)


def _field(parent: ConfigNode, entry: dataclasses.Field[Any], node: ConfigNode | None) -> Any:
    reader: Reader[Any] = entry.metadata["reader"]
    if node is not None and not (node.is_null and reader.null_is_absent):
        return node.read(reader)
    dotted = f"{parent.key}.{entry.name}" if parent.key else entry.name
    if entry.default_factory is not dataclasses.MISSING:
        if reader.is_section:
            return (node or ConfigNode(parent.document, dotted, entry.name, parent.line, None)).read(reader)
        return entry.default_factory()
    if entry.default is not dataclasses.MISSING:
        return parent.document.folder / entry.default if isinstance(entry.default, Path) else entry.default
    parent.document.report(dotted, reader.expected)
    return INVALID


def mapping(name: Reader[S], value: Reader[T]) -> Reader[dict[S, T]]:
    """Reads a mapping whose keys the administrator chooses."""

    def convert(node: ConfigNode) -> dict[S, T]:
        made: dict[S, T] = {}
        first: dict[S, ConfigNode] = {}
        for key_node, value_node in node.pairs():
            known, read = key_node.read(name), value_node.read(value)
            if known is INVALID:
                continue
            if known in first:  # the same name, written differently: with a final dot or in upper case
                again = f"{excerpt(key_node.yaml_node)}, which is {known} again (first on line {first[known].line})"
                node.document.report(key_node.key, "each key once", again, key_node.line)
            first.setdefault(known, key_node)
            if read is not INVALID:
                made[known] = read
        return made

    return Reader(f"a mapping, each key {name.expected}", convert, null_is_absent=True)


def table(readers: Mapping[str, Reader[T]]) -> Reader[dict[str, T]]:
    """Reads a mapping of known, optional keys."""

    def convert(node: ConfigNode) -> dict[str, T]:
        read = {name: value.read(readers[name]) for name, value in _known(node, readers).items()}
        return {name: value for name, value in read.items() if value is not INVALID}

    return Reader(f"a mapping with {alternatives(readers)}", convert, null_is_absent=True)


def one_of(readers: Mapping[str, Reader[T]]) -> Reader[T]:
    """Reads a mapping with exactly one of the keys. Another value is never shown in a message: it may be a secret."""
    expected = f"exactly one of {', '.join(f'{{{name}: …}}' for name in readers)}"

    def convert(node: ConfigNode) -> T:
        if node.yaml_node is None or node.yaml_node.id != "mapping":
            raise InvalidValue(found="nothing" if node.is_null else KINDS[node.yaml_node.id] if node.yaml_node else "")
        before = len(node.document.problems)
        written = _known(node, readers)
        if len(written) != 1:
            if len(node.document.problems) > before:
                raise AlreadyReported
            raise InvalidValue(found=" and ".join(written) or "an empty mapping")
        ((name, value),) = written.items()
        if readers[name].is_section and value.yaml_node is not None and value.yaml_node.id == "scalar":
            value.document.report(value.key, readers[name].expected, KINDS["scalar"], value.line)
            raise AlreadyReported
        read = value.read(readers[name])
        if read is INVALID:
            raise AlreadyReported
        return read

    return Reader(expected, convert)


def sequence(item: Reader[T], *, minimum: int = 0) -> Reader[tuple[T, ...]]:
    """Reads a list of at least `minimum` items without duplicates."""

    def convert(node: ConfigNode) -> tuple[T, ...]:
        made: list[T] = []
        items = node.items()
        if len(items) < minimum:
            raise InvalidValue(f"at least {minimum} in the list", "an empty list")
        for item_node in items:
            value = item_node.read(item)
            if value is INVALID:
                continue
            if value in made:
                item_node.document.report(
                    item_node.key, "each once in the list", f"{excerpt(item_node.yaml_node)} again", item_node.line
                )
            made.append(value)
        return tuple(made)

    return Reader(f"a list, each {item.expected}", convert, null_is_absent=True)


def one_or_more(item: Reader[T]) -> Reader[tuple[T, ...]]:
    """Reads one item, or a list of items without duplicates."""
    several = sequence(item, minimum=1)

    def convert(node: ConfigNode) -> tuple[T, ...]:
        if node.yaml_node is not None and node.yaml_node.id == "sequence":
            return several.convert(node)
        return (item.convert(node),)

    return Reader(f"{item.expected}, or a list of them", convert, null_is_absent=True)


def optional(reader: Reader[T]) -> Reader[T | None]:
    """Reads as `reader` does; a null is read as a missing key, so the default applies."""
    return Reader(reader.expected, reader.convert, null_is_absent=True)


def or_off(reader: Reader[T]) -> Reader[T | None]:
    """Reads as `reader` does; the word `off` is read as None."""

    def convert(node: ConfigNode) -> T | None:
        is_off = node.yaml_node is not None and node.yaml_node.id == "scalar" and node.yaml_node.value == "off"
        return None if is_off else reader.convert(node)

    return Reader(f"`off` or {reader.expected}", convert, reader.null_is_absent, reader.is_section)


def choice(*options: S, unbuilt: Iterable[str] = ()) -> Reader[S]:
    """Reads one of some words. `unbuilt` are the documented words whose feature does not exist yet."""
    words = {str(option): option for option in options}
    expected = alternatives(words)

    def convert(node: ConfigNode) -> S:
        word = node.text()
        if word in words:
            return words[word]
        raise InvalidValue(f"{expected}: {NOT_BUILT}" if word in unbuilt else expected)

    return Reader(expected, convert)


def alternatives(names: Iterable[str]) -> str:
    """The names in backquotes, as a phrase: `a`, `b` or `c`."""
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} or {last}" if most else last


def _known(node: ConfigNode, names: Iterable[str]) -> dict[str, ConfigNode]:
    """The values of the known keys. Reports each unknown key, with the known key that resembles it."""
    known, names = {}, list(names)
    for _, value in node.pairs():
        if value.name in names:
            known[value.name] = value
            continue
        near = difflib.get_close_matches(value.name[:MAX_EXCERPT], names, n=1)
        expected = f"`{near[0]}`" if near else f"one of {', '.join(names)}"
        node.document.report(value.key, expected, f"the unknown key {shorten(value.name)!r}", value.line)
    return known

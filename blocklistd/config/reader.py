"""The schema is the dataclasses: each field carries its reader, so that a new key is one new line.

A section reads what it can and says all that is wrong with the rest, then lets its check do the same.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, dataclass_transform

from blocklistd.config.page import BAD, KINDS, SHOWN, Page, Reader, Spoiled, Spot, Wrong, cut, shown

T = TypeVar("T")
S = TypeVar("S", bound=str)

NOT_BUILT: Final = "not built in this version"


@dataclass(frozen=True, slots=True)
class Part:
    """A section for its check: `values` has what could be read, and the defaults of what is not written."""

    page: Page
    key: str
    values: Mapping[str, Any]

    def has(self, *names: str) -> bool:
        return all(name in self.values for name in names)

    def written(self, name: str) -> bool:
        return f"{self.key}.{name}" in self.page.spots

    def items(self, name: str) -> list[tuple[str, int]]:
        """The texts in the list of that name as they are written, with their lines."""
        spot = self.page.spots.get(f"{self.key}.{name}")
        nodes = spot.node.value if spot and spot.node and spot.node.id == "sequence" else []
        return [(node.value, node.start_mark.line + 1) for node in nodes if node.id == "scalar"]

    def report(self, name: str, expected: str, found: str = "", line: int = 0) -> None:
        self.page.report(self.dotted(name), expected, found, line)

    def tolerate(self, name: str, expected: str, found: str) -> None:
        self.page.tolerate(self.dotted(name), expected, found)

    def dotted(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name


def setting(reader: Reader[T], *, default: Any = dataclasses.MISSING, default_factory: Any = dataclasses.MISSING) -> T:
    """A field that is read from the key of its name; required where there is no default.

    A default path is relative to the configuration file, as a written one is.
    """
    made: T = field(default=default, default_factory=default_factory, metadata={"reader": reader})
    return made


def given(take: Callable[[Spot], T]) -> T:
    """A field that is no key: taken from where its section stands."""
    made: T = field(metadata={"given": take})
    return made


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(setting, given))
def keyed(cls: type[T]) -> type[T]:
    """A frozen dataclass whose fields are made by `setting` and `given`, in the order of the contract."""
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


def section(cls: type[T], check: Callable[[Part], None] | None = None) -> Reader[T]:
    """A mapping that is a `keyed` class. `check` sees it even where a part is wrong, so that all is said at once."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    keys = [entry.name for entry in fields if "reader" in entry.metadata]

    def convert(spot: Spot) -> T:
        before = len(spot.page.problems)
        written = _known(spot, keys)
        values: dict[str, Any] = {}
        for entry in fields:
            if "given" in entry.metadata:
                values[entry.name] = entry.metadata["given"](spot)
            elif (value := _field(spot, entry, written.get(entry.name))) is not BAD:
                values[entry.name] = value
        spot.page.parts[spot.key] = values
        if check:
            check(Part(spot.page, spot.key, values))
        if len(spot.page.problems) > before:
            raise Spoiled
        return cls(**values)

    return Reader("a mapping", convert, nothing=True, whole=True)


def _field(parent: Spot, entry: dataclasses.Field[Any], spot: Spot | None) -> Any:
    reader: Reader[Any] = entry.metadata["reader"]
    if spot is not None and not (spot.is_null and reader.nothing):
        return spot.read(reader)
    dotted = f"{parent.key}.{entry.name}" if parent.key else entry.name
    if entry.default_factory is not dataclasses.MISSING:
        if reader.whole:
            return (spot or Spot(parent.page, dotted, entry.name, parent.line, None)).read(reader)
        return entry.default_factory()
    if entry.default is not dataclasses.MISSING:
        return parent.page.folder / entry.default if isinstance(entry.default, Path) else entry.default
    parent.page.report(dotted, reader.expected)
    return BAD


def mapping(name: Reader[S], value: Reader[T]) -> Reader[dict[S, T]]:
    """A mapping whose keys the administrator chooses."""

    def convert(spot: Spot) -> dict[S, T]:
        made: dict[S, T] = {}
        first: dict[S, Spot] = {}
        for key_spot, value_spot in spot.pairs():
            known, read = key_spot.read(name), value_spot.read(value)
            if known is BAD:
                continue
            if known in first:  # written in another way: a zone's name with a final dot or in upper case
                again = f"{shown(key_spot.node)}, which is {known} again (first on line {first[known].line})"
                spot.page.report(key_spot.key, "each key once", again, key_spot.line)
            first.setdefault(known, key_spot)
            if read is not BAD:
                made[known] = read
        return made

    return Reader(f"a mapping, each key {name.expected}", convert, nothing=True)


def table(readers: Mapping[str, Reader[T]]) -> Reader[dict[str, T]]:
    """A mapping of known keys, each of which may be left out."""

    def convert(spot: Spot) -> dict[str, T]:
        read = {name: value.read(readers[name]) for name, value in _known(spot, readers).items()}
        return {name: value for name, value in read.items() if value is not BAD}

    return Reader(f"a mapping with {either(readers)}", convert, nothing=True)


def one_of(readers: Mapping[str, Reader[T]]) -> Reader[T]:
    """A mapping with exactly one of the keys. What else stands there is never shown: it may be a secret."""
    expected = f"exactly one of {', '.join(f'{{{name}: …}}' for name in readers)}"

    def convert(spot: Spot) -> T:
        if spot.node is None or spot.node.id != "mapping":
            raise Wrong(found="nothing" if spot.is_null else KINDS[spot.node.id] if spot.node else "")
        before = len(spot.page.problems)
        written = _known(spot, readers)
        if len(written) != 1:
            if len(spot.page.problems) > before:
                raise Spoiled
            raise Wrong(found=" and ".join(written) or "an empty mapping")
        ((name, value),) = written.items()
        if readers[name].whole and value.node is not None and value.node.id == "scalar":
            value.page.report(value.key, readers[name].expected, KINDS["scalar"], value.line)
            raise Spoiled
        read = value.read(readers[name])
        if read is BAD:
            raise Spoiled
        return read

    return Reader(expected, convert)


def sequence(item: Reader[T], *, least: int = 0) -> Reader[tuple[T, ...]]:
    """A list without duplicates."""

    def convert(spot: Spot) -> tuple[T, ...]:
        made: list[T] = []
        items = spot.items()
        if len(items) < least:
            raise Wrong(f"at least {least} in the list", "an empty list")
        for place in items:
            value = place.read(item)
            if value is BAD:
                continue
            if value in made:
                place.page.report(place.key, "each once in the list", f"{shown(place.node)} again", place.line)
            made.append(value)
        return tuple(made)

    return Reader(f"a list, each {item.expected}", convert, nothing=True)


def optional(reader: Reader[T]) -> Reader[T | None]:
    """As `reader`, and a null means None, which is then the default."""
    return Reader(reader.expected, reader.convert, nothing=True)


def unless_off(reader: Reader[T]) -> Reader[T | None]:
    """As `reader`, or None for the word `off`."""

    def convert(spot: Spot) -> T | None:
        is_off = spot.node is not None and spot.node.id == "scalar" and spot.node.value == "off"
        return None if is_off else reader.convert(spot)

    return Reader(f"`off` or {reader.expected}", convert, reader.nothing, reader.whole)


def choice(*options: S, unbuilt: Iterable[str] = ()) -> Reader[S]:
    """One of some words. The `unbuilt` ones are words of the contract whose feature does not exist yet."""
    words = {str(option): option for option in options}
    expected = either(words)

    def convert(spot: Spot) -> S:
        word = spot.text()
        if word in words:
            return words[word]
        raise Wrong(f"{expected}: {NOT_BUILT}" if word in unbuilt else expected)

    return Reader(expected, convert)


def only(off: str | list[str] | dict[str, str] | None, value: T) -> Reader[T]:
    """A key whose feature is not built: only the text, the empty list or mapping, or (None) nothing that means off."""
    expected = f"no such key: {NOT_BUILT}" if off is None else f"`{off}`: {NOT_BUILT}"

    def convert(spot: Spot) -> T:
        if isinstance(off, str):
            is_off = spot.text() == off
        else:
            kind = "sequence" if isinstance(off, list) else "mapping"
            is_off = off is not None and spot.node is not None and spot.node.id == kind and not spot.node.value
        if not is_off:
            raise Wrong
        return value

    return Reader(expected, convert, nothing=not isinstance(off, str))


def either(names: Iterable[str]) -> str:
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} or {last}" if most else last


def _known(spot: Spot, names: Iterable[str]) -> dict[str, Spot]:
    """The values of the known keys; the others are reported, with the key that may have been meant."""
    known, names = {}, list(names)
    for _, value in spot.pairs():
        if value.name in names:
            known[value.name] = value
            continue
        near = difflib.get_close_matches(value.name[:SHOWN], names, n=1)
        expected = f"`{near[0]}`" if near else f"one of {', '.join(names)}"
        spot.page.report(value.key, expected, f"the unknown key {cut(value.name)!r}", value.line)
    return known

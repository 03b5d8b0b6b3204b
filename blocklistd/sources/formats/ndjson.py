"""Newline-delimited JSON: one document a line. `fields` has JSON Pointers (RFC 6901) to the parts of a record."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import BinaryIO, Final, TypeAlias

import orjson

from blocklistd.errors import ParseError
from blocklistd.model import ATTRIBUTES
from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.records import (
    WHITESPACE,
    FormatOptions,
    Record,
    Reject,
    fitting_attributes,
    lines,
    type_refusal,
)

Pointer: TypeAlias = tuple[str, ...]
"""The reference tokens of a JSON Pointer, unescaped. The empty tuple points to the complete document."""

_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_STRING: Final = rb'"(?:[^"\\]|\\.)*+"'
_NUMBER: Final = re.compile(_STRING + rb"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)")
_KEY: Final = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*(:)?|([{}])")
_LARGEST: Final = b"1e308"  # replaces every larger number: no attribute accepts either of them


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield a record for each line that is not blank (`Format.records`).

    Rejects: too-long, not-utf8, not-json, duplicate-key (twice in one object), no-value (absent, empty or no string),
    no-type, unknown-type. Raises ParseError if `fields` has no pointer to the value, or a text that is no pointer.
    """
    pointers = _pointers(options)
    value_pointer = pointers["value"]
    type_pointer = pointers.get("type")
    attribute_pointers = [(key, pointers.get(key), options.defaults.get(key)) for key in ATTRIBUTES]
    default_type = options.defaults.get("type", "")
    for number, line in lines(body):
        if line is None:
            yield Reject(number, "too-long")
            continue
        if line.isspace():
            continue
        try:
            document = _document(line)
        except orjson.JSONDecodeError:
            yield Reject(number, "not-json" if _is_utf8(line) else "not-utf8")
            continue
        if _may_repeat(line, document) and _repeats(line):
            yield Reject(number, "duplicate-key")
            continue
        value = resolve(document, value_pointer)
        type = _found_or_default(document, type_pointer, default_type)
        if not isinstance(value, str) or not (value := value.strip(WHITESPACE)):
            yield Reject(number, "no-value")
        elif not isinstance(type, str):
            yield Reject(number, "unknown-type")
        elif refusal := type_refusal(type):
            yield Reject(number, refusal)
        else:
            attributes, dropped = fitting_attributes(
                (key, _found_or_default(document, pointer, default)) for key, pointer, default in attribute_pointers
            )
            yield Record(number, type, value, attributes, dropped)


def parse_pointer(text: str) -> Pointer:
    """Parse a JSON Pointer (RFC 6901 section 3). Raises ValueError if the text is not a pointer."""
    if not _POINTER.fullmatch(text):
        raise ValueError("not a JSON Pointer: expected / before each key, and ~ only in ~0 and ~1")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def resolve(document: object, pointer: Pointer) -> object:
    """The value that a pointer references (RFC 6901 section 4); None if there is none, and for null."""
    for token in pointer:
        if isinstance(document, dict):
            document = document.get(token)
        elif isinstance(document, list) and _INDEX.fullmatch(token) and int(token) < len(document):
            document = document[int(token)]
        else:
            return None
    return document


def _found_or_default(document: object, pointer: Pointer | None, default: str | None) -> object:
    """The value that a pointer references, strings stripped; `default` if it is absent, null or empty."""
    found = None if pointer is None else resolve(document, pointer)
    if isinstance(found, str):
        found = found.strip()
    return default if found is None or found == "" else found


def _pointers(options: FormatOptions) -> dict[str, Pointer]:
    """The pointer to each configured part of a record, at least to the value. Raises ParseError."""
    if "value" not in options.fields:
        raise ParseError("no pointer is configured for the value: set `fields.value`")
    try:
        return {part: parse_pointer(text) for part, text in options.fields.items()}
    except ValueError as error:
        raise ParseError(f"fields: {error}") from None


def _document(line: bytes) -> object:
    """Parse a line (RFC 8259). Raises JSONDecodeError.

    orjson refuses numbers that are too large for a double; they are valid JSON, and read as _LARGEST.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        bounded = _NUMBER.sub(lambda found: _LARGEST if _is_too_large(found[1]) else found[0], line)
        if bounded == line:
            raise
        return orjson.loads(bounded)


def _is_too_large(number: bytes | None) -> bool:
    return number is not None and math.isinf(float(number))


def _may_repeat(line: bytes, document: object) -> bool:
    """Whether an object in the line may have a key twice; a fast test before `_repeats`.

    False if the line has only as many commas as the parsed object needs; or only as many `":` as it needs, and nothing
    that could hide or imitate one.
    """
    if isinstance(document, dict) and line.count(b",") == len(document) - 1:
        return False
    if b'\\"' in line or b"\\u0022" in line or b'" ' in line or b'"\t' in line or b'"\r' in line:
        return True
    flat = isinstance(document, dict) and line.count(b"{") == 1
    return line.count(b'":') != (len(document) if flat else orjson.dumps(document).count(b'":'))  # type: ignore[arg-type]


def _repeats(line: bytes) -> bool:
    """Whether an object in the line has a key twice. The line is valid JSON."""
    objects: list[set[str]] = []
    for text, colon, brace in _KEY.findall(line):
        if colon:
            key = orjson.loads(text)
            if key in objects[-1]:
                return True
            objects[-1].add(key)
        elif brace == b"{":
            objects.append(set())
        elif brace:
            objects.pop()
    return False


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


FORMAT: Final = Format(
    records,
    first_independent_line=all_lines_independent,
    value="a JSON pointer to the value, like /url",
    field=re.compile(f"(?!$){_POINTER.pattern}"),  # the empty pointer references the document, which is no value
    field_expected="a JSON pointer like /url (RFC 6901)",
)

"""Newline-delimited JSON: one document a line. `fields` and `options.where` have JSON Pointers (RFC 6901) to the parts
of a record. If the value is an array, each text in it is a record of its own, with the same attributes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import BinaryIO, Final, TypeAlias

import orjson

from blocklistd.errors import ParseError
from blocklistd.model import ATTRIBUTES, ID
from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.records import (
    WHITESPACE,
    FormatOptions,
    Record,
    Reject,
    lines,
    record_of,
    type_refusal,
)
from blocklistd.sources.formats.where import matches

Pointer: TypeAlias = tuple[str, ...]
"""The reference tokens of a JSON Pointer, unescaped. The empty tuple points to the complete document."""

POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
"""A JSON Pointer; the empty one references the document."""
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_STRING: Final = rb'"(?:[^"\\]|\\.)*+"'
_NUMBER: Final = re.compile(_STRING + rb"?|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)")
"""A string or a number. A string that does not close extends to the end, and no quote in it begins another one."""
_KEY: Final = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*(:)?|([{}])")
_LARGEST: Final = b"1e308"  # replaces every larger number: no attribute accepts either of them


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield a record for each line that is not blank (`Format.records`).

    Rejects: too-long, not-utf8, not-json, duplicate-key (twice in one object), no-value (absent, empty or no string),
    no-type, unknown-type, not-a-date. Raises ParseError if `fields` has no pointer to the value, or a text that is no
    pointer.
    """
    pointers = _pointers(options)
    value_pointer = pointers["value"]
    type_pointer, host_pointer = pointers.get("type"), pointers.get("host")
    attribute_pointers = [(key, pointers.get(key), options.defaults.get(key)) for key in (*ATTRIBUTES, ID)]
    default_type = options.defaults.get("type", "")
    conditions = [(parse_pointer(text), expected, is_met) for text, expected, is_met in options.conditions]
    for number, line in lines(body):
        if line is None:
            yield Reject(number, "too-long")
            continue
        if line.isspace():
            continue
        try:
            document = parse(line)
        except orjson.JSONDecodeError:
            yield Reject(number, "not-json" if _is_utf8(line) else "not-utf8")
            continue
        if _may_repeat(line, document) and _repeats(line):
            yield Reject(number, "duplicate-key")
            continue
        if any(matches(resolve(document, pointer), expected) != is_met for pointer, expected, is_met in conditions):
            continue
        found = resolve(document, value_pointer)
        type = _found_or_default(document, type_pointer, default_type)
        for value in found if isinstance(found, list) else (found,):
            if not isinstance(value, str) or not (value := value.strip(WHITESPACE)):
                yield Reject(number, "no-value")
            elif not isinstance(type, str):
                yield Reject(number, "unknown-type")
            elif refusal := type_refusal(type):
                yield Reject(number, refusal)
            else:
                parts = (
                    (key, _found_or_default(document, pointer, default)) for key, pointer, default in attribute_pointers
                )
                host = _found_or_default(document, host_pointer, "") if host_pointer else ""
                yield record_of(number, type, value, parts, options, host if isinstance(host, str) else "?")


def parse_pointer(text: str) -> Pointer:
    """Parse a JSON Pointer (RFC 6901 section 3). Raises ValueError if the text is not a pointer."""
    if not POINTER.fullmatch(text):
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


def parse(line: bytes) -> object:
    """Parse one JSON document (RFC 8259). Raises JSONDecodeError.

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
    if isinstance(document, dict) and line.count(b"{") == 1:
        return line.count(b'":') != len(document)
    try:
        return line.count(b'":') != orjson.dumps(document).count(b'":')
    except orjson.JSONEncodeError:  # it reads more levels than it writes
        return True


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
    field=re.compile(f"(?!$){POINTER.pattern}"),  # the empty pointer references the document, which is no value
    field_expected="a JSON pointer like /url (RFC 6901)",
    options=frozenset({"timezone", "where", "unless"}),
)

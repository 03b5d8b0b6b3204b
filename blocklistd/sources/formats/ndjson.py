"""Newline-delimited JSON: a document a line, `fields` has JSON Pointers (RFC 6901) to the parts of a record."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import BinaryIO, Final, TypeAlias

import orjson

from blocklistd.errors import ParseError
from blocklistd.model import ATTRIBUTES
from blocklistd.sources.formats.format import Format, every_line
from blocklistd.sources.formats.records import WHITESPACE, FormatOptions, Record, Reject, fitting, lines, type_refusal

Pointer: TypeAlias = tuple[str, ...]
"""The reference tokens of a JSON Pointer, unescaped; none of them point to the whole document."""

_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_STRING: Final = rb'"(?:[^"\\]|\\.)*+"'
_NUMBER: Final = re.compile(_STRING + rb"|(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)")
_KEY: Final = re.compile(rb"(" + _STRING + rb")[ \t\r\n]*(:)?|([{}])")
_LARGEST: Final = b"1e308"  # stands for every larger number: no attribute accepts either


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Rejects: too-long, not-utf8, not-json, duplicate-key (twice in one object), no-value (absent, empty or not a
    text), no-type, unknown-type."""
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
        type = _said(document, type_pointer, default_type)
        if not isinstance(value, str) or not (value := value.strip(WHITESPACE)):
            yield Reject(number, "no-value")
        elif not isinstance(type, str):
            yield Reject(number, "unknown-type")
        elif refusal := type_refusal(type):
            yield Reject(number, refusal)
        else:
            attributes, dropped = fitting(
                (key, _said(document, pointer, default)) for key, pointer, default in attribute_pointers
            )
            yield Record(number, type, value, attributes, dropped)


def parse_pointer(text: str) -> Pointer:
    """RFC 6901 section 3; raises ValueError where the text is no JSON Pointer."""
    if not _POINTER.fullmatch(text):
        raise ValueError("not a JSON Pointer: expected / before each key, and ~ only in ~0 and ~1")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def resolve(document: object, pointer: Pointer) -> object:
    """What a pointer points to (RFC 6901 section 4); None where there is nothing, as where there is null."""
    for token in pointer:
        if isinstance(document, dict):
            document = document.get(token)
        elif isinstance(document, list) and _INDEX.fullmatch(token) and int(token) < len(document):
            document = document[int(token)]
        else:
            return None
    return document


def _said(document: object, pointer: Pointer | None, default: str | None) -> object:
    found = None if pointer is None else resolve(document, pointer)
    if isinstance(found, str):
        found = found.strip()
    return default if found is None or found == "" else found


def _pointers(options: FormatOptions) -> dict[str, Pointer]:
    if "value" not in options.fields:
        raise ParseError("no pointer is configured for the value: expected fields.value")
    try:
        return {part: parse_pointer(text) for part, text in options.fields.items()}
    except ValueError as error:
        raise ParseError(f"fields: {error}") from None


def _document(line: bytes) -> object:
    """Parses a line (RFC 8259). Numbers too large for a double, which orjson refuses, are valid. Raises
    JSONDecodeError."""
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
    """Whether an object in the line may have a key twice; a fast test before `_repeats`. False where the line has only
    as many commas as the parsed object needs, or only as many `":` and nothing that could hide or imitate one."""
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
    heading=every_line,
    value="a JSON pointer to the value, like /url",
    field=re.compile(f"(?!$){_POINTER.pattern}"),  # the whole record ("") is no value
    field_expected="a JSON pointer like /url (RFC 6901)",
)

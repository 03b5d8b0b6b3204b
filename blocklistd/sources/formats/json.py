"""JSON (RFC 8259): one document with an array of records.

`options.records` is the JSON Pointer (RFC 6901) of the array; without it, the document is the array. `fields` are
pointers from an element; an element that is a text itself is referenced by the empty pointer.

Each element becomes a line, which is then read as NDJSON: so no large document is ever built in memory, and of a new
body only the elements that changed are read. Line numbers in reports are therefore numbers of elements.

An element that is not valid JSON rejects that record alone. The document around the array must be complete and valid;
of values beside the array that are longer than MAX_LINE bytes only strings and brackets are checked.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import replace
from typing import BinaryIO, Final, TypeAlias

import orjson

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE
from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats import ndjson
from blocklistd.sources.formats.ndjson import POINTER, Pointer, parse, parse_pointer
from blocklistd.sources.formats.records import FormatOptions, text_start

_SPACE: Final = rb"[ \t\r\n]*+"
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SCALAR: Final = rb'[^\[\]{}",: \t\r\n]++'
_PLAIN: Final = rb'[^\[\]{}"]++|' + _STRING
_FLAT: Final = rb"[\[{](?:" + _PLAIN + rb")*+[\]}]"
_VALUE: Final = rb"[\[{](?:" + _PLAIN + rb"|" + _FLAT + rb")*+[\]}]|" + _STRING + rb"|" + _SCALAR
_ELEMENT: Final = re.compile(_SPACE + rb"(" + _VALUE + rb")" + _SPACE + rb",", re.DOTALL)
"""An element and the comma after it, with at most one level of brackets in it, as in almost every list."""
_PLAINS: Final = re.compile(rb"(?:" + _PLAIN + rb")*+", re.DOTALL)
_TOKEN: Final = re.compile(_SPACE + rb"(" + _STRING + rb"|" + _SCALAR + rb"|.)?", re.DOTALL)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_WINDOW: Final = 1 << 20  # bytes in which elements are searched at a time
_DEPTH: Final = 1024  # brackets within each other; a line with more is no JSON for orjson

# A newline would end the line, so it becomes a tab: JSON allows both between its tokens, and neither in a string.
_TABS: Final = bytes.maketrans(b"\r\n", b"\t\t")
_NUL_TO_NEWLINE: Final = bytes.maketrans(b"\r\n\0", b"\t\t\n")

_EXPECTED: Final = (
    "a value",
    "the name of a member in quotes",
    "a colon after the name of a member",
    "a comma or a closing bracket",
    "the end of the body after the document",
)
Elements: TypeAlias = "Generator[list[bytes], None, int]"
"""Yields the elements below a value, several at a time. Returns the offset of the value's end."""

_CUT: Final = "the JSON document is not complete: is the body cut off? Ask the hotline"
_TOO_DEEP: Final = f"more than {_DEPTH} brackets within each other: expected a list of records"
_TWICE: Final = "a name on the way to OURS (options.records) is twice in its object: expected each name once"
_NO_ARRAY: Final = "no array at OURS (options.records): expected the JSON pointer to the array of records"
_NO_LIST: Final = "the JSON document is no array: set `options.records` to the JSON pointer of the array in it"


def to_lines(body: Buffer, earlier: Buffer | None, options: FormatOptions, out: BinaryIO) -> None:
    """Write each element of the array as a line (`Format.to_lines`). Raises ParseError."""
    document = _Document(body, options.records)
    for elements in document.elements(text_start(body, "json")):
        text = b"\0".join(elements) + b"\0"
        if text.count(b"\0") == len(elements) and len(text) <= MAX_LINE + _WINDOW:
            out.write(text.translate(_NUL_TO_NEWLINE))
            continue
        for element in elements:  # a NUL in it, or too long: the line is rejected
            out.write(element[: MAX_LINE + 1].translate(_TABS) + b"\n")


class _Document:
    """Walks a document from its first byte to its last, along a pointer. Offsets are in bytes of the body."""

    def __init__(self, body: Buffer, records: str) -> None:
        self._body = body
        self._records = records
        self._found = False

    def elements(self, start: int) -> Elements:
        """The elements of the array, for the document that begins at `start`. Raises ParseError."""
        end = yield from self._walk(start, parse_pointer(self._records))
        if self._token(end)[0]:
            raise self._error(end, "the end of the body after the document")
        if not self._found:
            raise self._no_array()
        return end

    def _walk(self, at: int, pointer: Pointer) -> Elements:
        """The elements below the value at `at`, to which `pointer` is relative."""
        token, end = self._token(at)
        if not pointer:
            if token != b"[":
                self._end_of(at)
                raise self._no_array()
            self._found = True
            return (yield from self._array(end))
        if token in (b"{", b"["):
            return (yield from self._members(end, pointer, is_object=token == b"{"))
        return self._end_of_valid(at)

    def _members(self, at: int, pointer: Pointer, *, is_object: bool) -> Elements:
        """Walk the members of an object, or the elements of an array on the way, whose bracket ends at `at`."""
        close = b"}" if is_object else b"]"
        next_name = pointer[0] if is_object or _INDEX.fullmatch(pointer[0]) else None
        was_found = False
        number = 0
        token, end = self._token(at)
        if token == close:
            return end
        while True:
            name = str(number)
            if is_object:
                name, at = self._name(at)
            if name == next_name:
                if was_found:
                    raise ParseError(_TWICE.replace("OURS", repr(self._records)))
                was_found = True
                at = yield from self._walk(at, pointer[1:])
            else:
                at = self._end_of_valid(at)
            number += 1
            token, end = self._token(at)
            if token == close:
                return end
            if token != b",":
                raise self._error(at, "a comma or a closing bracket")
            at = end

    def _name(self, at: int) -> tuple[str, int]:
        """The name of the member that begins at `at`, and the offset after its colon."""
        token, end = self._token(at)
        try:
            name = orjson.loads(token) if token.startswith(b'"') else None
        except orjson.JSONDecodeError:
            name = None
        if not isinstance(name, str):
            raise self._error(at, "the name of a member in quotes")
        token, after = self._token(end)
        if token != b":":
            raise self._error(end, "a colon after the name of a member")
        return name, after

    def _array(self, at: int) -> Elements:
        """The elements of an array whose `[` ends at `at`."""
        body = self._body
        token, end = self._token(at)
        if token == b"]":
            return end
        while True:
            scanner = _ELEMENT.scanner(body, at, min(at + _WINDOW, len(body)))  # type: ignore[attr-defined]
            found = list(iter(scanner.match, None))  # each begins where the last one ended
            if found:
                yield [element[1] for element in found]
                at = found[-1].end()
            end = self._end_of(at)
            begin = self._token_start(at)
            yield [body[begin : min(end, begin + MAX_LINE + 1)]]
            token, at = self._token(end)
            if token == b"]":
                return at
            if token != b",":
                raise self._error(end, "a comma or a closing bracket")

    def _token(self, at: int) -> tuple[bytes, int]:
        """The next string, scalar or character, without the space before it, and where it ends; b"" at the end of the
        body."""
        found = _TOKEN.match(self._body, at)
        assert found is not None
        return found[1] or b"", found.end()

    def _token_start(self, at: int) -> int:
        found = _TOKEN.match(self._body, at)
        assert found is not None
        return found.start(1)

    def _end_of(self, at: int) -> int:
        """Where the value ends that begins at `at`, after space. Raises ParseError if it does not end."""
        token, end = self._token(at)
        if token not in (b"[", b"{"):
            if token in (b"", b"]", b"}", b",", b":", b'"'):  # a lone quote opens a string that does not end
                raise self._error(at if token != b'"' else len(self._body), "a value")
            return end
        depth = 1
        while depth:
            if depth > _DEPTH:
                raise ParseError(_TOO_DEEP)
            plains = _PLAINS.match(self._body, end)
            assert plains is not None
            end = plains.end() + 1
            bracket = self._body[end - 1 : end]
            if bracket in (b"", b'"'):
                raise ParseError(_CUT)
            depth += 1 if bracket in (b"[", b"{") else -1
        return end

    def _end_of_valid(self, at: int) -> int:
        """As `_end_of`, for a value beside the records. Raises ParseError for a value that is not valid JSON."""
        end = self._end_of(at)
        if end - at <= MAX_LINE:
            try:
                parse(self._body[at:end])
            except orjson.JSONDecodeError:
                raise self._error(at, "a value") from None
        return end

    def _no_array(self) -> ParseError:
        return ParseError(_NO_ARRAY.replace("OURS", repr(self._records)) if self._records else _NO_LIST)

    def _error(self, at: int, expected: str) -> ParseError:
        assert expected in _EXPECTED
        if not self._token(at)[0]:
            return ParseError(_CUT)
        at = self._token_start(at)
        line = 1 + sum(self._body[start : min(start + _WINDOW, at)].count(b"\n") for start in range(0, at, _WINDOW))
        return ParseError(f"line {line} is not JSON: expected {expected}")


FORMAT: Final = replace(
    ndjson.FORMAT,
    to_lines=to_lines,
    field=POINTER,
    field_expected="a JSON pointer like /url (RFC 6901), or an empty one for elements that are texts",
    place=re.compile(rf"(?=(?:/[^/]*){{0,64}}$){POINTER.pattern}"),
    place_expected="a JSON pointer to the array of records, like /data (RFC 6901), of at most 64 names",
    options=frozenset({"records", "timezone", "where", "unless"}),
    reasons=(
        *(f"line N is not JSON: expected {expected}" for expected in _EXPECTED),
        *(_CUT, _TOO_DEEP.replace(str(_DEPTH), "N"), _TWICE, _NO_ARRAY, _NO_LIST),
    ),
)

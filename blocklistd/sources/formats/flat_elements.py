"""Reads repeated XML elements as lines of JSON, at a fifth of the time that elements.py needs for usual documents.

Most records are flat: attributes, then elements that have text only. A pattern recognises a run of such records; the
rest of the document is read by ElementReader, as if the runs were not in it. So a run must begin where a record can
begin, and every `<` after it must begin a tag:

1. expat checks that the complete document is well-formed and has no document type;
2. the document is UTF-8, and contains no comment, CDATA section or processing instruction after the first record;
3. ElementReader has read up to the end of a record, and its parent is the innermost open element.

Without 2, or if the record is the root, ElementReader reads all. A property test compares both ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from operator import itemgetter
from typing import Final, NamedTuple

import orjson

from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats.elements import ElementReader, Found, check, read

_WINDOW: Final = 1 << 20  # bytes in which records are searched at a time
_FIRST: Final = 1 << 16  # bytes that are read at a time up to the first record
_PARTS: Final = 64  # attributes and elements of a record that has a shape
_SHAPES: Final = 8  # different shapes of records in one document
_UTF8: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?<(?:[^?\0]|\?xml[^>]*?\sencoding\s*=\s*[\"'](?:utf-8|us-ascii)[\"']|\?xml(?![^>]*\sencoding)[^>\0]*>)",
    re.I,
)
"""The beginning of a document that declares UTF-8, or nothing."""
_NO_TAG: Final = re.compile(rb"<[!?]")

_SPACE: Final = rb"[ \t\r\n]*+"
_NAME: Final = rb"[^\s<>/=\"'&!?]++"
_ATTRIBUTE: Final = re.compile(rb"[ \t\r\n]++(" + _NAME + rb")=(?:(\")[^<\"]*+\"|(')[^<']*+')")
_CHILD: Final = re.compile(_SPACE + rb"<(" + _NAME + rb")" + _SPACE + rb"(?:/>|>[^<]*+</\1" + _SPACE + rb">)")
_OPENED: Final = re.compile(_SPACE + rb">")
# What follows is the same in JSON as in XML, but for references, which are replaced in complete lines.
_TEXT: Final = rb"[^<\"\\\x00-\x1f]*+"
_VALUES: Final = {b'"': rb'"(' + _TEXT + rb')"', b"'": rb"'([^<'\"\\\x00-\x1f]*+)'"}
_REFERENCE: Final = re.compile(rb"&(?:([a-z]++)|#([0-9]++)|#x([0-9a-fA-F]++));")
_ENTITIES: Final = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'\\"', b"apos": b"'"}


def read_lines(body: Buffer, records: str, paths: Sequence[str]) -> Iterator[bytes]:
    """Yield the parts `paths` of each element at the path `records` as a line of JSON; several lines at a time.

    Raises ParseError for a document that is not well-formed, or has no element that could contain records, perhaps
    after some lines.
    """
    if not check(body) or not _UTF8.match(body[:256]) or "/" not in records:
        yield from map(line_of, read(body, records, paths))
        return
    scout = ElementReader(records, paths)
    for at in range(0, len(body), _FIRST):
        scout.feed(body[at : at + _FIRST])
        if scout.first is not None:
            break
    at = 0
    reader = ElementReader(records, paths)
    if scout.first is not None and not _NO_TAG.search(body, scout.first[0]):
        at, name = scout.first
        yield from _feed(reader, body, 0, at)
        runs = _Runs(name.encode(), paths)
        next_end = re.compile(rb"</" + re.escape(name.encode()) + _SPACE + rb">")
        while True:
            if reader.is_between_records:
                at = yield from runs.read(body, at)
            found = next_end.search(body, at)
            if found is None:
                break
            yield from _feed(reader, body, at, found.end())
            at = found.end()
    yield from _feed(reader, body, at, len(body))
    reader.close()


def line_of(found: Found) -> bytes:
    """A record as a line."""
    return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)


def _feed(reader: ElementReader, body: Buffer, start: int, end: int) -> Iterator[bytes]:
    """Feed a range of the document. Yield the lines of the records that end in it."""
    for at in range(start, end, _WINDOW):
        reader.feed(body[at : min(at + _WINDOW, end)])
        yield from map(line_of, reader.take())


class _Shape(NamedTuple):
    """A pattern of a record with certain attributes and elements, each optional; and how to make a line of a match: the
    groups that `pick` takes, in `line`."""

    pattern: re.Pattern[bytes]
    pick: Callable[[Sequence[bytes]], bytes | tuple[bytes, ...]]
    line: bytes


class _Runs:
    """Reads runs of flat records, all of which have the name `name`. Learns the shapes of records as they come."""

    def __init__(self, name: bytes, paths: Sequence[str]) -> None:
        self._name = re.escape(name)
        self._begin = re.compile(_SPACE + rb"<" + self._name)
        self._paths = paths
        self._shapes: list[_Shape] = []  # the last one that matched is the first
        self._known: set[object] = set()

    def read(self, body: Buffer, at: int) -> Generator[bytes, None, int]:
        """Yield lines of the run of flat records that begins at `at`. Returns where it ends."""
        while found := self._matches(body, at) or (self._learn(body, at) and self._matches(body, at)):
            shape = self._shapes[0]
            lines = b"".join([shape.line % shape.pick(one.groups(b"")) for one in found])
            yield _REFERENCE.sub(_replaced, lines) if b"&" in lines else lines
            at = found[-1].end()
        return at

    def _matches(self, body: Buffer, at: int) -> list[re.Match[bytes]]:
        """Matches of one shape, each of which begins where the last one ended."""
        for index, shape in enumerate(self._shapes):
            scanner = shape.pattern.scanner(body, at, min(at + _WINDOW, len(body)))  # type: ignore[attr-defined]
            found: list[re.Match[bytes]] = list(iter(scanner.match, None))
            if found:
                self._shapes.insert(0, self._shapes.pop(index))
                return found
        return []

    def _learn(self, body: Buffer, at: int) -> bool:
        """Learn the shape of the record at `at`. Returns whether it is a new one."""
        begin = self._begin.match(body, at)
        if begin is None or len(self._known) == _SHAPES:
            return False
        at = begin.end()
        attributes: list[tuple[bytes, bytes]] = []
        while len(attributes) <= _PARTS and (found := _ATTRIBUTE.match(body, at)):
            attributes.append((found[1], found[2] or found[3]))
            at = found.end()
        children: list[bytes] = []
        if opened := _OPENED.match(body, at):
            at = opened.end()
            while len(children) <= _PARTS and (found := _CHILD.match(body, at)):
                children.append(found[1])
                at = found.end()
        known = (*attributes, None, *children)
        if known in self._known or len(known) > _PARTS:
            return False
        self._known.add(known)
        shape = self._shape(attributes, children)
        if shape is not None:
            self._shapes.insert(0, shape)
        return shape is not None

    def _shape(self, attributes: list[tuple[bytes, bytes]], children: list[bytes]) -> _Shape | None:
        """The shape with these attributes (name, quote) and elements; None if a path is there twice."""
        names: list[str] = []  # the path of each group
        start = b""
        for name, quote in attributes:
            start += rb"(?:[ \t\r\n]++" + re.escape(name) + rb"=" + _VALUES[quote] + rb")?+"
            names.append("" if name.startswith(b"xmlns") else f"@{_local(name)}")
        content = b""
        for name in children:
            literal = re.escape(name)
            content += rb"(?:%b<%b>(%b)</%b>|%b<%b%b/>)?+" % (_SPACE, literal, _TEXT, literal, _SPACE, literal, _SPACE)
            names.append(_local(name))
        if not children:
            content = rb"(" + _TEXT + rb")"
            names.append(".")
        elif "." in self._paths:
            return None
        else:
            content += _SPACE
        present = [path for path in self._paths if path in names]
        if not present or any(names.count(path) > 1 for path in present):
            return None
        end = _SPACE + rb"(?:/>|>" + content + rb"</" + self._name + _SPACE + rb">)"
        texts = (
            orjson.dumps(path).replace(b"%", b"%%") + (b':"%s"' if path in present else b':""') for path in self._paths
        )
        return _Shape(
            re.compile(_SPACE + rb"<" + self._name + start + end),
            itemgetter(*map(names.index, present)),
            b"{" + b",".join(texts) + b"}\n",
        )


def _local(name: bytes) -> str:
    return name.decode().rpartition(":")[2]


def _replaced(reference: re.Match[bytes]) -> bytes:
    """The text of a reference, as a part of a string in JSON."""
    entity, decimal, hexadecimal = reference.groups()
    if entity:
        return _ENTITIES[entity]
    return orjson.dumps(chr(int(decimal or hexadecimal, 10 if decimal else 16)))[1:-1]

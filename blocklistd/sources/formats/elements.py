"""Reads repeated elements of an XML document (XML 1.0, fifth edition) with expat, in one pass and without a tree.

`records` is the path of an element from the root: `register/position`. Each element with that path is a record. Paths
from the record reference its parts: `name`, `a/b`, an attribute as `@id` or `a/@id`, its own text as `.`. Namespaces
are ignored: prefixes are not part of a name.

A document type is refused: it could define entities, which expand to any size. So the only entities are the five of XML
and character references. The text of an element is the text between its tags, without the text of elements in it.
CDATA sections are text, comments and processing instructions are not.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn
from xml.parsers import expat

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE, MIB
from blocklistd.lines.keys import Buffer

Found = dict[str, str | list[str]]
"""For each path, the text of a record's part: "" if it is absent, a list if there are several."""

_CHUNK: Final = 1 << 20  # bytes that are parsed at a time
_DEPTH: Final = 256  # elements within each other
_TAG: Final = 4 * MIB  # bytes of a tag or a comment: expat reads an incomplete one again with each chunk
_NAME: Final = r"[^\W\d][\w.\-]*"
RECORDS: Final = re.compile(rf"{_NAME}(?:/{_NAME}){{0,63}}")
"""The path of a repeated element."""
PATH: Final = re.compile(rf"(?:{_NAME}/){{0,63}}@?{_NAME}|\.")
"""The path of a part of a record."""
_NO_MEMORY: Final = 1  # of expat's error codes
_TOO_DEEP: Final = f"more than {_DEPTH} elements within each other: expected a list of records"
_DOCTYPE: Final = "a document type (<!DOCTYPE>): expected XML without one; check `url` if this is an error page"
_LARGE: Final = f"a tag or a comment of more than {_TAG} bytes: expected a list of short records"
_MEMORY: Final = "the XML needs too much memory: expected a list of short records"
_ENCODING: Final = "the XML declares an encoding that can't be read: expected UTF-8"
_NONE: Final = "no element that could contain OURS (options.records): expected the path from the root"
REASONS: Final = (
    *(f"line N is not XML: {text}" for text in sorted(set(expat.errors.messages.values()))),
    *(_TOO_DEEP.replace(str(_DEPTH), "N"), _LARGE.replace(str(_TAG), "N"), _DOCTYPE, _MEMORY, _ENCODING, _NONE),
)
"""The messages of the errors that this module raises."""

# Python's expat reads these encodings with codecs, whose modules are loaded here: a sandbox forbids to open files
for _encoding in ("iso8859-2", "iso8859-15", "cp1250", "cp1251", "cp1252", "koi8-r"):
    codecs.lookup(_encoding)


def read(body: Buffer, records: str, paths: Sequence[str]) -> Iterator[Found]:
    """Yield the parts `paths` of each element at the path `records`, in the order of the document. Raises ParseError,
    perhaps after some records."""
    reader = ElementReader(records, paths)
    for at in range(0, len(body), _CHUNK):
        reader.feed(body[at : at + _CHUNK])
        yield from reader.take()
    reader.close()
    yield from reader.take()


class ElementReader:
    """Reads a document that arrives in chunks.

    Order of calls: `feed` for each chunk, then `close`; `take` after any of them. All raise ParseError but `take`.
    """

    def __init__(self, records: str, paths: Sequence[str]) -> None:
        self._records = records.split("/")
        self._records_path = records
        self._paths = dict.fromkeys(paths, "")
        self._attributes = any("@" in path for path in paths)
        self._open: list[str] = []  # the names of the open elements
        self._matched = 0  # how many of these, from the root on, match `records`
        self._record: dict[str, list[str]] | None = None  # the texts of the open record
        self._below: list[str] = []  # the path of each open element in the record, ending with a slash
        self._texts: list[list[str] | None] = []  # for each of these the text, if its path is one of `paths`
        self._fed = 0  # bytes
        self._size = 0  # characters in the open record
        self._parts = 0  # texts in the open record
        self._in_cdata = False
        self._found: list[Found] = []
        self._has_parent = len(self._records) == 1
        self.first: tuple[int, str] | None = None
        """The offset of the first record in the fed bytes, and its name with its prefix."""
        self._parser = _parser()
        self._parser.buffer_text = True
        self._parser.ordered_attributes = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.StartCdataSectionHandler = lambda: self._set_in_cdata(True)
        self._parser.EndCdataSectionHandler = lambda: self._set_in_cdata(False)

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the document."""
        self._fed += len(chunk)
        with_errors(self._parser, chunk, self._fed)

    def close(self) -> None:
        """End the document. Raises ParseError also if no element could contain a record."""
        with_errors(self._parser, b"", None)
        if not self._has_parent:
            raise ParseError(_NONE.replace("OURS", repr(self._records_path)))

    def take(self) -> list[Found]:
        """The records that ended since the last call."""
        found, self._found = self._found, []
        return found

    @property
    def is_between_records(self) -> bool:
        """Whether the parent of records is the innermost open element: a record could begin here."""
        return len(self._open) == self._matched == len(self._records) - 1 and not self._in_cdata

    def _set_in_cdata(self, is_in: bool) -> None:
        self._in_cdata = is_in

    def _start(self, name: str, attributes: list[str]) -> None:
        if len(self._open) >= _DEPTH:
            raise ParseError(_TOO_DEEP)
        local = name.rpartition(":")[2]
        if self._record is not None:
            below = f"{self._below[-1]}{local}"
            self._texts.append([] if below in self._paths else None)
            self._below.append(f"{below}/")
        elif len(self._open) == self._matched < len(self._records) and local == self._records[self._matched]:
            self._matched += 1
            if self._matched == len(self._records):
                self._record = {}
                self._size = self._parts = 0
                self._below = [""]
                self._texts = [[] if "." in self._paths else None]
                if self.first is None:
                    self.first = self._parser.CurrentByteIndex, name
            self._has_parent = self._has_parent or self._matched == len(self._records) - 1
        if self._record is not None and attributes and self._attributes:
            for key, value in zip(attributes[::2], attributes[1::2], strict=True):
                path = f"{self._below[-1]}@{key.rpartition(':')[2]}"
                if path in self._paths and not key.startswith("xmlns"):
                    self._add(path, value)
        self._open.append(local)

    def _text(self, data: str) -> None:
        if self._record is None or (text := self._texts[-1]) is None:
            return
        if self._size <= MAX_LINE:  # the kept texts exceed MAX_LINE, so that the record is rejected
            text.append(data)
            self._size += len(data)

    def _end(self, name: str) -> None:
        self._open.pop()
        if self._record is not None:
            text, below = self._texts.pop(), self._below.pop()
            if text is not None:
                self._add(below[:-1] or ".", "".join(text))
            if not self._below:
                self._found.append({**self._paths, **{path: _one(texts) for path, texts in self._record.items()}})
                self._record = None
        if len(self._open) < self._matched:
            self._matched -= 1

    def _add(self, path: str, text: str) -> None:
        assert self._record is not None
        self._parts += 1
        if self._parts <= MAX_LINE:
            self._record.setdefault(path, []).append(text)


def check(body: Buffer) -> bool:
    """Check that a document is well-formed, at a tenth of the time that ElementReader needs. False if many elements
    seem to be within each other, which ElementReader has to judge. Raises ParseError."""
    parser = _parser()
    depth = 0
    for at in range(0, len(body), _CHUNK):
        chunk = body[at : at + _CHUNK]
        with_errors(parser, chunk, at + len(chunk))
        depth += chunk.count(b"<") - 2 * chunk.count(b"</") - chunk.count(b"/>")
        if depth > _DEPTH:
            return False
    with_errors(parser, b"", None)
    return True


def with_errors(parser: expat.XMLParserType, chunk: bytes, end: int | None) -> None:
    """Parse a chunk. `end`: the offset after it in the document; None after the last chunk. Raises ParseError, with the
    line, for a document that is not well-formed, and for a tag of more than _TAG bytes."""
    try:
        parser.Parse(chunk, end is None)
    except expat.ExpatError as error:
        raise ParseError(
            _MEMORY if error.code == _NO_MEMORY else f"line {error.lineno} is not XML: {expat.ErrorString(error.code)}"
        ) from None
    except MemoryError:
        raise ParseError(_MEMORY) from None
    except (LookupError, ValueError) as error:
        if type(error) not in (LookupError, ValueError):  # a subclass is an error of a handler
            raise
        raise ParseError(_ENCODING) from None
    if end is not None and end - parser.CurrentByteIndex > _TAG:
        raise ParseError(_LARGE)


def _parser() -> expat.XMLParserType:
    parser = expat.ParserCreate()
    if hasattr(parser, "SetReparseDeferralEnabled"):  # expat 2.6: the positions must be those of the bytes fed
        parser.SetReparseDeferralEnabled(False)
    parser.StartDoctypeDeclHandler = _refuse_document_type
    return parser


def _refuse_document_type(*_: object) -> NoReturn:
    raise ParseError(_DOCTYPE)


def _one(texts: list[str]) -> str | list[str]:
    return texts[0] if len(texts) == 1 else texts

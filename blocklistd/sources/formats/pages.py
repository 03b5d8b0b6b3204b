"""Reads the XML pages of a list, as NCMEC's hash sharing (version 2) sends them, with expat and chunk by chunk.

    <queryResult>
      <images><image>…</image><deletedImage>…</deletedImage></images>
      <videos>…</videos>
      <paging><next>/v2/entries?…</next></paging>
    </queryResult>

An *item* is an element two levels below the root, except in `paging`. Its name begins with `deleted` if it was deleted.
The last page has no `next`. Namespaces are ignored. A document type is refused: it could define entities, which expand
to any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NoReturn
from xml.parsers import expat

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_ITEM_PARTS, MAX_LINE
from blocklistd.sources.formats.elements import with_errors

ROOT: Final = "queryResult"
_PAGING: Final = "paging"
_DELETED: Final = "deleted"
_CHUNK: Final = 1 << 20  # bytes that are parsed at a time
_DEPTH: Final = 32  # elements within each other
NO_PAGE: Final = f"a page without the root element {ROOT}: check `url`, or ask the hotline"
_DOCTYPE: Final = "a page with a document type (<!DOCTYPE>): expected XML without one; check `url`"
_TOO_LARGE: Final = f"an item of more than {MAX_ITEM_PARTS} parts, or {_DEPTH} within each other: ask the hotline"
REASONS: Final = (NO_PAGE, _DOCTYPE, _TOO_LARGE.replace(str(MAX_ITEM_PARTS), "N").replace(str(_DEPTH), "N"))
"""The messages of the errors that PageReader raises, besides those of elements.py."""


@dataclass(slots=True)
class Element:
    """An element with all that is in it. `text`: up to MAX_LINE + 1 characters of its own text, joined."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def texts(self, path: str, kind: str = "") -> list[str]:
        """The texts at a path: elements by their names or `*`, then perhaps an attribute as `@name`. An element with an
        attribute `type` that is not `kind` is skipped: it belongs to another fingerprint."""
        parent, _, attribute = path.rpartition("@")
        found = self.elements(parent.removesuffix("/") if attribute != path else path, kind)
        if attribute == path:
            return [one.text.strip() for one in found]
        return [one.attributes[attribute] for one in found if attribute in one.attributes]

    def elements(self, path: str, kind: str = "") -> list[Element]:
        """The elements at a path, as for `texts`; this one for an empty path."""
        found = [self]
        for name in path.split("/") if path else ():
            found = [
                child
                for one in found
                for child in one.children
                if name in ("*", child.name)
                and (not kind or child.attributes.get("type", kind).lower() == kind.lower())
            ]
        return found


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a page. `place`: the path of its element from the root, without `deleted`; of NCMEC `images/image` or
    `videos/video`."""

    place: str
    element: Element
    is_deleted: bool


class PageReader:
    """Reads one page. Order of calls: `feed` for each chunk, then `close`; `take` after any of them. `feed` and `close`
    raise ParseError. `next`: the link to the next page after `close`, empty on the last page."""

    def __init__(self) -> None:
        self.next = ""
        self.items = 0
        """The number of items so far."""
        self._open: list[Element] = []
        self._names: list[str] = []
        self._parts = 0
        self._fed = 0  # bytes
        self._found: list[Item] = []
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = _refuse_document_type
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the page."""
        self._fed += len(chunk)
        with_errors(self._parser, chunk, self._fed)

    def close(self) -> None:
        """End the page."""
        with_errors(self._parser, b"", None)

    def take(self) -> list[Item]:
        """The items that ended since the last call."""
        found, self._found = self._found, []
        return found

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if not self._names and local != ROOT:
            raise ParseError(NO_PAGE)
        self._names.append(local)
        if len(self._names) < 3:
            return
        self._parts += 1 + len(attributes)
        if self._parts > MAX_ITEM_PARTS or len(self._names) > _DEPTH:
            raise ParseError(_TOO_LARGE)
        local_names = {key.rpartition(":")[2]: value[: MAX_LINE + 1] for key, value in attributes.items()}
        element = Element(local, local_names)
        if self._open:
            self._open[-1].children.append(element)
        self._open.append(element)

    def _text(self, data: str) -> None:
        if self._open and len(self._open[-1].text) <= MAX_LINE:
            self._open[-1].text = (self._open[-1].text + data)[: MAX_LINE + 1]

    def _end(self, name: str) -> None:
        self._names.pop()
        if not self._open:
            return
        element = self._open.pop()
        if self._open:
            return
        self._parts = 0
        container = self._names[1]
        if container == _PAGING:
            if element.name == "next":
                self.next = element.text.strip()
            return
        self.items += 1
        name = element.name.removeprefix(_DELETED)
        is_deleted = name != element.name and name != ""
        place = f"{container}/{name[0].lower()}{name[1:]}" if is_deleted else f"{container}/{element.name}"
        self._found.append(Item(place, element, is_deleted))


def items(pages: Iterator[bytes]) -> Iterator[Item]:
    """Yield the items of pages, in their order. Raises ParseError."""
    for page in pages:
        reader = PageReader()
        for at in range(0, len(page), _CHUNK):
            reader.feed(page[at : at + _CHUNK])
        reader.close()
        yield from reader.take()


def _refuse_document_type(*_: object) -> NoReturn:
    raise ParseError(_DOCTYPE)

"""XML pages of items with several values each, as NCMEC's hash sharing has them (pages.py).

`fields` and `options.where` are paths from an item. `fields.value` may match several elements (`fingerprints/*`): each
is an entry. Its type is `fields.type` or `defaults.type`; without these, the name of its element. Of elements that have
an attribute `type` (the votes on one fingerprint), only those of the entry's own type count for it. `fields.verifiers`
is the number of elements at its path; or, if there is one element with a number, that number.

The body consists of pages, each with END after it. The list is made of the items in their order: an item replaces the
last one with the same key, and a deleted item removes it. The key is the item's `id` with the `id` of its `member`. So
pages that are read twice change nothing, and after the first time a body may consist of the changed items only.

The lines of the list are JSON objects with the key, the type, the value, and the attributes of each entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, Final

import orjson

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_ATTRIBUTE
from blocklistd.lines.keys import Buffer
from blocklistd.model import ATTRIBUTES, UNBUILT_TYPES
from blocklistd.sources.formats import elements, ndjson, pages
from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.pages import Element, Item
from blocklistd.sources.formats.records import FormatOptions, Record, Reject
from blocklistd.sources.formats.where import matches
from blocklistd.sources.transports.transport import TransferMode

END: Final = b"\0"
"""Separates pages. XML in UTF-8 can't contain it."""
_OTHER: Final = UNBUILT_TYPES[0]
"""Stands for all fingerprints that have no name in the configuration: they are withheld as `type-not-built`."""
_TYPES: Final = {
    "pdna": "photodna",
    **dict.fromkeys(("netclean", "videntifier", "tmk_pdqf", "ssvh_pdna", "ssvh_safer_hash"), _OTHER),
}
"""The types of entries, by the names of elements that have another name."""
_OTHER_VALUE: Final = 64  # characters of a fingerprint that no list can contain
_NAMES: Final = 64  # names of the elements with values in one item: the parts of each are found by themselves
_MANY_NAMES: Final = f"an item whose values have more than {_NAMES} names: check `fields.value`, or ask the hotline"
_CUT: Final = "the last page is cut short: expected complete pages"
_NO_ID: Final = "an item without `id`: expected one in each; ask the hotline"
_PATH: Final = re.compile(r"(?:(?:[^\W\d][\w.\-]*|\*)/)*(?:@?[^\W\d][\w.\-]*|\*)")
_PLACE: Final = re.compile(r"|[^\W\d][\w.\-]*/[^\W\d][\w.\-]*")


def to_lines(body: Buffer, earlier: Buffer | None, options: FormatOptions, out: BinaryIO) -> None:
    """Write the entries of the items as lines (`Format.to_lines`)."""
    changed: dict[bytes, bytes] = {}
    for item in pages.items(_pages(body)):
        if not options.records or item.place == options.records:
            key = _key(item.element)
            changed.pop(key, None)  # the order of lines is that of the last items
            changed[key] = b"" if item.is_deleted else b"".join(_lines(key, item, options))
    start = 0
    while earlier is not None and start < len(earlier):
        end = earlier.find(b"\n", start) + 1 or len(earlier)
        line = earlier[start:end]
        key = line[: line.index(_AFTER_KEY)]
        if key in changed:
            out.write(changed[key])  # once, where its first line was
            changed[key] = b""
        else:
            out.write(line)
        start = end
    out.writelines(changed.values())


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield the records of the lines that `to_lines` wrote (`Format.records`). Rejects: as ndjson.records."""
    fields = {name: f"/{name}" for name in ("value", "type", *ATTRIBUTES)}
    return ndjson.records(body, replace(options, fields=fields, where={}))


_AFTER_KEY: Final = b',"type":'  # not in the key: a quote in it has a backslash before it


def _pages(body: Buffer) -> Iterator[bytes]:
    """Yield each page. Raises ParseError if the last one is incomplete."""
    start = 0
    while start < len(body):
        end = body.find(END, start)
        if end < 0:
            raise ParseError(_CUT)
        yield body[start:end]
        start = end + 1


def _key(item: Element) -> bytes:
    """The beginning of the lines of an item, up to its key. Raises ParseError."""
    if not (id := "".join(item.texts("id"))):
        raise ParseError(_NO_ID)
    return orjson.dumps({"key": ["".join(item.texts("member/@id")), id]})[:-1]


def _lines(key: bytes, item: Item, options: FormatOptions) -> Iterator[bytes]:
    """Yield the line of each entry of an item. An element without text is no entry."""
    fields, element = options.fields, item.element
    path, _, attribute = fields["value"].rpartition("@")
    parts_of: dict[str, dict[str, str] | None] = {}
    for found in element.elements(path.removesuffix("/") if attribute != fields["value"] else fields["value"]):
        value = found.text.strip() if attribute == fields["value"] else found.attributes.get(attribute, "")
        if not value:
            continue
        if found.name not in parts_of:
            if len(parts_of) == _NAMES:
                raise ParseError(_MANY_NAMES)
            parts_of[found.name] = _parts(element, found.name, options)
        parts = parts_of[found.name]
        if parts is not None:
            value = value[:_OTHER_VALUE] if parts["type"] in UNBUILT_TYPES else value
            made = {"type": parts["type"], "value": value, **parts}
            yield key + b"," + orjson.dumps(made, option=orjson.OPT_APPEND_NEWLINE)[1:]


def _parts(element: Element, kind: str, options: FormatOptions) -> dict[str, str] | None:
    """The type and the attributes of the entries of an item whose elements have the name `kind`; None if `where`
    excludes them. They are read once for each name, since an item may have as many votes as values."""
    if not all(matches(list(element.texts(path, kind)), expected) for path, expected in options.where.items()):
        return None
    fields = options.fields
    type = "".join(element.texts(fields["type"], kind)[:1]) if "type" in fields else ""
    parts = {"type": type or options.defaults.get("type") or _TYPES.get(kind.lower(), kind.lower())}
    for name in ATTRIBUTES:
        if name in fields:
            texts = element.texts(fields[name], kind)
            parts[name] = _count(texts) if name == "verifiers" else "".join(texts[:1])[: MAX_ATTRIBUTE + 1]
    return parts


def _count(texts: list[str]) -> str:
    """The only text if it is a number, else the number of texts; empty if there are none."""
    return texts[0] if len(texts) == 1 and texts[0].isdecimal() else str(len(texts) or "")


FORMAT: Final = Format(
    records,
    first_independent_line=all_lines_independent,
    to_lines=to_lines,
    transfer=TransferMode.PAGES,
    value="a path to the values of an item, like fingerprints/*",
    field=_PATH,
    field_expected="a path from the item: name, a/b, a/*, @id or a/@id",
    place=_PLACE,
    place_expected="nothing, or the path of the items from the root, like images/image",
    options=frozenset({"records", "where"}),
    reasons=(*elements.REASONS, *pages.REASONS, _CUT, _NO_ID, _MANY_NAMES.replace(str(_NAMES), "N")),
)

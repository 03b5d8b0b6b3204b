"""Reads catalogs in the PO format of GNU gettext, and makes the translations of the standard library from them."""

from __future__ import annotations

import gettext
import io
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

_MAGIC: Final = 0x950412DE  # the number with which a MO file begins, in little-endian order
_CONTEXT_END: Final = "\4"  # between context and message in a key of a MO file


@dataclass(slots=True)
class PoEntry:
    """One entry of a catalog. `context`: "" without one. `plural`: "" if the message has one form.
    `translations`: one, or with a plural one for each form of the language."""

    context: str = ""
    message: str = ""
    plural: str = ""
    translations: list[str] = field(default_factory=list)
    is_fuzzy: bool = False
    comments: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """Context and message, which identify the entry in a catalog."""
        return self.context, self.message


def read_po(text: str) -> list[PoEntry]:
    """The entries of a catalog, its header (the message "") first. Raises ValueError with the line for bad syntax."""
    entries: list[PoEntry] = []
    for block in _blocks(text):
        entry, last = PoEntry(), ""
        for number, line in block:
            if line.startswith("#"):
                entry.is_fuzzy |= line.startswith("#,") and "fuzzy" in line
                entry.comments.append(line)
                continue
            word, _, quoted = ("", "", line) if line.startswith('"') else line.partition(" ")
            try:
                value = json.loads(quoted)  # the escapes that catalogs use are escapes of JSON, too
            except ValueError:
                value = None
            if not isinstance(value, str):
                raise ValueError(f"line {number}: expected a quoted text: correct the catalog")
            last = word or last
            _add(entry, last, value, begins=bool(word), number=number)
        if last:
            entries.append(entry)
    return entries


def _blocks(text: str) -> Iterator[list[tuple[int, str]]]:
    block: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#~"):
            block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _add(entry: PoEntry, word: str, value: str, *, begins: bool, number: int) -> None:
    """Adds a quoted text to the part of the entry that `word` names."""
    match word:
        case "msgctxt":
            entry.context += value
        case "msgid":
            entry.message += value
        case "msgid_plural":
            entry.plural += value
        case _ if word == "msgstr" or word.startswith("msgstr["):
            if begins:
                entry.translations.append("")
            entry.translations[-1] += value
        case _:
            raise ValueError(f"line {number}: expected msgctxt, msgid or msgstr: correct the catalog")


def translations_of(entries: Iterable[PoEntry]) -> gettext.GNUTranslations:
    """The translations of a catalog: those of its entries that are complete and not fuzzy."""
    table: dict[bytes, bytes] = {}
    for entry in entries:
        if (entry.is_fuzzy and entry.message) or not all(entry.translations):
            continue
        key = f"{entry.context}{_CONTEXT_END}" * bool(entry.context) + entry.message
        key += f"\0{entry.plural}" * bool(entry.plural)
        table[key.encode()] = "\0".join(entry.translations).encode()
    return gettext.GNUTranslations(io.BytesIO(_mo(table)))


def _mo(table: dict[bytes, bytes]) -> bytes:
    """A MO file (GNU gettext manual, "The Format of GNU MO Files") without a hash table."""
    keys = sorted(table)
    start = 7 * 4 + 2 * 8 * len(keys)
    indexes, texts = [], bytearray()
    for column in (keys, [table[key] for key in keys]):
        for value in column:
            indexes += [len(value), start + len(texts)]
            texts += value + b"\0"
    head = struct.pack("<7I", _MAGIC, 0, len(keys), 28, 28 + 8 * len(keys), 0, start)
    return head + struct.pack(f"<{len(indexes)}I", *indexes) + texts

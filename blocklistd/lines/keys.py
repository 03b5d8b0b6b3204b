"""Reads the key, the type and the value of a canonical line, without parsing the rest of its JSON.

A canonical line is the result of `Entry.line()`. Its key is the text through the quote that closes the value. A value
contains no unescaped quote, so no key is a prefix of another key. Hence lines that are sorted bytewise are sorted by
key, and all lines with the same key are neighbours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

if TYPE_CHECKING:
    from mmap import mmap

Buffer: TypeAlias = "bytes | mmap"
"""The bytes of a file, in memory or mapped. Functions that expect sorted lines, each with its newline, say so."""

_HEAD: Final = re.compile(rb'\{"type":"([a-z0-9]+)","value":"([^"\\]*(?:\\.[^"\\]*)*)"')

_KEYS: Final = re.compile(rb'(\{"type":"[a-z0-9]+","value":"[^"\\]*(?:\\.[^"\\]*)*")[^\n]*\n')
_KEYS_WITHOUT_ESCAPES: Final = re.compile(rb'(\{"type":"[a-z0-9]+","value":"[^"]*")[^\n]*\n')  # takes half the time


def key_of(line: bytes) -> bytes:
    """The key: the bytes through the quote that closes the value. Two lines have the same key exactly if they have the
    same type and value.

    Raises ValueError if `line` does not begin as a canonical line.
    """
    return _head(line)[0]


def keys_of(lines: bytes) -> list[bytes]:
    """The key of each line, for complete canonical lines; fewer keys than lines for other text."""
    return (_KEYS if b"\\" in lines else _KEYS_WITHOUT_ESCAPES).findall(lines)


def type_and_value(line: bytes) -> tuple[bytes, bytes]:
    """The type and the value in UTF-8, with the JSON escapes of the value resolved. Raises ValueError as `key_of`."""
    kind, value = _head(line).groups()
    return kind, orjson.loads(b'"%b"' % value).encode() if b"\\" in value else value


def _head(line: bytes) -> re.Match[bytes]:
    head = _HEAD.match(line)
    if head is None:
        raise ValueError("not a canonical line: expected type, then value")
    return head

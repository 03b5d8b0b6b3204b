"""A canonical line seen as bytes: its key, and the type and value in it, without parsing the JSON of the rest.

Lines are those of `Entry.line()`. Sorted bytewise they are sorted by key: a key ends in the quote that closes the
value, and no value holds one unescaped, so no key is the beginning of another and all lines of a key are neighbours.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

if TYPE_CHECKING:
    from mmap import mmap

Buffer: TypeAlias = "bytes | mmap"
"""A snapshot or a sealed file in memory or mapped: sorted lines, each with its newline."""

_HEAD: Final = re.compile(rb'\{"type":"([a-z0-9]+)","value":"([^"\\]*(?:\\.[^"\\]*)*)"')


def key_of(line: bytes) -> bytes:
    """The bytes through the quote that closes the value; the same for all lines of a (type, value), for no other.

    Raises ValueError for what is no canonical line.
    """
    return _head(line)[0]


def type_and_value(line: bytes) -> tuple[bytes, bytes]:
    """Type and value in UTF-8, the JSON escapes of the value resolved; raises ValueError as `key_of`."""
    kind, value = _head(line).groups()
    return kind, orjson.loads(b'"%b"' % value).encode() if b"\\" in value else value


def _head(line: bytes) -> re.Match[bytes]:
    head = _HEAD.match(line)
    if head is None:
        raise ValueError("not a canonical line: expected type, then value")
    return head

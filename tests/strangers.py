"""DNS messages of unauthenticated clients that cost as much time as possible, by description."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

LABELS: Final = b"\x01a" * 126 + b"\0"
"""A name with the highest possible number of labels."""
KNOWN_KEY: Final = b"\x03isp\0"
"""The name of a subscriber's key, which is no secret."""
_QUESTION: Final = struct.pack("!HH", 252, 1)
_TSIG: Final = struct.pack("!HHI", 250, 255, 0)
_SHA256: Final = b"\x0bhmac-sha256\0"


def _message(
    name: bytes, records: bytes, answers: int = 0, authority: int = 0, additional: int = 0, opcode: int = 0
) -> bytes:
    return struct.pack("!6H", 7, opcode << 11, 1, answers, authority, additional) + name + _QUESTION + records


def _record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def _signed(owner: bytes, algorithm: bytes, other: bytes = b"") -> bytes:
    data = (
        algorithm + struct.pack("!HIHH", 0, 1000, 300, 32) + bytes(32) + struct.pack("!HHH", 7, 0, len(other)) + other
    )
    return owner + _TSIG + struct.pack("!H", len(data)) + data


def _chain(length: int) -> bytes:
    """The root at offset 28, where the data of the first record begins, then pointers, each to the one before it."""
    return b"\0\0" + b"".join(struct.pack("!H", 0xC000 | 28 + 2 * at) for at in range(length))


def _messages() -> Iterator[tuple[str, bytes]]:
    pointers = _record(b"\xc0\x0c", 1, b"") * 5000
    yield "5,000 records that point at one name", _message(LABELS, pointers, answers=5000)
    yield "5,000 records of an update", _message(LABELS, pointers, authority=5000, opcode=5)
    yield "65,535 octets of one record", _message(LABELS, _record(b"\0", 10, bytes(65000)), additional=1)
    yield "a chain of 8,000 pointers", _message(b"\0", _record(b"\0", 10, _chain(8000)) + b"\xfe\x80", additional=2)
    start = struct.pack("!H", 0xC000 | 28 + 2 * 1500)
    yield (
        "a chain of 1,500 pointers to a key's name",
        _message(b"\0", _record(b"\0", 41, _chain(1500)) + _signed(start, _SHA256), additional=2),
    )
    yield (
        "the longest names everywhere",
        _message(
            LABELS,
            _record(LABELS, 6, LABELS * 2 + bytes(20)) * 2 + _record(b"\0", 41, bytes(400)) + _signed(LABELS, LABELS),
            *(1, 1, 2),
        ),
    )
    yield (
        "a known key's name and 3,700 octets to hash",
        _message(b"\0", _record(b"\0", 41, bytes(3700)) + _signed(KNOWN_KEY, _SHA256), additional=2),
    )
    yield "2,000 octets of other data", _message(b"\0", _signed(KNOWN_KEY, _SHA256, bytes(2000)), additional=1)
    yield "an AXFR, unsigned", _message(b"\3rpz\x09blocklist\7example\0", b"")
    yield "noise", bytes(range(256)) * 16


MESSAGES: Final = dict(_messages())

"""Reads the packets of OpenPGP data (RFC 9580 section 4), and decompresses them, in bounded memory."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Iterator
from typing import Final

from blocklistd.errors import VerifyError
from blocklistd.limits import KIB, MAX_SIGNATURE_BYTES

STEP: Final = 256 * KIB
"""Bytes that are read at once."""
CUT_SHORT: Final = "the OpenPGP message is cut short or malformed: ask the hotline"
MANY_PACKETS: Final = "the OpenPGP message has packets of an unusual number or size: ask the hotline to use gpg or sq"
_LEAST_PART: Final = 512  # bytes of a part of a packet, except the last one (RFC 9580 section 4.2.1.4, of the first)

Body = Iterator[bytes]
"""The body of a packet."""


class Source:
    """Reads exact numbers of bytes from chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._data, self._at = chunks, b"", 0

    def some(self, most: int) -> bytes:
        """From 1 to `most` bytes; none at the end."""
        while self._at == len(self._data):
            data = next(self._chunks, None)
            if data is None:
                return b""
            self._data, self._at = data, 0
        found = self._data[self._at : self._at + most]
        self._at += len(found)
        return found

    def exactly(self, count: int) -> bytes:
        """`count` bytes. Raises VerifyError if there are fewer."""
        parts = []
        while count:
            part = self.some(count)
            if not part:
                raise VerifyError(CUT_SHORT)
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def read_packets(source: Source) -> Iterator[tuple[int, Body]]:
    """(tag, body) of each packet; the body must be read before the next packet (RFC 9580 section 4.2)."""
    while head := source.some(1):
        if not head[0] & 0x80:
            raise VerifyError(CUT_SHORT)
        if head[0] & 0x40:
            tag, body = head[0] & 0x3F, _new_body(source)
        else:
            tag, body = head[0] >> 2 & 0xF, _old_body(source, head[0] & 3)
        yield tag, body
        for _ in body:
            pass


def _new_body(source: Source) -> Body:
    while True:
        first = source.exactly(1)[0]
        if first < 192:
            length = first
        elif first < 224:
            length = (first - 192 << 8) + source.exactly(1)[0] + 192
        elif first == 255:
            length = int.from_bytes(source.exactly(4))
        else:
            length = 1 << (first & 0x1F)
            if length < _LEAST_PART:  # each part costs time, and few compressed bytes may be very many
                raise VerifyError(MANY_PACKETS)
        yield from _fixed(source, length)
        if not 224 <= first < 255:  # the last part, or the only one
            return


def _old_body(source: Source, kind: int) -> Body:
    if kind == 3:  # up to the end
        yield from iter(lambda: source.some(STEP), b"")
    else:
        yield from _fixed(source, int.from_bytes(source.exactly(1 << kind)))


def _fixed(source: Source, length: int) -> Body:
    while length:
        part = source.some(min(length, STEP))
        if not part:
            raise VerifyError(CUT_SHORT)
        length -= len(part)
        yield part


def limited(body: Body) -> bytes:
    """The bytes of a small packet. Raises VerifyError for a large one."""
    data = b""
    for part in body:
        data += part
        if len(data) > MAX_SIGNATURE_BYTES:
            raise VerifyError(MANY_PACKETS)
    return data


def decompressed(source: Source) -> Iterator[bytes]:
    """The content of a compressed packet (RFC 9580 section 5.6), at most `STEP` bytes at a time."""
    algorithm = source.exactly(1)[0]
    if algorithm == 0:
        yield from iter(lambda: source.some(STEP), b"")
        return
    if algorithm not in (1, 2, 3):
        raise VerifyError(CUT_SHORT)
    try:
        yield from _bunzip2(source) if algorithm == 3 else _inflate(source, algorithm)
    except (zlib.error, OSError, EOFError):
        raise VerifyError(CUT_SHORT) from None


def _inflate(source: Source, algorithm: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS if algorithm == 1 else zlib.MAX_WBITS)
    data = b""
    while not stream.eof:
        data = data or source.some(STEP)
        part = stream.decompress(data, STEP)
        if not part and not data:
            raise VerifyError(CUT_SHORT)
        data = stream.unconsumed_tail
        if part:
            yield part


def _bunzip2(source: Source) -> Iterator[bytes]:
    stream = bz2.BZ2Decompressor()
    while not stream.eof:
        data = source.some(STEP) if stream.needs_input else b""
        if stream.needs_input and not data:
            raise VerifyError(CUT_SHORT)
        if part := stream.decompress(data, STEP):
            yield part

"""From the bytes as they were sent to the body: identity, gzip, zstd, streamed and bounded. No clock, no network."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

import zstandard

from blocklistd.errors import ParseError
from blocklistd.limits import KIB, MAX_STREAMS, MIB

GZIP_STEP: Final = 256 * KIB  # bytes in, and at most so many out, at a time
ZSTD_STEP: Final = 1 * KIB  # bytes in at a time: four can become 128 KiB, so this bounds a step's output to 32 MiB
ZSTD_WINDOW: Final = 128 * MIB  # what the zstd tool takes by default (RFC 9659 allows a content coding 8 MiB)


class _Stream(Protocol):
    """One gzip member or zstd frame; `step` answers its output so far and the input that it did not use."""

    def step(self, data: bytes) -> tuple[bytes, bytes]: ...

    @property
    def ended(self) -> bool: ...


class _Gzip:
    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        out = self._inflater.decompress(data, GZIP_STEP)
        return out, self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail

    @property
    def ended(self) -> bool:
        return self._inflater.eof


class _Zstd:
    # decompressobj, fed by hand: stream_reader and copy_stream take a cut frame for a whole one, and the one-shot
    # decompress stops after the first frame.
    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        return self._frame.decompress(data), self._frame.unused_data

    @property
    def ended(self) -> bool:
        return self._frame.eof


def decode(source: BinaryIO, encoding: str, out: BinaryIO, max_bytes: int) -> int:
    """Writes the decoded rest of `source` to `out`, and flushes it; answers the number of bytes written.

    `encoding` is identity, gzip (of any number of members, RFC 1952 section 2.2) or zstd (of any number of frames,
    RFC 8878 section 3.1). Raises ParseError where the stream is cut short or corrupt, or where it holds more than
    `max_bytes`; never more than these are written.
    """
    room = _Room(out, max_bytes)
    if encoding == "identity":
        while data := source.read(GZIP_STEP):
            room.write(data)
    elif encoding == "gzip":
        _pump(source, _Gzip, GZIP_STEP, room, "gzip")
    elif encoding == "zstd":
        _pump(source, _Zstd, ZSTD_STEP, room, "zstd")
    else:
        raise ParseError("an unknown content coding: expected identity, gzip or zstd")
    out.flush()
    return room.written


def sniff(head: bytes) -> str:
    """The coding of a body that is itself a .gz or .zst file, by its first four bytes; identity for any other."""
    if head[:3] == b"\x1f\x8b\x08":
        return "gzip"
    # a zstd frame, or a skippable one in front of it (RFC 8878 section 3.1.2)
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    return "identity"


class _Room:
    """What may still be written to `out`."""

    def __init__(self, out: BinaryIO, max_bytes: int) -> None:
        self._out = out
        self._max = max_bytes
        self.written = 0

    def write(self, data: bytes) -> None:
        if self.written + len(data) > self._max:
            raise ParseError(f"decompressed past {self._max} bytes: expected at most so many, see `max_bytes`")
        self._out.write(data)
        self.written += len(data)


def _pump(source: BinaryIO, begin: Callable[[], _Stream], step: int, room: _Room, name: str) -> None:
    """Streams one after another until `source` ends, which must be where a stream ends."""
    stream, streams = begin(), 1
    data = b""
    try:
        while data or (data := source.read(step)):
            if stream.ended:
                stream, streams = begin(), streams + 1
                if streams > MAX_STREAMS:
                    raise ParseError(f"more than {MAX_STREAMS} {name} streams in one body: expected fewer, larger ones")
            out, data = stream.step(data)
            room.write(out)
    except (zlib.error, zstandard.ZstdError):
        raise ParseError(
            f"the {name} stream is corrupt after {room.written} bytes of output: expected {name} to its end"
        ) from None
    if not stream.ended:
        raise ParseError(f"the {name} stream is cut short after {room.written} bytes of output: expected all of it")

"""Decodes the content coding of a body (identity, gzip, zstd), streamed and bounded. No clock, no network."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import BinaryIO, Final, Protocol

import zstandard

from blocklistd.errors import ParseError
from blocklistd.limits import KIB, MAX_COMPRESSED_STREAMS, MIB

GZIP_STEP: Final = 256 * KIB  # bytes of input at a time, and of output at most
ZSTD_STEP: Final = 1 * KIB  # bytes of input at a time: 4 can become 128 KiB, so a step's output has at most 32 MiB
ZSTD_WINDOW: Final = 128 * MIB  # the default limit of the zstd tool (RFC 9659 limits a content coding to 8 MiB)


class _Stream(Protocol):
    """The decoder of one gzip member or zstd frame."""

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode input. Returns the new output, and the input that was not used."""

    @property
    def ended(self) -> bool:
        """Whether the member or frame is complete."""


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
    # The simpler functions do not fit: stream_reader and copy_stream accept a truncated frame, and the one-shot
    # decompress stops after the first frame.
    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj()

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        return self._frame.decompress(data), self._frame.unused_data

    @property
    def ended(self) -> bool:
        return self._frame.eof


def decode(source: BinaryIO, encoding: str, out: BinaryIO, max_bytes: int) -> int:
    """Decode `source` from its current position to `out`, and flush `out`. Returns the number of bytes written.

    `encoding`: identity, gzip (any number of members, RFC 1952 section 2.2) or zstd (any number of frames, RFC 8878
    section 3.1). Raises ParseError if the stream is truncated or corrupt, or decodes to more than `max_bytes`; never
    more than `max_bytes` are written.
    """
    output = _BoundedOutput(out, max_bytes)
    if encoding == "identity":
        while data := source.read(GZIP_STEP):
            output.write(data)
    elif encoding == "gzip":
        _decode_streams(source, _Gzip, GZIP_STEP, output, "gzip")
    elif encoding == "zstd":
        _decode_streams(source, _Zstd, ZSTD_STEP, output, "zstd")
    else:
        raise ParseError("an unknown content coding: expected identity, gzip or zstd")
    out.flush()
    return output.written


def sniff(head: bytes) -> str:
    """The coding of a body that is itself a .gz or .zst file, by its first four bytes; "identity" for any other."""
    if head[:3] == b"\x1f\x8b\x08":
        return "gzip"
    # a zstd frame, or a skippable frame before it (RFC 8878 section 3.1.2)
    if head[:4] == b"\x28\xb5\x2f\xfd" or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    return "identity"


class _BoundedOutput:
    """Writes at most `max_bytes` to `out`."""

    def __init__(self, out: BinaryIO, max_bytes: int) -> None:
        self._out = out
        self._max = max_bytes
        self.written = 0

    def write(self, data: bytes) -> None:
        if self.written + len(data) > self._max:
            raise ParseError(
                f"more than {self._max} bytes when decompressed: raise `max_bytes` if the list is that large"
            )
        self._out.write(data)
        self.written += len(data)


def _decode_streams(
    source: BinaryIO, begin: Callable[[], _Stream], step: int, output: _BoundedOutput, name: str
) -> None:
    """Decode one stream after another until `source` ends, which must be at the end of a stream."""
    stream, streams = begin(), 1
    data = b""
    try:
        while data or (data := source.read(step)):
            if stream.ended:
                stream, streams = begin(), streams + 1
                if streams > MAX_COMPRESSED_STREAMS:
                    raise ParseError(
                        f"more than {MAX_COMPRESSED_STREAMS} {name} streams in one body: expected fewer, larger ones"
                    )
            decoded, data = stream.step(data)
            output.write(decoded)
    except (zlib.error, zstandard.ZstdError):
        raise ParseError(
            f"the {name} stream is corrupt after {output.written} bytes of output: expected {name} to its end"
        ) from None
    if not stream.ended:
        raise ParseError(f"the {name} stream is cut short after {output.written} bytes of output: expected all of it")

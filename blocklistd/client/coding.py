"""Bodies of answers: decoded step by step, and never longer than expected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import zstandard

_ZSTD_STEP: Final = 512  # compressed bytes that are decompressed at once, to 16 MiB at most
_ZSTD_WINDOW: Final = 1 << 23  # bytes: the largest window of the content coding (RFC 9659)


def decoded(chunks: Iterator[bytes], coding: str | None) -> Iterator[bytes]:
    """Decodes a body by its Content-Encoding: none, or one frame of zstd (RFC 8878).

    Raises ValueError for another coding, and for data that is damaged or incomplete.
    """
    if coding in (None, "", "identity"):
        yield from chunks
        return
    if coding != "zstd":
        raise ValueError("a content coding that was not requested")
    frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
    try:
        for chunk in chunks:
            for start in range(0, len(chunk), _ZSTD_STEP):
                yield frame.decompress(chunk[start : start + _ZSTD_STEP])
    except zstandard.ZstdError:
        raise ValueError("not zstd data") from None
    if not frame.eof:
        raise ValueError("zstd data that is cut short")
    if frame.unused_data:
        raise ValueError("more than one frame of zstd data")


def bounded(chunks: Iterator[bytes], bound: int) -> Iterator[bytes]:
    """The same chunks. Raises ValueError as soon as they have more than `bound` bytes."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > bound:
            raise ValueError(f"more than {bound} bytes")
        yield chunk

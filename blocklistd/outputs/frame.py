"""A zstd frame (RFC 8878) of chunks that are compressed each alone, so that those which a change does not touch are
taken over as they stand. One frame, since decoders are about that stop after the first; the same bytes for the same
content, whatever it was made from: where a chunk ends follows from what is in it.

What a decoder carries from one block to the next are the window, the entropy tables and the three last offsets
(RFC 8878 section 3.1.1.5). A chunk that is compressed as a frame of its own uses neither window nor tables of another;
but it may use the offsets that a frame begins with, 1, 4 and 8. Whether it does is seen by decoding it where the
offsets are others (`_alone`); such a chunk, one in some thousands, is stored as it is.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import zstandard

from blocklistd.lines import Buffer
from blocklistd.outputs.snapshot import Edit, replaced

_MARK: Final = b'"id":"e-0'  # in one line of sixteen; an id can't be foreseen, so that nobody can place it
_SMALLEST: Final = 12 << 10  # bytes of a chunk before a mark ends it
_LARGEST: Final = 48 << 10
_BATCH: Final = 1 << 18  # bytes compressed at a time

_WINDOW: Final = 17  # log2: of what a decoder has to hold, more than any chunk
_MAGIC: Final = b"\x28\xb5\x2f\xfd"
HEAD: Final = _MAGIC + bytes([0, (_WINDOW - 10) << 3])
"""The frame's header: no size, no checksum (section 3.1.1.1)."""
END: Final = b"\x01\x00\x00"
"""The frame's last block, a raw one of no bytes."""

_COMPRESSOR: Final = zstandard.ZstdCompressor(
    compression_params=zstandard.ZstdCompressionParameters(
        compression_level=1,  # faster than 3, and smaller on hex
        window_log=_WINDOW,
        hash_log=10,  # stays in the processor's cache, for 15 % less time and 2 % fewer bytes
        min_match=7,
        write_content_size=False,
    )
)

Chunk = bytes | memoryview


@dataclass(slots=True)
class Chunks:
    """The chunks of a frame in their order: how long their content is and how long they are packed, in bytes."""

    lengths: array[int] = field(default_factory=lambda: array("I"))
    packed: array[int] = field(default_factory=lambda: array("I"))

    def append(self, length: int, packed: int) -> None:
        self.lengths.append(length)
        self.packed.append(packed)

    def extend(self, other: Chunks, start: int, end: int) -> None:
        self.lengths.extend(other.lengths[start:end])
        self.packed.extend(other.packed[start:end])

    def to_bytes(self) -> bytes:
        return self.lengths.tobytes() + self.packed.tobytes()

    @classmethod
    def from_bytes(cls, written: bytes) -> Chunks:
        """Raises ValueError for what `to_bytes` never makes."""
        half = len(written) // 2
        found = cls()
        found.lengths.frombytes(written[:half])
        found.packed.frombytes(written[half:])
        return found

    def fit(self, length: int, packed: int) -> bool:
        """Whether these are the chunks of a frame of so many bytes, and its content is of so many."""
        return sum(self.lengths) == length and sum(self.packed) + len(HEAD) + len(END) == packed


class Packer:
    """Makes the frame from its content, in pieces of any size: HEAD, what `write` and `splice` yield, then `finish`.

    `chunks` tells what there is so far.
    """

    def __init__(self) -> None:
        self.chunks = Chunks()
        self._rest = b""  # begins where a chunk does

    def write(self, piece: bytes | memoryview) -> Iterator[bytes]:
        found, self._rest = _cut(b"".join((self._rest, piece)))
        yield self._packed(found)

    def finish(self) -> Iterator[bytes]:
        yield self._packed([self._rest] if self._rest else [])
        self._rest = b""
        yield END

    def splice(self, old: Buffer, edits: Sequence[Edit], frame: Buffer, chunks: Chunks) -> Iterator[bytes | memoryview]:
        """`write` of all of `old` with its `edits`; `frame` is that of `old`, with its `chunks`."""
        view, last = memoryview(frame), len(chunks.lengths)
        steps: list[_Step] = []
        begin, at, done = 0, len(HEAD), 0  # of the chunk in `old` and in `frame`; edits up to it
        kept, kept_at = 0, at  # the first chunk that is as it was since the last that is not
        size = 0
        for number, (length, packed) in enumerate(zip(chunks.lengths, chunks.packed, strict=True), 1):
            end = begin + length
            until = bisect_left(edits, end, done, key=attrgetter("start")) if number < last else len(edits)
            if self._rest or until > done or (done and edits[done - 1].end > begin):
                content = b"".join(replaced(old, edits[max(done - 1, 0) : until], begin, end))
                found, self._rest = _cut(self._rest + content)
                steps.append(_Step(kept, number - 1, view[kept_at:at], found))
                kept, kept_at = number, at + packed
                size += len(content)
                if size >= _BATCH:
                    yield from self._carry_out(steps, chunks)
                    steps, size = [], 0
            begin, at, done = end, at + packed, until
        steps.append(_Step(kept, last, view[kept_at:at], []))
        yield from self._carry_out(steps, chunks)
        if not last:  # of nothing
            yield from self.write(b"".join(edit.by for edit in edits))

    def _carry_out(self, steps: list[_Step], chunks: Chunks) -> Iterator[bytes | memoryview]:
        packed = iter(pack([content for step in steps for content in step.changed]))
        for step in steps:
            self.chunks.extend(chunks, step.first, step.end)
            yield step.kept
            yield b"".join(self._noted(content, next(packed)) for content in step.changed)

    def _noted(self, content: Chunk, packed: bytes) -> bytes:
        self.chunks.append(len(content), len(packed))
        return packed

    def _packed(self, contents: Sequence[Chunk]) -> bytes:
        return b"".join(map(self._noted, contents, pack(contents)))


@dataclass(frozen=True, slots=True)
class _Step:
    """Chunks that are taken over, from the number `first` to before `end`, and new ones behind them."""

    first: int
    end: int
    kept: memoryview
    changed: list[memoryview]


def _cut(content: bytes) -> tuple[list[memoryview], bytes]:
    """The chunks that it begins with, and what is left until more is known."""
    if b"\0" in content:
        raise ValueError("an octet of zero in what is to be packed: expected lines of text")
    found: list[memoryview] = []
    view = memoryview(content)
    start = 0
    while True:
        end = content.find(_MARK, start + _SMALLEST, start + _LARGEST) + len(_MARK)
        if end < len(_MARK):
            end = start + _LARGEST
            if end > len(content):
                return found, content[start:]
        found.append(view[start:end])
        start = end


# -- chunks that stand alone -------------------------------------------------------------------------------------------


def pack(contents: Sequence[Chunk]) -> list[bytes]:
    """Each content as blocks that decode to it wherever in a frame they stand."""
    packed = [_blocks(_COMPRESSOR.compress(content)) for content in contents]
    start = size = 0
    for end, content in enumerate(contents, 1):
        size += len(content)
        if size >= _BATCH or end == len(contents):
            if not _alone(contents[start:end], packed[start:end]):
                for number in range(start, end):
                    if not _alone(contents[number : number + 1], packed[number : number + 1]):
                        packed[number] = _block(_RAW, len(contents[number])) + contents[number]
            start, size = end, 0
    return packed


_RAW, _RLE, _COMPRESSED = 0, 1, 2  # section 3.1.1.2.2


def _block(kind: int, size: int) -> bytes:
    """The header of a block that is not the last."""
    return (kind << 1 | size << 3).to_bytes(3, "little")


def _blocks(frame: bytes) -> bytes:
    """A frame's blocks, none of which is the last."""
    at = len(HEAD)
    while not frame[at] & 1:
        size = int.from_bytes(frame[at : at + 3], "little")
        at += 3 + (1 if size >> 1 & 3 == _RLE else size >> 3)
    return b"%b%c%b" % (frame[len(HEAD) : at], frame[at] & 0xFE, frame[at + 1 :])


_NULS: Final = 1 << 16  # more than a chunk; and no chunk has an octet of zero in it (`_cut`)
_CHECK: Final = _MAGIC + bytes([0, (22 - 10) << 3]) + _block(_RLE, _NULS) + b"\0"
_DECOMPRESSOR: Final = zstandard.ZstdDecompressor()


def _alone(contents: Sequence[Chunk], packed: list[bytes]) -> bool:
    """Whether blocks decode to their content with any offsets before them: with those in front of each that lead to
    octets of zero, from wherever in a chunk they are used."""
    parts = [_CHECK]
    places: list[int] = []
    at = _NULS
    for content, blocks in zip(contents, packed, strict=True):
        if _width(at) != _width(at + _SEQUENCES):
            filling = (1 << _width(at) + 1) - at
            parts.append(_block(_RLE, filling) + b"\0")
            at += filling
        parts += (_offsets(at), blocks)
        at += _SEQUENCES
        places.append(at)
        at += len(content)
    parts.append(END)
    try:
        decoded = _DECOMPRESSOR.decompress(b"".join(parts), max_output_size=at)
    except zstandard.ZstdError:
        return False
    return len(decoded) == at and all(map(decoded.startswith, contents, places))


_SEQUENCES: Final = 12  # bytes that `_offsets` decodes to: three times one literal and a match of three


def _width(at: int) -> int:
    """The code of an offset of `at` + 1 (section 3.1.1.3.2.1.1)."""
    return (at + 4).bit_length() - 1


def _offsets(at: int) -> bytes:
    """A block of zeroes, behind so many, that leaves three offsets which lead to the first of them (section 3.1.1.3):
    raw literals, and sequences whose codes are all the same, so that of each only the bits of its offset are written.
    """
    code = _width(at)
    bits = 1
    for number in range(3):
        offset = at + 4 * number + 1
        bits = bits << code | (offset + 3 - (1 << code))
    written = bits.to_bytes((bits.bit_length() + 7) // 8, "little")
    body = bytes([3 << 3, 0, 0, 0, 3, 0b01010100, 1, code, 0]) + written
    return _block(_COMPRESSED, len(body)) + body

"""The entries of a body: one interface to all ways of reading one.

A body is read from its differences to the last one (revise.py), as hashes in bulk (bulk.py), or chunk by chunk
(chunks.py). Each way makes the same lines, figures and notes; a property test compares them with a plain
implementation (tests/reference.py). Behind this interface nothing knows of files, digests or the sandbox.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import BinaryIO

from blocklistd.jobs.spread import Answer
from blocklistd.limits import OVERLAY_SHARE, SMALL_DIFF
from blocklistd.lines.keys import Buffer
from blocklistd.lines.overlay import Overlay
from blocklistd.model import Sha256
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions, opening
from blocklistd.sources.intake.canonical import Canonical, Reading, Room, write
from blocklistd.sources.intake.chunks import Reader, is_bulk, offsets, reader
from blocklistd.sources.intake.revise import Base, revise

ReadChunks = Callable[[int], Iterable[Answer]]
"""Reads so many chunks, perhaps in several processes, and yields the answers of ChunkWork in order."""


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a body. `asserted`: the last body's lines with `changes` lines of them changed; None where all
    lines were written."""

    canonical: Canonical
    asserted: Overlay | None = None
    changes: int = 0


def read_entries(
    body: Buffer,
    format: str,
    options: FormatOptions,
    base: Base | None,
    out: BinaryIO,
    read_chunks: ReadChunks | None = None,
) -> Entries:
    """The entries of a body. Writes their canonical lines to `out`, sorted, one for each (type, value), unless they can
    be said as changes of `base`, the last body that was read with the same settings. Raises ParseError."""
    start = opening(body, format)
    first = FORMATS[format].heading(body, start, options)
    if base is not None and first is not None:
        base_start = opening(base.body, format)
        base_first = FORMATS[format].heading(base.body, base_start, options)
        if base_first is not None and base.body[base_start:base_first] == body[start:first]:
            found = revise(base, base_first, body, first, reader(format, options, body[start:first]))
            if found is not None:
                return Entries(found.canonical, found.asserted, found.changes)
    if is_bulk(format, options):
        from blocklistd.sources.intake import bulk  # numpy is in the memory of the jobs alone

        return Entries(bulk.canonicalise(body, start, format, options, out))
    if first is None or first == len(body):
        return Entries(write(reader(format, options)(body[start:]), out))
    chunks = len(offsets(body, first)) - 1
    answers = read_chunks(chunks) if read_chunks else map(ChunkWork(lambda: body, format, options), range(chunks))
    whole, room = Reading(), Room()
    above = body[:first].count(b"\n")
    for figures, lines in answers:
        room.take(lines.count(b"\n") + 1, len(lines), len(figures["reading"]["rejects"]))
        reading = Reading(lines.decode().split("\n") if lines else [], **figures["reading"])
        reading.rejects = [(number + above, code) for number, code in reading.rejects]
        whole.add(reading)
        above += figures["newlines"]
    return Entries(write(whole, out))


class ChunkWork:
    """Reads one of the chunks of a body, by its number; perhaps in a process of its own. `locate` answers the body when
    the first chunk is asked for: by then it is verified and unpacked."""

    def __init__(self, locate: Callable[[], Buffer], format: str, options: FormatOptions) -> None:
        self._locate = locate
        self._format = format
        self._options = options

    @functools.cached_property
    def _layout(self) -> tuple[Buffer, list[int], Reader]:
        body = self._locate()
        start = opening(body, self._format)
        first = FORMATS[self._format].heading(body, start, self._options)
        assert first is not None
        return body, offsets(body, first), reader(self._format, self._options, body[start:first])

    def __call__(self, part: int) -> Answer:
        body, edges, read = self._layout
        chunk = body[edges[part] : edges[part + 1]]
        reading = read(chunk)
        reading.lines.sort()
        lines, reading.lines = reading.lines, []
        rest = {name: value for name, value in asdict(reading).items() if name != "lines"}
        return {"reading": rest, "newlines": chunk.count(b"\n")}, "\n".join(lines).encode()


class Left(enum.StrEnum):
    """Which file says what the body asserts."""

    SAME = "same"
    OVERLAY = "overlay"
    CANONICAL = "canonical"


def leave(found: Entries, base: Sha256, changed: BinaryIO, out: BinaryIO) -> Left:
    """Writes entries that were found as changes of the file `base`: to `changed` as an overlay of it, or all lines to
    `out` where the overlay has become too large."""
    assert found.asserted is not None
    if not found.changes:
        return Left.SAME
    if len(found.asserted) <= found.canonical.entries // OVERLAY_SHARE + SMALL_DIFF:
        changed.writelines(found.asserted.write(base))
        return Left.OVERLAY
    out.writelines(found.asserted.pieces())
    return Left.CANONICAL

"""Reads the entries of a body, in the fastest of several ways.

The ways: only the lines that differ from the last body (incremental.py), hashes in bulk (bulk.py), or chunk by chunk
(chunks.py). Each way makes the same lines, figures and notes; a property test compares them with a plain
implementation (tests/reference.py). The ways know nothing of files, digests and the sandbox.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import BinaryIO, NamedTuple

from blocklistd.jobs.spread import Answer
from blocklistd.limits import PATCH_SHARE, SMALL_DIFF
from blocklistd.lines.keys import Buffer
from blocklistd.lines.patched import PatchedLines
from blocklistd.model import Sha256
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions, list_start
from blocklistd.sources.intake.canonical import Canonical, MemoryBudget, Reading, write
from blocklistd.sources.intake.chunks import Reader, is_bulk, offsets, reader
from blocklistd.sources.intake.incremental import Base, update_entries

ReadChunks = Callable[[int], Iterable[Answer]]
"""A function of the number of chunks. Yields the result of ChunkWork for each chunk, in order; several processes may
compute the results."""


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a body.

    `asserted`: the entries as a patch; None if all canonical lines were written. `changes`: how many canonical lines
    were removed and added since the last body.
    """

    canonical: Canonical
    asserted: PatchedLines | None = None
    changes: int = 0


def read_entries(
    body: Buffer,
    format: str,
    options: FormatOptions,
    base: Base | None,
    out: BinaryIO,
    read_chunks: ReadChunks | None = None,
) -> Entries:
    """Read the entries of a body.

    `base`: the last body that was read with the same settings, if there is one. If the differences to it are few, the
    entries are returned as a patch (`Entries.asserted`). Otherwise their canonical lines are written to `out`, sorted,
    one for each (type, value). Raises ParseError.
    """
    start = first_line(body, format)
    first = FORMATS[format].first_independent_line(body, start, options)
    if base is not None and first is not None:
        base_start = first_line(base.body, format)
        base_first = FORMATS[format].first_independent_line(base.body, base_start, options)
        if base_first is not None and base.body[base_start:base_first] == body[start:first]:
            found = update_entries(base, base_first, body, first, reader(format, options, body[start:first]))
            if found is not None:
                return Entries(found.canonical, found.asserted, found.changes)
    if is_bulk(format, options):
        from blocklistd.sources.intake import bulk  # here, so that the daemon does not load numpy

        return Entries(bulk.canonicalise(body, start, format, options, out))
    if first is None or first == len(body):
        return Entries(write(reader(format, options)(body[start:]), out))
    chunks = len(offsets(body, first)) - 1
    answers = read_chunks(chunks) if read_chunks else map(ChunkWork(lambda: body, format, options), range(chunks))
    total, budget = Reading(), MemoryBudget()
    lines_above = body[:first].count(b"\n")
    for figures, lines in answers:
        budget.take(lines.count(b"\n") + 1, len(lines), len(figures["reading"]["rejects"]))
        reading = Reading(lines.decode().split("\n") if lines else [], **figures["reading"])
        reading.rejects = [(number + lines_above, code) for number, code in reading.rejects]
        total.add(reading)
        lines_above += figures["newlines"]
    return Entries(write(total, out))


def first_line(body: Buffer, format: str) -> int:
    """The offset of the first line of a list. It is 0 for lines that `Format.to_lines` wrote, which may begin with
    any text. Raises ParseError, as `list_start`."""
    return 0 if FORMATS[format].to_lines is not None else list_start(body, format)


class _Layout(NamedTuple):
    """A body, the offsets of its chunks, and the function that reads a chunk."""

    body: Buffer
    offsets: list[int]
    read: Reader


class ChunkWork:
    """Reads a chunk of a body, by its number; perhaps in a process of its own.

    The instance is made, and forked, before the body is verified. `locate` returns the body; it is called for the first
    chunk, when the body is verified and unpacked.
    """

    def __init__(self, locate: Callable[[], Buffer], format: str, options: FormatOptions) -> None:
        self._locate = locate
        self._format = format
        self._options = options

    @functools.cached_property
    def _layout(self) -> _Layout:
        body = self._locate()
        start = first_line(body, self._format)
        first = FORMATS[self._format].first_independent_line(body, start, self._options)
        assert first is not None
        return _Layout(body, offsets(body, first), reader(self._format, self._options, body[start:first]))

    def __call__(self, part: int) -> Answer:
        """The reading of chunk `part` without its lines, the number of newlines in the chunk, and the sorted lines."""
        layout = self._layout
        chunk = layout.body[layout.offsets[part] : layout.offsets[part + 1]]
        reading = layout.read(chunk)
        reading.lines.sort()
        lines, reading.lines = reading.lines, []
        rest = {name: value for name, value in asdict(reading).items() if name != "lines"}
        return {"reading": rest, "newlines": chunk.count(b"\n")}, "\n".join(lines).encode()


class ResultForm(enum.StrEnum):
    """How the entries of a body are written."""

    SAME = "same"
    """They are not written, since they are those of the last body."""
    PATCH = "patch"
    """As a patch."""
    CANONICAL = "canonical"
    """As all canonical lines."""


def write_result(found: Entries, base: Sha256, changed: BinaryIO, out: BinaryIO) -> ResultForm:
    """Write entries that have `asserted`: to `changed` as a patch, or all lines to `out` if the patch is too large.
    `base`: the digest of the patch's base file."""
    assert found.asserted is not None
    if not found.changes:
        return ResultForm.SAME
    if len(found.asserted) <= found.canonical.entries // PATCH_SHARE + SMALL_DIFF:
        changed.writelines(found.asserted.write(base))
        return ResultForm.PATCH
    out.writelines(found.asserted.chunks())
    return ResultForm.CANONICAL

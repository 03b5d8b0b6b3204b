"""The job that reads a hotline's bytes: decode, verify, parse, canonicalise. Bytes in, one canonical file and a report.

It runs alone in its process, opens its files, enters the sandbox, and only then touches the body. It has no database,
no keys and no network; the worst that a body can do is to fail its own pull.
"""

from __future__ import annotations

import enum
import functools
import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from blocklistd.errors import ParseError, store_errors
from blocklistd.jobs.sandbox import enter_filter
from blocklistd.jobs.spread import Answer, processes, spread
from blocklistd.limits import DECOMPRESSED_FACTOR, MAX_NOTES, OVERLAY_SHARE, SMALL_DIFF
from blocklistd.lines.keys import Buffer
from blocklistd.lines.overlay import Overlay
from blocklistd.model import Sha256
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions, opening
from blocklistd.sources.intake.canonical import Canonical, Notes, Reading, together, write
from blocklistd.sources.intake.prove import Origin, candidates, load, proven
from blocklistd.sources.intake.revise import Base, Revised, revise
from blocklistd.sources.intake.stretches import STRETCH, Reader, cuts, is_bulk, reader
from blocklistd.sources.proofs.proof import Proven


@dataclass(frozen=True, slots=True)
class Earlier:
    """The last body of the same source that was read with the same settings: its list, unpacked, and what is to be
    noted of it (canonical.Notes), as files; what it asserted, as a file, its digest, and an overlay of it; the counts
    of its report."""

    listed: Path
    notes: Path
    base: Path
    base_digest: Sha256
    overlay: Path | None
    records: int
    types: dict[str, int]
    dropped_attributes: int


@dataclass(frozen=True, slots=True)
class Order:
    """What to do with a body. Paths are the job's own; `work` is a folder that is removed after it.

    `origin` is how the body proves its origin, or what the process of its proof has found. `may_be_empty`: a body
    without a record is a list with nothing in it, and not a failure, because every list that uses it says
    `min_entries: 0`.
    """

    body: Path
    work: Path
    encoding: str
    origin: Origin | Proven
    format: str
    fields: dict[str, str]
    defaults: dict[str, str]
    max_bytes: int
    may_be_empty: bool
    earlier: Earlier | None = None

    @property
    def canonical(self) -> Path:
        """Where the job leaves the sorted canonical lines, if it leaves them all."""
        return self.work / "canonical"

    @property
    def overlay(self) -> Path:
        """Where the job leaves them as an overlay of the earlier ones, if these are few changes."""
        return self.work / "overlay"

    @property
    def notes(self) -> Path:
        """Where the job leaves what is to be noted of the body; empty where there is too much to note."""
        return self.work / "notes"

    @property
    def candidates(self) -> tuple[Path, Path, Path, Path]:
        """Where the list can be."""
        return candidates(self.body, self.work)


class Left(enum.StrEnum):
    """Which file says what the body asserts."""

    SAME = "same"
    OVERLAY = "overlay"
    CANONICAL = "canonical"


@dataclass(frozen=True, slots=True)
class Findings:
    """What the job answers: the fields of an IntakeReport that it can know, which of `Order.candidates` is the list,
    and where what it asserts was left: nowhere, where that is what the earlier one did."""

    listed: int
    left: Left
    length: int
    records: int
    types: dict[str, int]
    rejected: dict[str, int]
    first_rejected: dict[str, int]
    dropped_attributes: int
    signature: Sha256 | None
    signed_at: int | None


def intake(order: Order) -> dict[str, Any]:
    """The job; the fields of Findings. Raises VerifyError, StaleError or ParseError."""
    options = FormatOptions(order.fields, order.defaults)
    load(order.origin)
    with store_errors(order.work), ExitStack() as stack:
        files: list[BinaryIO] = [stack.enter_context(open(order.body, "rb"))]
        files += [stack.enter_context(open(path, "x+b")) for path in order.candidates[1:]]
        out, changed, notes = (
            stack.enter_context(open(path, "xb")) for path in (order.canonical, order.overlay, order.notes)
        )
        earlier = _opened(order.earlier, stack)
        several = processes() if files[0].seek(0, os.SEEK_END) > STRETCH else 1  # now: the filter lets none be made
        read_stretches = stack.enter_context(spread(_Stretches(files, order.format, options), several, enter_filter))
        enter_filter()
        listed, found = proven(files, order.encoding, order.max_bytes * DECOMPRESSED_FACTOR, order.origin)
        body = _mapped(listed)
        if not body and not order.may_be_empty:
            raise ParseError(f"an empty body: expected a list in the format {order.format}")
        opening(body, order.format)
        left = Left.CANONICAL
        revised = _revised(earlier, body, order.format, options)
        if revised is None:
            made = _canonical(body, order.format, options, read_stretches, out)
        else:
            made = revised.canonical
            left = _leave(revised, order, changed, out)
        noted = made.notes.to_bytes()
        if len(noted) <= MAX_NOTES:
            notes.write(noted)
    if made.records and not made.entries:
        raise ParseError(
            f"none of {made.records} records could be read as {order.format}"
            f" ({_most(made.rejected)}): is the URL right, and the format?"
        )
    return asdict(
        Findings(
            listed=files.index(listed),
            left=left,
            length=len(body),
            records=made.records,
            types=dict(made.types),
            rejected=dict(made.rejected),
            first_rejected=made.first_rejected,
            dropped_attributes=made.dropped_attributes,
            signature=found.signature,
            signed_at=found.signed_at,
        )
    )


def _mapped(file: BinaryIO) -> Buffer:
    size = file.seek(0, os.SEEK_END)
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""


# -- what it asserts ---------------------------------------------------------------------------------------------------


def _opened(earlier: Earlier | None, stack: ExitStack) -> tuple[Earlier, list[Buffer]] | None:
    """The files of the last body; None where one is gone."""
    if earlier is None:
        return None
    paths = [earlier.listed, earlier.notes, earlier.base]
    paths += [earlier.overlay] if earlier.overlay is not None else []
    if not all(path.exists() for path in paths):
        return None
    return earlier, [_mapped(stack.enter_context(open(path, "rb"))) for path in paths]


def _revised(
    opened: tuple[Earlier, list[Buffer]] | None, body: Buffer, format: str, options: FormatOptions
) -> Revised | None:
    """What follows from the differences to the last body; None where all of this one has to be read."""
    if opened is None:
        return None
    earlier, (listed, notes, asserted, *overlay) = opened
    before, now = opening(listed, format), opening(body, format)
    first_before, first = FORMATS[format].heading(listed, before), FORMATS[format].heading(body, now)
    if first_before is None or first is None or listed[before:first_before] != body[now:first]:
        return None
    base = Base(
        body=listed,
        start=first_before,
        asserted=Overlay.read(asserted, overlay[0][:]) if overlay else Overlay(asserted),
        notes=Notes.from_bytes(notes[:]),
        records=earlier.records,
        types=Counter(earlier.types),
        dropped_attributes=earlier.dropped_attributes,
    )
    return revise(base, body, first, reader(format, options, body[now:first]))


def _leave(revised: Revised, order: Order, changed: BinaryIO, out: BinaryIO) -> Left:
    """Writes what the body asserts: in as few bytes as there are changes, until an overlay has become too large."""
    assert order.earlier is not None
    if not revised.changes:
        return Left.SAME
    if len(revised.asserted) <= revised.canonical.entries // OVERLAY_SHARE + SMALL_DIFF:
        changed.writelines(revised.asserted.write(order.earlier.base_digest))
        return Left.OVERLAY
    out.writelines(revised.asserted.pieces())
    return Left.CANONICAL


def _canonical(
    body: Buffer,
    format: str,
    options: FormatOptions,
    read_stretches: Callable[[int], Iterator[Answer]],
    out: BinaryIO,
) -> Canonical:
    """Reads all of the body."""
    if is_bulk(format, options):
        from blocklistd.sources.intake import bulk

        return bulk.canonicalise(body, opening(body, format), format, options, out)
    start = opening(body, format)
    first = FORMATS[format].heading(body, start)
    if first is None:
        return write(reader(format, options)(body[start:]), out)
    stretches = len(cuts(body, first)) - 1
    if not stretches:
        return write(reader(format, options, body[start:first])(b""), out)
    found: list[Reading] = []
    above = body[:first].count(b"\n")
    for figures, lines in read_stretches(stretches):
        reading = Reading(lines.decode().split("\n") if lines else [], **figures["reading"])
        reading.rejects = [(number + above, code) for number, code in reading.rejects]
        found.append(reading)
        above += figures["newlines"]
    return write(together(found), out)


class _Stretches:
    """Reads one of the stretches of the list, by its number; perhaps in a process of its own. The list is looked for
    when the first is asked for: by then it is unpacked."""

    def __init__(self, files: list[BinaryIO], format: str, options: FormatOptions) -> None:
        self._files = files
        self._format = format
        self._options = options

    @functools.cached_property
    def _layout(self) -> tuple[Buffer, list[int], Reader]:
        body = next(body for file in reversed(self._files) if (body := _mapped(file)))
        start = opening(body, self._format)
        first = FORMATS[self._format].heading(body, start)
        assert first is not None
        return body, cuts(body, first), reader(self._format, self._options, body[start:first])

    def __call__(self, part: int) -> Answer:
        body, edges, read = self._layout
        stretch = body[edges[part] : edges[part + 1]]
        reading = read(stretch)
        reading.lines.sort()
        lines, reading.lines = reading.lines, []
        rest = {name: value for name, value in asdict(reading).items() if name != "lines"}
        return {"reading": rest, "newlines": stretch.count(b"\n")}, "\n".join(lines).encode()


def _most(rejected: dict[str, int]) -> str:
    return ", ".join(f"{code}: {count}" for code, count in sorted(rejected.items(), key=lambda item: -item[1])[:3])

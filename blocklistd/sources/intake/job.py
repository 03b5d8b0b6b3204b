"""The job that reads a hotline's bytes: decode, verify, parse, canonicalise. Bytes in, one canonical file and a report.

It runs alone in its process, opens its files, enters the sandbox, and only then touches the body. It has no database,
no keys and no network; the worst that a body can do is to fail its own pull.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from blocklistd.errors import ParseError, store_errors
from blocklistd.jobs.sandbox import enter_filter
from blocklistd.jobs.spread import processes, spread
from blocklistd.limits import DECOMPRESSED_FACTOR
from blocklistd.lines.keys import Buffer
from blocklistd.lines.overlay import Overlay
from blocklistd.model import Sha256
from blocklistd.sources.formats.records import FormatOptions, opening
from blocklistd.sources.intake.canonical import Notes
from blocklistd.sources.intake.chunks import CHUNK
from blocklistd.sources.intake.entries import ChunkWork, Left, leave, read_entries
from blocklistd.sources.intake.prove import Origin, candidates, load, proven
from blocklistd.sources.intake.recognise import recognised
from blocklistd.sources.intake.revise import Base
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
    `min_entries: 0`. `options` are more of FormatOptions, by their names.
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
    options: dict[str, Any] = field(default_factory=dict)

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
    options = FormatOptions(order.fields, order.defaults, **order.options)
    load(order.origin)
    with store_errors(order.work), ExitStack() as stack:
        files: list[BinaryIO] = [stack.enter_context(open(order.body, "rb"))]
        files += [stack.enter_context(open(path, "x+b")) for path in order.candidates[1:]]
        out, changed, notes = (
            stack.enter_context(open(path, "xb")) for path in (order.canonical, order.overlay, order.notes)
        )
        earlier = _opened(order.earlier, stack)
        several = processes() if files[0].seek(0, os.SEEK_END) > CHUNK else 1  # now: the filter lets none be made
        work = ChunkWork(lambda: _list_of(files), order.format, options)
        read_chunks = stack.enter_context(spread(work, several, enter_filter))
        enter_filter()
        listed, proof = proven(files, order.encoding, order.max_bytes * DECOMPRESSED_FACTOR, order.origin)
        body = _mapped(listed)
        if not body and not order.may_be_empty:
            raise ParseError(f"an empty body: expected a list in the format {order.format}")
        start = opening(body, order.format)
        found = read_entries(body, order.format, options, _base(earlier), out, read_chunks)
        made, left = found.canonical, Left.CANONICAL
        if found.asserted is not None:
            assert order.earlier is not None
            left = leave(found, order.earlier.base_digest, changed, out)
        notes.write(made.notes.to_bytes())
        if not made.records and not order.may_be_empty:
            raise ParseError(f"no record in it: expected a list in the format {order.format}")
        if made.records and not made.entries:
            hint = recognised(body, start, order.format, options)
            raise ParseError(
                f"none of {made.records} records could be read as {order.format} ({_most(made.rejected)}): {hint}"
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
            signature=proof.signature,
            signed_at=proof.signed_at,
        )
    )


def _list_of(files: list[BinaryIO]) -> Buffer:
    """The list, once it is unpacked: the last file that has any bytes."""
    return next(body for file in reversed(files) if (body := _mapped(file)))


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


def _base(opened: tuple[Earlier, list[Buffer]] | None) -> Base | None:
    """The last body and what it asserted. Raises ValueError for files that are damaged."""
    if opened is None:
        return None
    earlier, (listed, notes, asserted, *overlay) = opened
    return Base(
        body=listed,
        asserted=Overlay.read(asserted, overlay[0][:]) if overlay else Overlay(asserted),
        notes=Notes.from_bytes(notes[:]),
        records=earlier.records,
        types=Counter(earlier.types),
        dropped_attributes=earlier.dropped_attributes,
    )


def _most(rejected: dict[str, int]) -> str:
    return ", ".join(f"{code}: {count}" for code, count in sorted(rejected.items(), key=lambda item: -item[1])[:3])

"""The job that checks the files of the intake job, in a sandbox of its own, after the intake job has ended.

A hostile body may have taken over the intake job, which can then write anything. After this check the files are valid:
canonical lines in order, ids only if the format has them, a patch that fits the entries that the source asserted
before, notes that can be read.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

from blocklistd.jobs.sandbox import enter_filter
from blocklistd.jobs.spread import Answer, processes, spread
from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.patched import PatchedLines, base_of
from blocklistd.lines.snapshot import blocks
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.intake.canonical import Notes
from blocklistd.sources.intake.chunks import CHUNK
from blocklistd.sources.intake.entries import ResultForm
from blocklistd.sources.intake.findings import REJECTS
from blocklistd.sources.intake.form import check_line, check_neighbours, count, has_ids
from blocklistd.sources.intake.job import Findings, IntakeRequest


def check(request: IntakeRequest, findings: Findings) -> dict[str, Any]:
    """The job `check`. Returns `{"fits": bool}`: whether the files are valid, and contain as many entries of each type
    and rejects for each reason as `findings` reports."""
    may_have_ids = FORMATS[request.format].has_ids
    with ExitStack() as stack:

        def opened(path: Path) -> Buffer:
            file = stack.enter_context(open(path, "rb"))
            size = file.seek(0, os.SEEK_END)
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""

        notes, lines, written = (opened(path) for path in (request.notes, request.canonical, request.patch))
        parts = blocks(lines, CHUNK)
        if findings.result_form == ResultForm.CANONICAL:

            def work(number: int) -> Answer:
                return _block(lines[parts[number] : parts[number + 1]], may_have_ids)

            answers = stack.enter_context(spread(work, min(processes(), len(parts) - 1), enter_filter))
            enter_filter()
            types = _counts_if_valid(lambda: None if written else _canonical(answers(len(parts) - 1)))
        else:
            earlier = request.earlier
            assert earlier is not None
            base = opened(earlier.base)
            last_written = opened(earlier.patch)[:] if earlier.patch is not None else None
            enter_filter()
            before = PatchedLines(base) if last_written is None else PatchedLines.read(base, last_written)
            known = Counter(earlier.types)
            digest = earlier.base_digest

            def counted() -> Counter[str] | None:
                if lines or (written and findings.result_form == ResultForm.SAME):
                    return None
                if not may_have_ids and has_ids(written[:]):
                    return None
                return known if findings.result_form == ResultForm.SAME else _changed(before, written[:], digest, known)

            types = _counts_if_valid(counted)
        fits = types == findings.types and _counts_if_valid(lambda: _check_notes(notes[:], findings)) is not None
        return {"fits": fits}


def _counts_if_valid(count_lines: Callable[[], Counter[str] | None]) -> Counter[str] | None:
    """The counts, or None if the file is not valid."""
    try:
        return count_lines()
    except (ValueError, TypeError, RecursionError):
        return None


def _block(block: bytes, may_have_ids: bool) -> Answer:
    """For one block: the number of entries by type (None if it is not valid), and its first and last line."""
    types = _counts_if_valid(lambda: count(block)) if may_have_ids or not has_ids(block) else None
    last = block.rfind(b"\n", 0, -1) + 1
    return {"types": types}, block[: block.find(b"\n") + 1] + block[last:-1]


def _canonical(answers: Iterable[Answer]) -> Counter[str]:
    """The entries by type of all blocks, from the answers of `_block`. Raises ValueError if a block is not valid, or
    does not follow the block before."""
    total: Counter[str] = Counter()
    ends: list[tuple[bytes, bytes]] = []
    for figures, data in answers:
        if figures["types"] is None:
            raise ValueError("a block has lines that are not canonical")
        total.update(figures["types"])
        first, _, last = data.partition(b"\n")
        ends.append((first, last))
    for (_, before), (after, _) in pairwise(ends):
        check_neighbours(before, after)
    return total


def _changed(before: PatchedLines, written: bytes, base: str, known: Counter[str]) -> Counter[str]:
    """The entries by type after the patch `written` replaced the patch `before`. `known`: the entries by type before.

    Raises ValueError if the new patch does not fit the same base, or is not written as PatchedLines writes it.
    """
    after = PatchedLines.read(before.base, written)
    if base_of(written) != base or b"".join(after.write(base)) != written:
        raise ValueError("another base, or another way to write it")
    before.check(after)
    old_lines, new_lines = set(before.adds.values()), set(after.adds.values())
    added, removed = new_lines - old_lines, old_lines - new_lines
    types = known + count(b"".join(line + b"\n" for line in sorted(added)))
    types.update(_types(before.removes - after.removes))
    types.subtract(_types((after.removes - before.removes) | removed))
    return +types


def _types(lines: Iterable[bytes]) -> Counter[str]:
    """Count lines, which were checked before, by type."""
    return Counter(type_and_value(line)[0].decode() for line in lines)


def _check_notes(written: bytes, findings: Findings) -> Counter[str]:
    """The rejects by reason in the notes. Raises ValueError if they differ from those of the findings, or the notes are
    not valid."""
    if not written:
        return Counter()  # the notes were too large
    notes = Notes.from_bytes(written)
    if notes.to_bytes() != written or not all(isinstance(number, int) and number > 0 for number, _ in notes.rejects):
        raise ValueError("notes that are written in another way")
    for line in set(notes.multiples or ()):  # None is impossible here: such notes are written as an empty file
        check_line(line.encode())
    codes = Counter(code for _, code in notes.rejects)
    if codes != findings.rejected or not codes.keys() <= REJECTS:
        raise ValueError("other rejects than were counted")
    return codes

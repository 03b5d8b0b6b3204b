"""The intake job: decodes, verifies, parses and canonicalises a body. Makes a canonical file, or a patch, and figures.

It runs in a process of its own, without database, secret keys and network. The worst that a body can do is to fail its
own pull. Order of steps: open all files; fork the processes that read chunks; enter the sandbox; verify the body; parse
it.

Files in the folder `work`, none of which may exist before the job:

    decoded, plain, content, unpacked   where the list may be after decoding and verifying (`list_files`)
    lines                        the list as lines, if it has no lines of its own (`Format.to_lines`)
    canonical, patch             the entries, in one of the two (`ResultForm`); the other stays empty
    notes                        facts for the next pull (`canonical.Notes`)
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
from blocklistd.lines.patched import PatchedLines
from blocklistd.model import Sha256
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.dates import load_zone
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.sources.intake.canonical import Notes
from blocklistd.sources.intake.chunks import CHUNK
from blocklistd.sources.intake.entries import ChunkWork, ResultForm, first_line, read_entries, write_result
from blocklistd.sources.intake.incremental import Base
from blocklistd.sources.intake.prove import ListFiles, Origin, list_files, load, prove_and_unpack
from blocklistd.sources.intake.recognise import recognised
from blocklistd.sources.proofs.proof import Proven


@dataclass(frozen=True, slots=True)
class EarlierBody:
    """The last body of the same source, if it was read with the same settings. The figures are those of its report."""

    listed: Path
    """The list, unpacked."""
    notes: Path
    """The notes of that body (canonical.Notes)."""
    base: Path
    """A file of canonical lines: the entries of that body, or the base of `patch`."""
    base_digest: Sha256
    patch: Path | None
    """The patch of `base` that makes the entries of that body; None if there is none."""
    records: int
    types: dict[str, int]
    dropped_attributes: int


@dataclass(frozen=True, slots=True)
class IntakeRequest:
    """A request to read a body.

    `body`: the body as it arrived. `work`: the folder for the job's files, which is removed after the pull. `encoding`:
    the content coding. `origin`: how to verify the body, or the result if another process has verified it. `fields`,
    `defaults` and `options`: the fields of FormatOptions. `max_bytes`: the limit of the source; the decoded body may
    have DECOMPRESSED_FACTOR times as many. `may_be_empty`: whether a body without records is an empty list and no
    failure, because each list of the source has `min_entries: 0`. `earlier`: the last body, if only its changes are to
    be read. `continues`: the body is only what came after the last one; `earlier` is then needed.
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
    earlier: EarlierBody | None = None
    options: dict[str, Any] = field(default_factory=dict)
    continues: bool = False

    @property
    def canonical(self) -> Path:
        """The file for all canonical lines, sorted; empty if the job writes a patch."""
        return self.work / "canonical"

    @property
    def patch(self) -> Path:
        """The file for a patch of `earlier.base`; empty if the job writes all lines, or nothing changed."""
        return self.work / "patch"

    @property
    def notes(self) -> Path:
        """The file for the notes of the body (canonical.Notes); empty if they are too large."""
        return self.work / "notes"

    @property
    def list_files(self) -> ListFiles:
        """The files that may contain the list."""
        return list_files(self.body, self.work)


@dataclass(frozen=True, slots=True)
class Findings:
    """The result of the job, from which the daemon makes the IntakeReport.

    `listed`: the index in `IntakeRequest.list_files` of the file with the list. `result_form`: how the entries were
    written. `length`: the bytes of the list. `proven`: the result of verifying the body.
    """

    listed: int
    result_form: ResultForm
    length: int
    records: int
    types: dict[str, int]
    rejected: dict[str, int]
    first_rejected: dict[str, int]
    dropped_attributes: int
    proven: Proven


def intake(request: IntakeRequest) -> dict[str, Any]:
    """The job `intake`. Returns the fields of Findings. Raises VerifyError, StaleError, ParseError, StoreError."""
    options = FormatOptions(request.fields, request.defaults, **request.options)
    load(request.origin)
    load_zone(options.timezone)
    with store_errors(request.work), ExitStack() as stack:
        files: list[BinaryIO] = [stack.enter_context(open(request.body, "rb"))]
        files += [stack.enter_context(open(path, "x+b")) for path in request.list_files[1:]]
        out, changed, notes = (
            stack.enter_context(open(path, "xb")) for path in (request.canonical, request.patch, request.notes)
        )
        earlier = _opened(request.earlier, stack)
        last_list = _last_list(earlier) if request.continues else None
        several = processes() if files[0].seek(0, os.SEEK_END) > CHUNK else 1
        work = ChunkWork(lambda: _list_of(files), request.format, options)
        read_chunks = stack.enter_context(spread(work, several, enter_filter))  # before the filter, which forbids fork
        enter_filter()
        listed, proof = prove_and_unpack(
            files, request.encoding, request.max_bytes * DECOMPRESSED_FACTOR, request.origin, last_list
        )
        body = _mapped(listed)
        if not body and not request.may_be_empty:
            raise ParseError(
                f"an empty body: expected a list in the format {request.format}; "
                "if it may be empty, set `min_entries: 0`"
            )
        if (to_lines := FORMATS[request.format].to_lines) is not None:
            listed = files[-1]
            to_lines(body, last_list, options, listed)
            listed.flush()
            body = _mapped(listed)
        start = first_line(body, request.format)
        found = read_entries(body, request.format, options, _base(earlier), out, read_chunks)
        made, form = found.canonical, ResultForm.CANONICAL
        if found.asserted is not None:
            assert request.earlier is not None
            form = write_result(found, request.earlier.base_digest, changed, out)
        notes.write(made.notes.to_bytes())
        if not made.records and not request.may_be_empty:
            raise ParseError(
                f"no record in it: expected a list in the format {request.format},"
                " check `options.records` and `options.where` if they are set;"
                " if it may be empty, set `min_entries: 0`"
            )
        if made.records and not made.entries:
            most = max(made.rejected, key=made.rejected.__getitem__)
            next_step = recognised(body, start, request.format, options, most)
            reasons = _most_frequent(made.rejected)
            raise ParseError(
                f"none of {made.records} records could be read as {request.format} ({reasons}): {next_step}"
            )
    return asdict(
        Findings(
            listed=files.index(listed),
            result_form=form,
            length=len(body),
            records=made.records,
            types=dict(made.types),
            rejected=dict(made.rejected),
            first_rejected=made.first_rejected,
            dropped_attributes=made.dropped_attributes,
            proven=proof,
        )
    )


def _list_of(files: list[BinaryIO]) -> Buffer:
    """The list, after it was unpacked: the last of the files that is not empty."""
    return next(body for file in reversed(files) if (body := _mapped(file)))


def _mapped(file: BinaryIO) -> Buffer:
    size = file.seek(0, os.SEEK_END)
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""


# -- the last body -----------------------------------------------------------------------------------------------------


def _opened(earlier: EarlierBody | None, stack: ExitStack) -> tuple[EarlierBody, list[Buffer]] | None:
    """The last body and its mapped files: `listed`, `notes`, `base`, and `patch` if there is one. None if a file is
    missing."""
    if earlier is None:
        return None
    paths = [earlier.listed, earlier.notes, earlier.base]
    paths += [earlier.patch] if earlier.patch is not None else []
    if not all(path.exists() for path in paths):
        return None
    return earlier, [_mapped(stack.enter_context(open(path, "rb"))) for path in paths]


def _last_list(opened: tuple[EarlierBody, list[Buffer]] | None) -> Buffer:
    """The list of the last body, which the new body continues. Raises ParseError if it is missing."""
    if opened is None:
        raise ParseError("the last body, which this one continues, is missing: pull again")
    return opened[1][0]


def _base(opened: tuple[EarlierBody, list[Buffer]] | None) -> Base | None:
    """The last body and its entries, for incremental reading. Raises ValueError for damaged files."""
    if opened is None:
        return None
    earlier, (listed, notes, asserted, *patch) = opened
    return Base(
        body=listed,
        asserted=PatchedLines.read(asserted, patch[0][:]) if patch else PatchedLines(asserted),
        notes=Notes.from_bytes(notes[:]),
        records=earlier.records,
        types=Counter(earlier.types),
        dropped_attributes=earlier.dropped_attributes,
    )


def _most_frequent(rejected: dict[str, int]) -> str:
    """The three most frequent reasons with their counts, as text."""
    return ", ".join(f"{code}: {count}" for code, count in sorted(rejected.items(), key=lambda item: -item[1])[:3])

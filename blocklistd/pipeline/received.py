"""A body that was verified and read in the work folder of a pull: its report, and its sealed entries.

A work folder is made for one pull, and removed after it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from blocklistd.errors import ParseError, StoreError
from blocklistd.model import Fetched, IntakeReport, Sha256
from blocklistd.sources.intake.entries import ResultForm
from blocklistd.sources.intake.job import Findings, IntakeRequest
from blocklistd.sources.proofs.proof import bounded_expiry
from blocklistd.store import asserted
from blocklistd.store.files import SealedFiles
from blocklistd.store.pulls import SourceState
from blocklistd.store.store import Store
from blocklistd.times import rfc3339


@dataclass(frozen=True, slots=True)
class Received:
    """A body that was verified and read: the request to the job, with the files that the job wrote, and its findings.
    `state`: the state of the source before this pull."""

    body: Fetched
    request: IntakeRequest
    findings: Findings
    state: SourceState


@contextmanager
def work_folder(store: Store) -> Iterator[Path]:
    """Make a folder for one pull, and remove it after the block. Raises StoreError."""
    folder = store.work / secrets.token_hex(8)
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise StoreError(
            f"{folder.parent}: {error.strerror}: no work can start there; check the space and the permissions"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def figures_of(findings: Findings) -> dict[str, Any]:
    """The figures of a body, by their names in IntakeReport."""
    return {
        "length": findings.length,
        "records": findings.records,
        "types": findings.types,
        "rejected": findings.rejected,
        "first_rejected": findings.first_rejected,
        "dropped_attributes": findings.dropped_attributes,
    }


def report_of(received: Received, asserted: Sha256, now: datetime) -> IntakeReport:
    """The report on a body. `asserted`: the digest of its sealed entries."""
    findings, before = received.findings, received.state.report
    proven = findings.proven
    return IntakeReport(
        body_sha256=received.body.sha256,
        asserted=asserted,
        **figures_of(findings),
        signature=proven.signature,
        signed_at=proven.signed_at,
        key=proven.key if proven.is_signed else before.key if before else None,
        sequence=proven.sequence,
        expires=bounded_expiry(proven, now),
        since=before.since if before and before.since and before.asserted == asserted else rfc3339(now),
    )


def seal(received: Received, files: SealedFiles) -> Sha256:
    """Seal, in `files`, the entries that a body asserts. Returns their digest. Raises StoreError, and ParseError if the
    job's files do not fit."""
    findings, request = received.findings, received.request
    before = received.state.offered
    if findings.result_form == ResultForm.CANONICAL:
        digest = asserted.adopt(files, request.canonical)
        if before is None or request.earlier is not None:
            return digest
        with suppress(StoreError, ValueError):  # the body was read completely: its entries may still be the same
            if asserted.lines_digest(files, before) == digest:
                return before
        return digest
    if request.earlier is None or before is None:
        raise ParseError("the intake job answered with changes of nothing: the pull is not used")
    if findings.result_form == ResultForm.PATCH:
        return asserted.adopt(files, request.patch, before)
    return before

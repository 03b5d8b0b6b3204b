"""Keeps the bodies of a pull as evidence, after the pull: nothing waits for it, and its errors fail no pull.

A body passes through these states in `Arrivals`:

    arrived → refused     its proof or its content is not valid: `refuse`
    arrived → accepted    its entries are the source's offer: `accept`
    arrived               the pull ended before either, for a reason of this machine: the body is not kept

Order of calls in a pull: `add` for each fetched body, then `refuse` or `accept` for that body; at the end
`EvidenceKeeper.keep`, or `Arrivals.close`. An arrival has its file open: the pull renames the file, and removes the
folder.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO, Final

from blocklistd.errors import safe_message, store_errors
from blocklistd.events import Event
from blocklistd.jobs.sandbox import LATER, lower_priority
from blocklistd.model import CandidateId, Fetched, IntakeReport, ListId, Outcome, Version
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.store import evidence
from blocklistd.store.evidence_record import EvidenceRecord, Verdict

log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Arrival:
    """An open body, and its record; None while it is neither refused nor accepted."""

    body: Fetched
    content: BinaryIO
    record: EvidenceRecord | None = None


@dataclass(frozen=True, slots=True)
class PullEnd:
    """How a pull ended, for the records of its bodies."""

    outcome: Outcome
    reason: str | None
    candidate: CandidateId | None
    versions: dict[ListId, Version]


class Arrivals:
    """The bodies that arrive in one pull of a source. `began`: when the pull began, which is the time of its bodies."""

    def __init__(self, plan: SourcePlan, began: datetime) -> None:
        self.plan = plan
        self._began = began
        self._all: list[_Arrival] = []

    async def add(self, body: Fetched) -> None:
        """Adds a fetched body. Raises StoreError if its file can't be opened."""
        with store_errors(body.body):
            self._all.append(_Arrival(body, await asyncio.to_thread(open, body.body, "rb")))

    def refuse(self, reason: str) -> None:
        """Records that the newest body was refused. `reason`: a safe message."""
        made = self._record(Verdict.REFUSED)
        self._all[-1].record = replace(made, outcome=Outcome.FAILED, reason=reason)

    def accept(self, report: IntakeReport) -> None:
        """Records that the newest body was accepted."""
        self._all[-1].record = self._record(Verdict.ACCEPTED).accepted(report)

    def _record(self, verdict: Verdict) -> EvidenceRecord:
        last, plan = self._all[-1], self.plan
        return EvidenceRecord.arrived(
            plan.id, last.body, self._began, proof=plan.proof, format=plan.format, verdict=verdict
        )

    def take(self) -> list[_Arrival]:
        """The arrivals, which the caller closes from now on."""
        taken, self._all = self._all, []
        return taken

    def close(self) -> None:
        """Closes the bodies that were not taken."""
        for arrival in self.take():
            arrival.content.close()


class EvidenceKeeper:
    """Keeps bodies, one after another, in a thread of low priority."""

    def __init__(self, resources: Resources) -> None:
        self._store = resources.store
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="evidence", initializer=lower_priority, initargs=(LATER,)
        )

    def keep(self, arrivals: Arrivals, end: PullEnd) -> None:
        """Keeps the bodies of a pull. Returns at once."""
        for arrival in arrivals.take():
            if arrival.record is None:
                arrival.content.close()
            else:
                self._thread.submit(self._keep, arrivals.plan, arrival.content, _ended(arrival.record, end))

    async def finished(self) -> None:
        """Waits until all bodies that were given to `keep` are kept."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def _keep(self, plan: SourcePlan, content: BinaryIO, record: EvidenceRecord) -> None:
        try:
            with content:
                evidence.keep(self._store, record, content, plan.evidence, plan.evidence_key)
        except Exception as error:
            Event.EVIDENCE_FAILED.log(log, source=plan.id, reason=safe_message(error))


def _ended(record: EvidenceRecord, end: PullEnd) -> EvidenceRecord:
    """The record with the end of its pull. A refused body has its own reason: another body may have followed it."""
    if record.verdict is Verdict.REFUSED:
        return record
    verdict = Verdict.HELD if end.outcome is Outcome.HELD else Verdict.ACCEPTED
    return replace(
        record,
        verdict=verdict,
        outcome=end.outcome,
        reason=end.reason,
        candidate=end.candidate,
        versions=end.versions,
    )

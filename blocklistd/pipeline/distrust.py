"""Distrust a key of a source: refuse its bodies from now on, and remove the entries that they added since a time.

Under the lock of the source, so that no pull of it runs:

1. find the newest accepted body that the key did not sign since then, and make its entries available (reread.py);
2. one transaction: the key is distrusted, those entries are the source's offer, the audit has a line;
3. the offer is committed to each list, where the guard `distrust` holds the change (ListContext.reasons).

A crash before step 2 changes nothing, and the command is to be repeated. After it, the next start commits the offer to
the lists as any other: the reason to hold it is in the same row.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection

from blocklistd.errors import BlocklistError, RefusedError
from blocklistd.events import Event
from blocklistd.model import Act, IntakeReport, ListId, Outcome, Sha256, SourceId
from blocklistd.pipeline.list_context import ReleaseResult, most_urgent
from blocklistd.pipeline.pull import Pipeline
from blocklistd.pipeline.received import work_folder
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.reread import Rereader
from blocklistd.pipeline.resources import Resources
from blocklistd.pipeline.source_plan import SourcePlan
from blocklistd.store import audit, distrust
from blocklistd.store.distrust import SHOWN, AcceptedBody, DistrustedKey, Restored
from blocklistd.store.pulls import SourceState, source_state
from blocklistd.times import rfc3339

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Distrusted:
    """Outcome of a command. `bodies`: how many bodies of the key since then are known. `restored`: what the source
    offers now, and `entries` how many; None if nothing had to be taken back out. `lists`: what that led to."""

    key: Sha256
    since: datetime
    bodies: int
    restored: Restored | None
    entries: int | None
    lists: dict[ListId, ReleaseResult]


class _Known(NamedTuple):
    """A source in the database: its state, its distrusted keys, its accepted bodies (newest first), and entries that no
    list has taken (distrust.unreleased)."""

    state: SourceState
    distrusted: dict[Sha256, DistrustedKey]
    bodies: list[AcceptedBody]
    unreleased: set[Sha256]


class Distrust:
    """Distrusts keys of sources."""

    def __init__(self, resources: Resources, releaser: Releaser, pipeline: Pipeline) -> None:
        self._database = resources.database
        self._verified = resources.verified
        self._store = resources.store
        self._clock = resources.clock
        self._releaser = releaser
        self._pipeline = pipeline
        self._rereader = Rereader(resources)

    async def distrust(self, source: SourceId, prefix: str, since: datetime, why: str, act: Act) -> Distrusted:
        """Distrusts the key whose fingerprint begins with `prefix`. `why`: for the audit; it contains no entry.

        Raises RefusedError for an unknown source or key, and for a time in the future; StoreError.
        """
        async with self._pipeline.exclusive(source) as plan:
            now = self._clock()
            if since > now:
                raise RefusedError(f"--since: {rfc3339(since)} is in the future: give the time of the first wrong body")
            await self._pipeline.evidence.finished()
            known = await self._known(plan)
            key = _key(plan, known, prefix)
            before = known.distrusted.get(key)
            new = DistrustedKey(key, min(since, before.since) if before else since, now, act.user, why)
            distrusted = (known.distrusted | {key: new}).values()
            trusted = {*plan.fingerprints}.difference(one.key for one in distrusted)
            count = sum(distrust.is_distrusted(body, [new]) for body in known.bodies)
            restored, report = None, None
            with self._verified.sealing(), work_folder(self._store) as work:
                if _brought_the_offer(known.state, now, distrusted):
                    restored, report = await self._restored(plan, known, distrusted, new, work)

                def record(connection: Connection) -> None:
                    distrust.distrust(connection, source, key, since, act, why, now)
                    if restored is not None and report is not None:
                        keys, location = trusted, plan.location
                        distrust.restore_offer(
                            connection, source, report, plan.settings, restored, now, keys=keys, location=location
                        )
                    detail = {"key": key, "since": rfc3339(new.since), "bodies": count, "why": why}
                    detail |= {"restored": restored.body or "nothing"} if restored else {}
                    audit.append(connection, act, source, now=now, detail=detail)

                await self._database.writing(record)
            Event.KEY_DISTRUSTED.log(log, source=source, key=key, since=rfc3339(new.since), user=act.user)
            lists = await self._offer(plan, act) if restored is not None else {}
            entries = report.entries if report is not None else None
            return Distrusted(key, new.since, count, restored, entries, lists)

    async def _known(self, plan: SourcePlan) -> _Known:
        def read(connection: Connection) -> _Known:
            return _Known(
                source_state(connection, plan.id, plan.settings),
                distrust.distrusted_keys(connection, plan.id),
                distrust.accepted_bodies(connection, plan.id),
                distrust.unreleased(connection, plan.id),
            )

        known = await self._database.reading(read)
        kept = await asyncio.to_thread(self._rereader.bodies, plan)
        # evidence first: of one pull, it is the one that can be read again
        bodies = {(body.time, body.report.body_sha256, body.report.signature): body for body in [*known.bodies, *kept]}
        return known._replace(bodies=sorted(bodies.values(), key=lambda body: body.time, reverse=True))

    async def _restored(
        self,
        plan: SourcePlan,
        known: _Known,
        distrusted: Collection[DistrustedKey],
        new: DistrustedKey,
        work: Path,
    ) -> tuple[Restored | None, IntakeReport | None]:
        """The newest body that is not distrusted and that a list has taken, and its report. None for both if that is
        the content of the present offer."""
        restored, present = Restored(new.key, rfc3339(new.since), None), known.state.report
        for body in known.bodies:
            if distrust.is_distrusted(body, distrusted) or not body.was_released(known.unreleased):
                continue
            if present is not None and body.report.body_sha256 == present.body_sha256:
                return None, None
            try:
                report = await self._rereader.entries(plan, body, work)
            except BlocklistError as error:
                Event.KEPT_BODY_NOT_READ.log(log, source=plan.id, body=rfc3339(body.time), reason=str(error))
                continue
            if report is not None:
                return replace(restored, body=rfc3339(body.time)), report
        return restored, await self._rereader.empty_report(rfc3339(new.time), new.key)

    async def _offer(self, plan: SourcePlan, act: Act) -> dict[ListId, ReleaseResult]:
        """Commits the restored offer to each list, where it is held."""
        names = [] if plan.quarantine else [name for name in plan.lists if name in self._releaser.lists]
        results = {name: await self._releaser.offer_or_fail(name, plan.id, act) for name in names}
        urgent = most_urgent(results.values())
        await self._database.writing(
            lambda connection: distrust.record_restored(
                connection, plan.id, urgent.outcome, urgent.reason, urgent.candidate
            )
        )
        return results


def _key(plan: SourcePlan, known: _Known, prefix: str) -> Sha256:
    """The key that the prefix names. Raises RefusedError if none does, or several do."""
    keys = {*plan.fingerprints, known.state.report.key if known.state.report else None, *known.distrusted}
    keys |= {body.report.key for body in known.bodies if body.report.is_signed}
    names = sorted(key for key in keys if key is not None)
    of_openpgp = hashlib.sha256(prefix.encode()).hexdigest()  # its own fingerprint, as gpg prints it
    found = [key for key in names if key.startswith(prefix) or key == of_openpgp]
    if len(found) == 1:
        return found[0]
    if not names:
        raise RefusedError(f"--key: no key has signed a body of source {plan.id}, and its `verify` has none")
    shown = ", ".join(key[:SHOWN] for key in found or names)
    problem = "several keys begin so" if found else "no key of this source begins so"
    raise RefusedError(f"--key: {problem}: expected one of: {shown}")


def _brought_the_offer(state: SourceState, now: datetime, distrusted: Collection[DistrustedKey]) -> bool:
    """Whether a distrusted key signed the body that the source offers. Bodies of the same content that it signed before
    are considered later."""
    report = state.report
    return report is not None and distrust.is_distrusted(AcceptedBody(now, report, Outcome.UNCHANGED), distrusted)

"""Rehearses the jobs of a small change in the forkserver: a new version of a list, a delisting, and the zone's serials.

The forkserver imports this module last, and each job is a fork of the forkserver. So a job has the SQL statements that
the rehearsal compiled (store/database.py), and whatever Python does at the first call of a function: a delisting and
its zone take some 40 ms less. The rehearsal uses a temporary folder, which it deletes; it writes nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from blocklistd.change import Change, ChangeKind, Correction, CorrectionKind
from blocklistd.jobs.bare import IN_FORKSERVER
from blocklistd.model import CandidateId, Entry, ListId, SourceId
from blocklistd.pipeline.commit import CommitRequest, commit
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.pipeline.zone_job import advance_all
from blocklistd.rpz.wire import Apex
from blocklistd.store.database import Database
from blocklistd.store.files import Disk
from blocklistd.store.lists import ensure_list
from blocklistd.store.schema import metadata
from blocklistd.store.store import Store
from blocklistd.store.zones import ZonePlan

LIST: Final = ListId("rehearsal")
SOURCE: Final = SourceId("rehearsal")
ZONE: Final = "rehearsal.invalid"
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
_LIST_PLAN: Final = ListPlan(
    id=LIST,
    sources=(SOURCE,),
    types=("domain",),
    allow_public_suffix=False,
    allow_ip=False,
    max_added=1.0,
    max_removed=1.0,
    daily=None,
    min_change=100,
    min_entries=0,
    max_rejected=1.0,
    release="auto",
)
_APEX: Final = Apex(ZONE, "localhost", "localhost", 60, 30, 600, 60, ("localhost",))
_ZONE_PLAN: Final = ZonePlan(ZONE, LIST, (), ".", 60, _APEX, 1)


class _WithoutSync(Disk):
    """A disk on which nothing is synced, since the rehearsal's folder is deleted at once."""

    def fsync(self, file: BinaryIO) -> None:
        """Does nothing."""

    def fsync_folder(self, folder: Path) -> None:
        """Does nothing."""


def rehearse() -> None:
    """Commits three changes of a list with few entries, each with its zone, in this process."""
    with tempfile.TemporaryDirectory(prefix="blocklistd-") as folder:
        store = Store(Path(folder), disk=_WithoutSync())
        store.sealed.prepare()
        database = Database(store.backend)
        try:
            metadata.create_all(database.engine)
            with database.write() as connection:
                ensure_list(connection, LIST, NOW)
            for values in (["a.invalid", "b.invalid", "c.invalid"], ["a.invalid", "b.invalid"]):
                _commit(store, database, values)
            _commit(store, database, values, "a.invalid")
        finally:
            database.close()


def _commit(store: Store, database: Database, values: Sequence[str], delisted: str | None = None) -> None:
    with store.sealed.create() as draft:
        for value in values:
            draft.write(Entry("domain", value).line() + b"\n")
    assert draft.sealed is not None
    change = Change(ChangeKind.SOURCE, SOURCE, _LIST_PLAN.policy, {SOURCE: draft.sealed}, records=len(values))
    if delisted is not None:
        places = (Correction(0, CorrectionKind.DELISTED, "domain", delisted, "rehearsal", "rehearsal"),)
        change = Change(ChangeKind.CORRECTION, "", _LIST_PLAN.policy, {SOURCE: draft.sealed}, places=places)
    commit(store, CommitRequest(_LIST_PLAN, change, CandidateId("rehearsal"), NOW, {}))
    advance_all(store, [_ZONE_PLAN], NOW, (), {})


if IN_FORKSERVER:
    with suppress(Exception):  # without a folder for temporary files jobs are slower, and nothing else
        rehearse()

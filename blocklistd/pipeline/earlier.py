"""Contents of earlier versions, for rollbacks: the job that makes a snapshot again, from the live one and the deltas
back to it; and the basis of a rollback that is divided."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from blocklistd.errors import StoreError
from blocklistd.model import ListId, Sha256, Version
from blocklistd.pipeline.composing import apply_delta, delta_between
from blocklistd.pipeline.rebuild import snapshot_from
from blocklistd.store.database import Database
from blocklistd.store.diffs import deltas_between
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import version_rows
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified


def make_snapshot(store: Store, list_id: ListId, target: Version, fingerprints: Fingerprints) -> dict[str, Any]:
    """Run the job. Returns `snapshot`: the digest of the intact snapshot of the version; None if there is no such
    version, or if a delta is not kept or damaged. `verified`: the fingerprints of verified files.

    The result is byte for byte the snapshot that was published, as its digest shows.
    """
    with store.opened() as (database, files):
        verified = Verified(files, fingerprints)
        rows = _rows(database, list_id)
        live, earlier = max(rows.values(), key=lambda row: row.version, default=None), rows.get(target)
        found = None
        if live is not None and earlier is not None:
            if verified.check(earlier.sha256):
                found = earlier.sha256
            else:
                with database.read() as connection:
                    steps = deltas_between(connection, list_id, target, live.version)
                deltas = [delta for delta in steps if delta and verified.check(delta)]
                if len(deltas) == len(steps):
                    with suppress(StoreError, ValueError):
                        made = snapshot_from(files, verified, live, earlier, deltas)
                        found = made if made == earlier.sha256 else None
    return {"snapshot": found, "verified": verified.fingerprints}


def _rows(database: Database, list_id: ListId) -> dict[Version, Any]:
    with database.read() as connection:
        return {row.version: row for row in version_rows(connection, list_id)}


def basis_without(
    files: SealedFiles, verified: Verified, basis: Sha256 | None, complete: Sha256, snapshot: Sha256
) -> Sha256:
    """The basis of a divided rollback: without the entries that the snapshot of the `complete` one has and `snapshot`
    has not. Entries that a rule withholds stay in it: so they are counted and explained, and come back through the
    guards."""
    verified.require(basis, complete, snapshot)
    added = delta_between(files, verified, complete, snapshot).delta
    return apply_delta(files, verified, basis, added).digest

"""The job that makes damaged snapshots and deltas of a list again, from the intact ones.

A file is replaced only by a file with the same SHA-256, so a repair changes no content.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack, suppress
from typing import Any

from blocklistd.errors import StoreError
from blocklistd.limits import KEPT_SNAPSHOTS
from blocklistd.lines.delta import ENTRIES
from blocklistd.model import ListId, Sha256, Version, VersionInfo
from blocklistd.pipeline.composing import apply_delta, delta_between, rules_of, write_snapshot
from blocklistd.store.asserted import files_of, open_assertion
from blocklistd.store.database import Database
from blocklistd.store.diffs import deltas_between, net_delta
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState, drop_delta, list_state, version_rows, versions_of
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified


def rebuild(store: Store, list_id: ListId, damaged: Collection[Sha256], fingerprints: Fingerprints) -> dict[str, Any]:
    """Run the job: make the `damaged` snapshots and deltas of a list again.

    Returns `rebuilt`, the digests of the files that were made again; `lost`, the versions whose delta could not be made
    again and was dropped from the database; and `verified`, the fingerprints of verified files.
    """
    with store.opened() as (database, files):
        verified = Verified(files, fingerprints)
        with database.read() as connection:
            state = list_state(connection, list_id)
            kept = list(version_rows(connection, list_id, newest=KEPT_SNAPSHOTS))
            deltas = versions_of(connection, list_id, damaged)
        rebuilt = []
        for version in kept:
            if version.sha256 not in damaged or verified.check(version.sha256):
                continue  # made again already: two versions can have the same snapshot
            if _snapshot_is_made(database, files, verified, state, version, kept):
                rebuilt.append(version.sha256)
        by_number = {version.version: version for version in kept}
        lost = []
        for number, delta in deltas.items():
            before, after = by_number.get(Version(number - 1)), by_number.get(number)
            if verified.check(delta):
                continue
            if before and after and _delta_from_snapshots(files, verified, before, after) == delta:
                rebuilt.append(delta)
            else:
                lost.append(number)
        if lost:
            with database.write() as connection:
                for number in lost:
                    drop_delta(connection, list_id, number)
    return {"rebuilt": rebuilt, "lost": lost, "verified": verified.fingerprints}


def _snapshot_is_made(
    database: Database,
    files: SealedFiles,
    verified: Verified,
    state: ListState,
    version: VersionInfo,
    kept: list[VersionInfo],
) -> bool:
    """Make a snapshot again from another kept version and the deltas between them, or, for the live version, from the
    accepted entries of the sources. False if neither gives the same bytes."""
    with database.read() as connection:
        steps = {row.version: deltas_between(connection, state.id, row.version, version.version) for row in kept}
    for other in sorted(kept, key=lambda row: abs(row.version - version.version)):
        deltas = [delta for delta in steps[other.version] if delta and verified.check(delta)]
        if other is version or len(deltas) < len(steps[other.version]) or not verified.check(other.sha256):
            continue
        with suppress(ValueError):
            if _from_other(files, verified, other, version, deltas) == version.sha256:
                return True
    with suppress(StoreError, ValueError):
        live = state.live is not None and state.live.version == version.version
        return live and _from_sources(files, verified, state) == version.sha256
    return False


def _delta_from_snapshots(
    files: SealedFiles, verified: Verified, before: VersionInfo, after: VersionInfo
) -> Sha256 | None:
    if not (verified.check(before.sha256) and verified.check(after.sha256)):
        return None
    return delta_between(files, verified, before.sha256, after.sha256).delta


def _from_other(
    files: SealedFiles, verified: Verified, other: VersionInfo, version: VersionInfo, deltas: list[Sha256]
) -> Sha256 | None:
    reverse = other.version > version.version
    with files.create() as delta, net_delta(files, verified, ENTRIES, deltas, reverse=reverse) as parts:
        for part in parts:
            delta.write(part.data)
    return apply_delta(files, verified, other.sha256, delta.sealed).digest


def _from_sources(files: SealedFiles, verified: Verified, state: ListState) -> Sha256 | None:
    if state.policy is None:
        return None
    policy = state.policy
    rules = rules_of(state, policy)
    with ExitStack() as stack:
        entries = []
        for source in policy.sources:
            if source in state.accepted:
                verified.require(*files_of(files, state.accepted[source]))
                entries.append(stack.enter_context(open_assertion(files, state.accepted[source]))[1])
        return write_snapshot(files, verified, entries, rules)[0].digest

"""The job that makes damaged snapshots and deltas of a list again, from the intact ones.

A file is replaced only by a file with the same SHA-256, so a repair changes no content.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from blocklistd.change import VersionInfo
from blocklistd.errors import StoreError
from blocklistd.limits import KEPT_SNAPSHOTS
from blocklistd.lines.delta import ENTRIES
from blocklistd.model import ListId, Sha256, Version
from blocklistd.pipeline.composing import apply_delta, delta_between, write_snapshot
from blocklistd.pipeline.list_rules import live_rules
from blocklistd.store import kept_entries
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
        confirmed = kept_entries.kept(connection, state.id)
        steps = {row.version: deltas_between(connection, state.id, row.version, version.version) for row in kept}
    for other in sorted(kept, key=lambda row: abs(row.version - version.version)):
        deltas = [delta for delta in steps[other.version] if delta and verified.check(delta)]
        if other is version or len(deltas) < len(steps[other.version]) or not verified.check(other.sha256):
            continue
        with suppress(ValueError):
            if snapshot_from(files, verified, other, version, deltas) == version.sha256:
                return True
    if state.live is None or state.live.version != version.version:
        return False
    before = [row.sha256 for row in kept if row.version == version.version - 1 and verified.check(row.sha256)]
    with suppress(StoreError, ValueError):
        found = (_from_sources(files, verified, state, confirmed, earlier) for earlier in (None, *before))
        return version.sha256 in found
    return False


def _delta_from_snapshots(
    files: SealedFiles, verified: Verified, before: VersionInfo, after: VersionInfo
) -> Sha256 | None:
    if not (verified.check(before.sha256) and verified.check(after.sha256)):
        return None
    return delta_between(files, verified, before.sha256, after.sha256).delta


def snapshot_from(
    files: SealedFiles, verified: Verified, other: VersionInfo, version: VersionInfo, deltas: list[Sha256]
) -> Sha256 | None:
    """Makes the snapshot of a version from that of another version and the deltas between the two. Returns the digest
    of the result. Raises ValueError where the deltas do not fit; DamagedError."""
    reverse = other.version > version.version
    with files.create() as delta, net_delta(files, verified, ENTRIES, deltas, reverse=reverse) as parts:
        for part in parts:
            delta.write(part.data)
    return apply_delta(files, verified, other.sha256, delta.sealed).digest


def _from_sources(
    files: SealedFiles, verified: Verified, state: ListState, kept: Mapping[bytes, bytes], before: Sha256 | None
) -> Sha256 | None:
    """Composes the live version. `before`: the snapshot of the version before it, of whose entries alone it was made if
    additions were stopped then; None if they were not."""
    if state.policy is None or (before and state.policy.additions):
        return None
    policy = replace(state.policy, additions=before is None)
    verified.require(*policy.files)
    digests = [state.basis] if state.basis else [state.accepted.get(source) for source in policy.sources]
    with ExitStack() as stack:
        verified.require(*(digest for one in state.ages.values() for digest in files_of(files, one.file)))
        rules = stack.enter_context(live_rules(files, state, policy, kept))
        entries = []
        for digest in digests:
            verified.require(*files_of(files, digest))
            entries.append(stack.enter_context(open_assertion(files, digest))[1])
        live = stack.enter_context(files.map(before))
        return write_snapshot(files, verified, entries, rules, live).snapshot.digest

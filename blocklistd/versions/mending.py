"""Makes a damaged sealed file again from what is right: the job of a damaged snapshot."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import Any

from blocklistd.errors import StoreError
from blocklistd.jobs.spread import in_processes
from blocklistd.limits import KEPT_SNAPSHOTS
from blocklistd.model import Sha256, VersionInfo
from blocklistd.outputs.delta import ENTRIES, apply
from blocklistd.versions.asserted import files_of, opened
from blocklistd.versions.commit import ListPlan
from blocklistd.versions.compose import Rules
from blocklistd.versions.composing import write_snapshot
from blocklistd.versions.diffs import deltas_between, net_delta
from blocklistd.versions.files import SealedFiles
from blocklistd.versions.lists import ListState, list_state, oldest_diff, version_rows
from blocklistd.versions.store import Store
from blocklistd.versions.verified import Verified


def rebuild(store: Store, plan: ListPlan, version: VersionInfo) -> dict[str, Any]:
    """Makes a missing or damaged snapshot of a kept version again: from another kept one and the deltas between them,
    or from what the sources were accepted with. `rebuilt`: whether that gave the bytes that its name says."""
    with store.opened() as (database, files):
        verified = Verified(files)
        with database.read() as connection:
            state, oldest = list_state(connection, plan.id), oldest_diff(connection, plan.id)
            kept = [row for row in version_rows(connection, plan.id, newest=KEPT_SNAPSHOTS) if row.version >= oldest]
            steps = {row.version: deltas_between(connection, plan.id, row.version, version.version) for row in kept}
        for other in sorted(kept, key=lambda row: abs(row.version - version.version)):
            deltas = [delta for delta in steps[other.version] if delta]
            if other.version == version.version or not verified.check(other.sha256):
                continue
            if len(deltas) != len(steps[other.version]) or not all(map(verified.check, deltas)):
                continue
            with suppress(ValueError):
                if _from_other(files, verified, other, version, deltas) == version.sha256:
                    return {"rebuilt": True, "verified": verified.fingerprints}
        with suppress(StoreError, ValueError):
            if (
                state.live is not None
                and state.live.version == version.version
                and _from_sources(files, verified, state) == version.sha256
            ):
                return {"rebuilt": True, "verified": verified.fingerprints}
    return {"rebuilt": False, "verified": {}}


def _from_other(
    files: SealedFiles, verified: Verified, other: VersionInfo, version: VersionInfo, deltas: list[Sha256]
) -> Sha256 | None:
    reverse = other.version > version.version
    with files.create() as whole, net_delta(files, verified, ENTRIES, deltas, reverse=reverse) as parts:
        for part in parts:
            whole.write(part.data)
    assert whole.sealed is not None
    with files.map(other.sha256) as base, files.map(whole.sealed) as delta, files.create() as draft:
        for piece in apply(ENTRIES, base, delta, in_processes):
            draft.write(piece)
    assert draft.sealed is not None
    verified.wrote(draft.sealed)
    return draft.sealed


def _from_sources(files: SealedFiles, verified: Verified, state: ListState) -> Sha256 | None:
    if state.policy is None:
        return None
    policy = state.policy
    rules = Rules(state.secret, policy.types, policy.allow_public_suffix, policy.allow_ip)
    with ExitStack() as stack:
        entries = []
        for source in policy.sources:
            if source in state.accepted:
                verified.require(*files_of(files, state.accepted[source]))
                entries.append(stack.enter_context(opened(files, state.accepted[source]))[1])
        return write_snapshot(files, verified, entries, rules)[0].digest

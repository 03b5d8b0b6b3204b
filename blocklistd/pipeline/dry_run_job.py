"""The job of a dry run: composes a change of one list and judges it, as the commit job would, and commits nothing.

It seals its files in a scratch folder (store/scratch.py), and writes no row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blocklistd.change import Reason
from blocklistd.model import CandidateId, Version
from blocklistd.pipeline.commit import CommitRequest, compose_and_judge
from blocklistd.pipeline.suffixes import suffixes_of
from blocklistd.store.lists import list_state, next_version
from blocklistd.store.scratch import ScratchFiles
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a commit of a change would do to its list.

    - `made`: the version that it would make. None if it would change nothing, be held, or be rejected.
    - `rejected`: the candidate with this delta, which a reviewer rejected earlier.
    - `reasons`: why the change would be held. `candidate`: the candidate that holds the same delta already.
    - `entries`: of the list afterwards. `added`, `removed`, `changed`, `withheld`, `suffixes`: as in Candidate.
    """

    entries: int
    added: int
    removed: int
    changed: int
    withheld: dict[str, int]
    suffixes: dict[str, dict[str, int]]
    made: Version | None = None
    rejected: CandidateId | None = None
    reasons: tuple[Reason, ...] = ()
    candidate: CandidateId | None = None

    @classmethod
    def from_json(cls, answer: dict[str, Any]) -> Prediction:
        """Reads the JSON that `dry_run_job` returns."""
        return cls(**(answer | {"reasons": tuple(Reason(**reason) for reason in answer["reasons"])}))


def predict(store: Store, request: CommitRequest, scratch: Path) -> Prediction:
    """Composes and judges the change. `scratch`: the prepared folder of scratch files, which has the entries of the
    body that is tried.

    The change's policy counts as the policy in force: it differs only for a source in quarantine, which is tried as if
    the list took it. Raises StoreError, DamagedError among others.
    """
    with store.opened() as (database, sealed):
        files = ScratchFiles(scratch, sealed)
        with database.read() as connection:
            state = list_state(connection, request.plan.id)
            version = next_version(connection, state.version)
        if state.policy is not None:
            state = replace(state, policy=request.change.policy)
        judged = compose_and_judge(database, files, Verified(files, request.fingerprints), state, request)
        composed, held = judged.composed, request.held
        suffixes = suffixes_of(files, composed.delta, has_changes=composed.changed > 0) if composed.delta else {}
    is_released = judged.rejected is None and not judged.reasons and (composed.alters or state.live is None)
    return Prediction(
        entries=(state.live.entries if state.live else 0) + composed.added - composed.removed,
        added=composed.added,
        removed=composed.removed,
        changed=composed.changed,
        withheld=composed.withheld,
        suffixes=suffixes,
        made=version if is_released else None,
        rejected=judged.rejected,
        reasons=judged.reasons,
        candidate=held.id if held is not None and judged.reasons and held.delta == composed.delta else None,
    )


def dry_run_job(store: Store, request: CommitRequest, scratch: Path) -> dict[str, Any]:
    """Runs `predict` in a job. Returns the Prediction as JSON (Prediction.from_json)."""
    return asdict(predict(store, request, scratch))

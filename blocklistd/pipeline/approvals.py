"""Who may approve a held candidate, and how many approvals are missing. Pure.

A list with `release: two-person` needs two approvals by different users, every other list one. The user is known by its
uid. Who brought the change (Change.actor_uid) is not one of the two. An approval is of one delta: a candidate whose
delta is another one begins without approvals (store/candidates.py), and two approvals must except the same entries.
"""

from __future__ import annotations

from typing import Final

from blocklistd.change import Candidate, ChangeKind
from blocklistd.compose.guard import approvals_needed
from blocklistd.errors import RefusedError
from blocklistd.model import Act, Sha256
from blocklistd.store import distrust
from blocklistd.store.candidates import Case, Decision

BROUGHT_BY: Final = {
    ChangeKind.SOURCE: "the pull or the reload",
    ChangeKind.POLICY: "the reload",
    ChangeKind.CORRECTION: "the correction",
    ChangeKind.ROLLBACK: "the rollback",
}
"""The commands that bring a change of each kind."""


def counted(case: Case, release: str) -> tuple[Decision, ...]:
    """The approvals that count under the release rule of the list."""
    brought_by = case.candidate.change.actor_uid
    return tuple(
        one for one in case.decisions if one.approve and (approvals_needed(release) == 1 or one.uid != brought_by)
    )


def missing(case: Case, release: str, act: Act | None = None) -> int:
    """How many approvals are missing, at least 0. `act`: an approval that is counted, too."""
    uids = {one.uid for one in counted(case, release)} | ({act.uid} if act is not None else set())
    return max(0, approvals_needed(release) - len(uids))


def refuse_other_exceptions(case: Case, release: str, decision: Decision) -> None:
    """Raises RefusedError if another user has approved the candidate without other entries than this decision does."""
    others = [one for one in counted(case, release) if one.uid != decision.uid and one.excepted != decision.excepted]
    if others and approvals_needed(release) > 1:
        first = others[0]
        what = " ".join(f"--except {entry}" for entry in first.excepted) or "no --except"
        raise RefusedError(
            f"candidate {case.candidate.id}: {first.user} approved another difference, with {what}, and two must "
            f"approve the same: run `blocklistd candidate approve` with that, or ask {first.user} to approve again"
        )


def refuse_who_brought_it(case: Case, release: str, act: Act) -> None:
    """Raises RefusedError if the user of the act is not one of the two who may approve."""
    held = case.candidate
    if approvals_needed(release) > 1 and held.change.actor_uid == act.uid:
        raise RefusedError(
            f"candidate {held.id}: user {act.user} (uid {act.uid}) ran {BROUGHT_BY[held.change.kind]} that brought "
            f"this change, and can't be one of the two who approve it (list {held.list} has `release: {release}`): ask "
            f"two other reviewers"
        )


def stays_held(held: Candidate, delta: Sha256 | None) -> bool:
    """Whether the same delta is held already, for a reason that remains.

    The guards `max_rejected` and `distrust` do not remain: a later body can have the same entries and fewer rejected
    records, or be signed by another key. Then the guards decide again.
    """
    passing = ("max_rejected", distrust.GUARD)
    return held.delta == delta and any(reason.guard not in passing for reason in held.reasons)

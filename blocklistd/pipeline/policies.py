"""Configured policies that were rejected: the configuration says one thing, and the list goes on under another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from blocklistd.change import ChangeKind, Policy
from blocklistd.model import CandidateId, ListId
from blocklistd.pipeline.list_context import ListContext
from blocklistd.store import candidates
from blocklistd.times import rfc3339

_KEYS: Final = {
    "sources": "sources",
    "types": "types",
    "quorum": "quorum",
    "allow_public_suffix": "guards.allow_public_suffix",
    "allow_ip": "guards.allow_ip",
    "never_block": "guards.never_block",
    "shared_hosts": "guards.shared_hosts",
    "reverify": "lifetime.reverify",
    "max_life": "lifetime.max_life",
    "ends_by_age": "lifetime.at_end",
    "own_names": "own names",
    "exceptions": "exceptions",
    "tests": "test_entries",
}
"""What the configuration calls each part of a policy."""


@dataclass(frozen=True, slots=True)
class RejectedPolicy:
    """The configured policy of a list, which a reviewer rejected. `keys`: what differs from the policy in force."""

    list: ListId
    candidate: CandidateId
    user: str
    time: datetime
    why: str
    keys: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For a person: that the configuration is not in force, and what to do."""
        return (
            f"list {self.list}: what is configured is not in force ({', '.join(self.keys)}): {self.user} rejected "
            f"candidate {self.candidate} on {rfc3339(self.time)} ({self.why}), and the list goes on as before: put the "
            f"old values back in lists.{self.list}, or others, then run `blocklistd reload`"
        )


def rejected_policy(
    connection: Connection, context: ListContext, refused: CandidateId | None = None
) -> RejectedPolicy | None:
    """The configured policy of a list, if it was rejected and is not in force. `refused`: the rejected candidate of
    which it gives the delta, if that is known. A frozen list, and one that is rolled back, takes no policy yet."""
    state = context.state
    if state.live is None or state.policy is None or state.frozen is not None or state.basis is not None:
        return None
    change = context.policy_change()
    if state.is_composed_from(change) or any(case.candidate.change.kind == ChangeKind.POLICY for case in context.held):
        return None
    rejected = context.rejected_candidate(change) or refused
    if rejected is None:
        return None
    case = candidates.case(connection, rejected)
    decision = next(one for one in case.decisions if not one.approve)
    keys = _differences(state.policy, change.policy)
    return RejectedPolicy(context.plan.id, rejected, decision.user, decision.time, case.why or "", keys)


def _differences(in_force: Policy, configured: Policy) -> tuple[str, ...]:
    return tuple(key for name, key in _KEYS.items() if getattr(in_force, name) != getattr(configured, name))

"""How a list stands to what one of its sources says: whether there is anything to do, and whether it may be done."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from blocklistd.guard import refused
from blocklistd.model import CandidateId, Sha256, SourceId, Version
from blocklistd.versions import candidates
from blocklistd.versions.commit import Assertion, ListPlan
from blocklistd.versions.lists import list_state
from blocklistd.versions.pulls import never_pulled


@dataclass(frozen=True, slots=True)
class Standing:
    """`same`: the live version (`live`) was made of this already. `awaited`: sources whose first pull a first version
    waits for. `rejected`: the candidate by which a reviewer refused this content. `held`: what waits of the same
    source; `stands`: it is what the source says now, with as many refused records if it is held for them."""

    same: bool
    live: Version
    awaited: list[SourceId]
    rejected: CandidateId | None
    held: candidates.Case | None
    stands: bool


def standing(connection: Connection, plan: ListPlan, assertion: Assertion) -> Standing:
    """Raises StoreError where the list is not in the store."""
    state = list_state(connection, plan.id)
    same = (
        state.live is not None
        and state.accepted.get(assertion.source) == assertion.asserted
        and state.accepted.keys() <= set(plan.sources)
        and state.composition == plan.fingerprint()
    )
    others = [source for source in plan.sources if source != assertion.source]
    awaited = never_pulled(connection, others) if state.live is None else []
    rejected = candidates.is_rejected(connection, plan.id, assertion.source, assertion.asserted or Sha256(""))
    held = candidates.held(connection, plan.id, assertion.source)
    live = state.live.version if state.live else Version(0)
    of_body = refused(assertion.records, assertion.rejected, plan) if state.live else []
    stands = bool(held) and held[0].candidate.asserted == assertion.asserted
    stands = stands and [r for r in held[0].candidate.reasons if r.guard == "max_rejected"] == of_body
    return Standing(same, live, awaited, rejected, held[0] if held else None, stands)

"""Approvals are counted by uid, without who brought the change, under the rule of today."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.change import Candidate, Change, ChangeKind
from blocklistd.errors import RefusedError
from blocklistd.model import Act, CandidateId, Sha256, Version
from blocklistd.pipeline.approvals import counted, missing, refuse_who_brought_it
from blocklistd.store.candidates import Case, Decision
from tests.versions_of import LIST, NOW, plan

TWO = "two-person"


def case(actor: int | None, *approved: int) -> Case:
    change = Change(ChangeKind.SOURCE, "hotline", plan("hotline").policy, {}, actor_uid=actor)
    held = Candidate(CandidateId("c-1"), LIST, NOW, change, Version(1), Sha256("0" * 64), 1, 0, 0, 1)
    return Case(held, "held", tuple(Decision(uid, f"user{uid}", NOW, True) for uid in approved), None, None)


@given(st.none() | st.integers(0, 3), st.sets(st.integers(0, 3)), st.sampled_from(["auto", "review", TWO]))
def test_two_uids_other_than_who_brought_it(actor: int | None, approved: set[int], release: str) -> None:
    found, needed = case(actor, *approved), 2 if release == TWO else 1
    others = approved - {actor} if release == TWO else approved
    assert {one.uid for one in counted(found, release)} == others
    assert missing(found, release) == max(0, needed - len(others))
    for uid in range(4):
        act = Act("candidate approve", f"user{uid}", uid)
        if release == TWO and uid == actor:
            with pytest.raises(RefusedError, match="the pull or the reload that brought this change"):
                refuse_who_brought_it(found, release, act)
            continue
        refuse_who_brought_it(found, release, act)
        assert missing(found, release, act) == max(0, needed - len(others | {uid}))


def test_a_rejection_is_no_approval() -> None:
    found = case(None, 1, 2)
    refused = replace(found, decisions=(*found.decisions[:1], replace(found.decisions[1], approve=False)))
    assert missing(refused, TWO) == 1

"""The name server answers or ignores whatever arrives, and no UDP answer is larger than the protocol needs."""

from __future__ import annotations

import pytest

from tests.examples import examples
from tests.fuzz.queries import REQUESTS, answer_request, mutations


@pytest.mark.hypothesis  # so that `make fuzz` runs it, with a million mutations
def test_mutated_requests_are_answered_or_ignored() -> None:
    count = examples(50_000)
    answered = 0
    for wire in mutations(16, count):
        answer_request(wire)
        answered += 1
    assert answered == count


def test_the_requests_themselves_are_answered_within_the_bounds() -> None:
    for wire in REQUESTS:
        answer_request(wire)

"""Log lines of refused clients, and their rate."""

from __future__ import annotations

import pytest

from blocklistd.limits import REFUSALS_AT_ONCE, REFUSALS_PERIOD
from blocklistd.serve.refusals import Refusals


def test_a_refusal_is_one_line_limited_in_rate(caplog: pytest.LogCaptureFixture) -> None:
    now = [1000.0]
    refusals = Refusals("feed", lambda: now[0])
    for _ in range(50):
        refusals.log("192.0.2.1", "isp", "the subscriber was revoked")
    refusals.log("192.0.2.1", "", "it sent no token")
    assert caplog.messages == [
        "feed: 192.0.2.1 as isp was refused: the subscriber was revoked",
        "feed: 192.0.2.1 was refused: it sent no token (49 more were refused since the last such line)",
    ]
    caplog.clear()
    for number in range(1000):
        refusals.log(f"198.51.100.{number}", "", "it sent no token")
    assert len(caplog.messages) == REFUSALS_AT_ONCE - 2
    caplog.clear()
    now[0] += REFUSALS_PERIOD
    refusals.log("192.0.2.1", "isp", "the subscriber was revoked")
    assert caplog.messages == [
        "feed: 192.0.2.1 as isp was refused: the subscriber was revoked "
        f"({1000 - REFUSALS_AT_ONCE + 2} more were refused since the last such line)"
    ]


def test_many_refusals_do_not_hide_those_of_another_kind(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals("dns", lambda: 1000.0)
    for number in range(1000):
        refusals.log(f"198.51.100.{number}", "", "its signature is wrong")
    for _ in range(50):
        for address in ("192.0.2.1", "192.0.2.2"):
            refusals.log(address, "isp", "it has no connection left")
    assert len(caplog.messages) == REFUSALS_AT_ONCE + 1
    assert caplog.messages[-1].startswith("dns: 192.0.2.1 as isp was refused: it has no connection left")

"""The limits of a subscriber's requests."""

from __future__ import annotations

import pytest

from blocklistd.config import RateLimit
from blocklistd.limits import RATED_NODES
from blocklistd.model import SubscriberId
from blocklistd.serve.http import rates as rates_module
from blocklistd.serve.http.rates import RequestRates

ISP, OTHER = SubscriberId("isp"), SubscriberId("other")


class Rates(RequestRates):
    """Ten requests a minute, by a clock that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(lambda: self.now)
        self.limit = RateLimit(10, 60)

    def burst(self, subscriber: SubscriberId = ISP, node: str = "192.0.2.1") -> int:
        """The number of requests until the first that is refused."""
        counted = 0
        while not self.pause(subscriber, node):
            counted += 1
        return counted


def test_a_node_may_send_the_whole_limit_at_once_and_then_as_it_fills_up() -> None:
    rates = Rates()
    assert rates.burst() == 10
    assert rates.pause(ISP, "192.0.2.1") == pytest.approx(6.0), "seconds until the next one"
    rates.now += 5.9
    assert rates.burst() == 0
    rates.now += 0.2
    assert rates.burst() == 1
    rates.now += 3600
    assert rates.burst() == 10


def test_nodes_and_subscribers_do_not_use_up_each_others_requests() -> None:
    rates = Rates()
    assert [rates.burst(), rates.burst(node="192.0.2.2"), rates.burst(OTHER)] == [10, 10, 10]


def test_all_nodes_of_a_subscriber_are_bounded_together() -> None:
    rates = Rates()
    counted = sum(rates.burst(node=f"2001:db8:0:{number:x}::/64") for number in range(3 * RATED_NODES))
    assert counted == 10 * RATED_NODES
    assert rates.burst(OTHER) == 10
    rates.now += 60
    assert rates.burst(node="192.0.2.1") == 10


def test_without_a_limit_nothing_is_counted() -> None:
    rates = Rates()
    assert rates.burst() == 10
    rates.limit = None
    assert not rates.pause(ISP, "192.0.2.1")
    rates.limit = RateLimit(20, 60)
    assert rates.burst() == 0, "the minute of the first ten is not over"
    rates.now += 60
    assert rates.burst() == 20


def test_memory_is_bounded_and_the_subscribers_bound_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "MAX_RATED", 8)
    rates = Rates()
    counted = 0
    for number in range(200):
        counted += rates.burst(node=f"192.0.2.{number}")
        assert len(rates._unused_at) <= 9
    assert counted == 10 * RATED_NODES
    rates.now += 120
    assert rates.burst(OTHER) == 10
    assert rates.burst() == 10

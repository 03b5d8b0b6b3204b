"""A subscriber takes a zone as often as its secondaries need, and no loop of them takes it for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.limits import FULL_TRANSFER_PERIOD, FULL_TRANSFERS_AT_ONCE, LARGE_DIFFERENCE
from blocklistd.serve.dns.full_transfers import FullTransfers, share_of_zone
from blocklistd.serve.dns.transfer import TransferRecords

ZONE = "rpz.blocklist.example"


def test_all_secondaries_of_a_subscriber_at_once_then_one_each_period() -> None:
    full = FullTransfers()
    assert all(full.take("isp", ZONE, 10.0) for _ in range(FULL_TRANSFERS_AT_ONCE))
    assert not full.take("isp", ZONE, 10.0)
    assert full.take("other", ZONE, 10.0), "each subscriber by itself"
    assert full.take("isp", "other.zone.example", 10.0), "each zone by itself"
    later = 10.0 + FULL_TRANSFER_PERIOD
    assert full.take("isp", ZONE, later)
    assert not full.take("isp", ZONE, later)
    much_later = later + FULL_TRANSFERS_AT_ONCE * FULL_TRANSFER_PERIOD
    assert all(full.take("isp", ZONE, much_later) for _ in range(FULL_TRANSFERS_AT_ONCE))
    assert not full.take("isp", ZONE, much_later)


@given(st.lists(st.floats(0, 50), max_size=300))
def test_the_sum_is_bounded(pauses: list[float]) -> None:
    full, now, taken = FullTransfers(), 0.0, 0
    for pause in pauses:
        now += pause
        taken += full.take("isp", ZONE, now)
        assert taken <= FULL_TRANSFERS_AT_ONCE + now / FULL_TRANSFER_PERIOD


def records(kind: str, size: int) -> TransferRecords:
    return TransferRecords(kind, b"", 0, (bytes(size // 2), bytes(size - size // 2)), b"")


def test_a_large_difference_counts_as_its_part_of_the_zone() -> None:
    zone = 10 * LARGE_DIFFERENCE
    assert share_of_zone(records("AXFR", 1), zone) == 1
    assert share_of_zone(records("IXFR", LARGE_DIFFERENCE - 1), zone) == 0
    assert share_of_zone(records("IXFR", LARGE_DIFFERENCE), zone) == pytest.approx(0.1)
    assert share_of_zone(records("IXFR", 2 * zone), zone) == 1
    full = FullTransfers()
    assert all(full.take("isp", ZONE, 10.0, 0.25) for _ in range(4 * FULL_TRANSFERS_AT_ONCE))
    assert not full.take("isp", ZONE, 10.0, 0.25)
    assert full.take("isp", ZONE, 10.0, 0.0), "small differences are free"

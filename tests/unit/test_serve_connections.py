"""Counts of connections by holder, and the choice of the connection that is closed to make room."""

from __future__ import annotations

import ipaddress
import random

import pytest

from blocklistd.config import ConnectionBounds
from blocklistd.serve.connections import Connections, Holder, address_holder, is_in


class Fake:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def connections(total: int) -> Connections:
    return Connections(ConnectionBounds(per_address=total, per_subscriber=total, total=total))


def enter(kept: Connections, holder: str, count: int, bound: int = 100) -> list[Fake]:
    made = [Fake() for _ in range(count)]
    for one in made:
        assert kept.enter(one, Holder("address", holder), bound)
    return made


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
def test_the_holder_of_an_ipv6_address_is_its_64(address: str, name: str) -> None:
    assert address_holder(address) == Holder("address", name)


def test_an_ipv4_mapped_address_is_in_the_ipv4_network() -> None:
    proxies = (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::/32"))
    assert [is_in(one, proxies) for one in ("::ffff:192.0.2.9", "2001:db8::9", "198.51.100.1")] == [True, True, False]
    assert not is_in("192.0.2.9", ())


def test_at_its_bound_a_holder_loses_its_own_longest_idle_connection() -> None:
    kept = connections(100)
    other = enter(kept, "b", 1)
    first, second = enter(kept, "a", 2, bound=2)
    kept.begin(first)
    third = enter(kept, "a", 1, bound=2)[0]
    assert (first.aborted, second.aborted, third.aborted, other[0].aborted) == (False, True, False, False)
    assert kept.of(Holder("address", "a")) == 2
    kept.begin(third)
    refused = Fake()
    assert not kept.enter(refused, Holder("address", "a"), 2), "none of its connections is idle"
    assert (len(kept), first.aborted, third.aborted) == (3, False, False)


def test_at_the_total_bound_the_largest_holder_with_idle_connections_loses_one() -> None:
    kept = connections(10)
    large, small = enter(kept, "large", 7), enter(kept, "small", 3)
    for waits in large[:5]:
        kept.begin(waits)
    newcomers = [enter(kept, "new", 1)[0] for _ in range(2)]
    assert [one.aborted for one in large] == [False] * 5 + [True] * 2
    enter(kept, "another", 1)
    assert [one.aborted for one in (*small, *newcomers)].count(True) == 1, "of those that are idle, the next largest"
    assert small[0].aborted
    assert len(kept) == 10


def test_busy_connections_are_never_closed_and_a_new_one_is_refused() -> None:
    kept = connections(3)
    waiting = enter(kept, "a", 3)
    for one in waiting:
        kept.begin(one)
    assert not kept.make_room()
    assert not kept.enter(Fake(), Holder("address", "b"), 9)
    kept.end(waiting[1])
    assert kept.enter(Fake(), Holder("address", "b"), 9)
    assert [one.aborted for one in waiting] == [False, True, False]


def test_a_connection_moves_to_its_subscriber_and_leaves() -> None:
    kept = connections(100)
    isp = Holder("subscriber", "isp")
    made = enter(kept, "a", 3, bound=3)
    for one in made:
        kept.begin(one)
        assert kept.move(one, isp, 2) is (one is not made[2]), "the third has no place: the two others are not idle"
    assert (kept.of(isp), kept.of(Holder("address", "a"))) == (2, 1)
    assert kept.move(made[0], isp, 2), "it is the subscriber's already"
    kept.end(made[0])
    assert kept.move(made[2], isp, 2)
    assert made[0].aborted
    for one in made:
        kept.leave(one)
        kept.leave(one)
    assert (len(kept), kept.of(isp)) == (0, 0)
    assert kept.move(made[0], isp, 2), "what has ended holds nothing"
    assert kept.of(isp) == 0


def test_counts_are_right_after_any_sequence_of_calls() -> None:
    chance = random.Random(7)
    kept = connections(40)
    open_: dict[Fake, tuple[Holder, bool]] = {}
    for _ in range(5000):
        holder = Holder(chance.choice(("address", "subscriber")), chance.choice("abcdef"))
        known = list(open_)
        one = chance.choice(known) if known else None
        match chance.randrange(5):
            case 0 | 1:
                new = Fake()
                if kept.enter(new, holder, 12):
                    open_[new] = (holder, True)
            case 2 if one is not None:
                kept.begin(one)
                open_[one] = (open_[one][0], False)
                if kept.move(one, holder, 12):
                    open_[one] = (holder, False)
            case 3 if one is not None:
                kept.end(one)
                open_[one] = (open_[one][0], True)
            case 4 if one is not None:
                kept.leave(one)
                del open_[one]
        open_ = {one: where for one, where in open_.items() if not one.aborted}
        assert len(kept) == len(open_) <= 40
        for where in {where for where, _ in open_.values()}:
            assert kept.of(where) == sum(where == other for other, _ in open_.values()) <= 12
    while kept.make_room():
        pass
    assert {one for one, (_, idle) in open_.items() if idle} == {one for one in open_ if one.aborted}

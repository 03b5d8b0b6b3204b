"""The key that signs a NOTIFY: the newest that the secondary has used."""

from __future__ import annotations

import dataclasses
import ipaddress

from blocklistd.limits import MAX_SECONDARIES
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.key_use import KeyUse
from blocklistd.serve.dns.tsig import Key
from blocklistd.serve.dns.zones import Peer

OLD, NEW = (Key(wire_name(name), "hmac-sha256", name.encode()) for name in ("old", "new"))
PEER = Peer("isp", frozenset(), (OLD, NEW), (), ())
A, B, OTHER = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def test_each_secondary_gets_the_newest_key_that_it_has_used() -> None:
    use = KeyUse()
    assert use.key_for(PEER, A, 0) == OLD
    use.saw(PEER, A, OLD.name, 1)
    use.saw(PEER, B, NEW.name, 1)
    assert [use.key_for(PEER, address, 2) for address in (A, B, OTHER)] == [OLD, NEW, NEW]
    use.saw(PEER, A, NEW.name, 2)
    use.saw(PEER, A, OLD.name, 3)
    assert use.key_for(PEER, A, 4) == NEW
    assert use.last == {OLD.name: 3, NEW.name: 2}
    assert (use.addresses("isp", NEW.name), use.addresses("isp", OLD.name)) == ([A, B], [])


def test_an_expired_key_signs_nothing() -> None:
    use = KeyUse()
    peer = dataclasses.replace(PEER, keys=(dataclasses.replace(OLD, until=10.0), NEW))
    use.saw(peer, A, OLD.name, 9)
    chosen = [use.key_for(peer, A, now) for now in (9, 10)]
    assert [key and key.name for key in chosen] == [OLD.name, NEW.name]


def test_no_key_for_subscribers_that_need_none() -> None:
    use = KeyUse()
    by_address = dataclasses.replace(PEER, networks=(ipaddress.ip_network("192.0.2.0/24"),))
    by_certificate = dataclasses.replace(PEER, certificates=("0" * 64,))
    assert use.key_for(by_address, A, 0) is None
    assert use.key_for(by_certificate, A, 0) is None
    use.saw(by_certificate, A, NEW.name, 0)
    assert use.key_for(by_certificate, A, 0) == NEW


def test_uses_from_before_a_restart_count_for_all_secondaries() -> None:
    use = KeyUse()
    use.learn([(NEW.name, 5), (b"gone", 5)])
    assert use.key_for(PEER, A, 6) == NEW
    use.keep([PEER])
    assert use.last == {NEW.name: 5}
    use.keep([dataclasses.replace(PEER, keys=(OLD,))])
    assert use.key_for(PEER, A, 6) == OLD


def test_as_many_addresses_as_secondaries_are_remembered() -> None:
    use = KeyUse()
    for number in range(MAX_SECONDARIES + 5):
        use.saw(PEER, str(ipaddress.ip_address(number)), OLD.name, number)
    assert len(use.addresses("isp", OLD.name)) == MAX_SECONDARIES

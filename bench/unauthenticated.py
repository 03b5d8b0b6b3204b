"""Time that the event loop spends on the most expensive DNS messages of clients that are not authenticated.

The server has 300 subscribers: each message is compared with their keys and networks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from bench.compare import Row, Sample, seconds
from blocklistd.rpz.wire import wire_name
from blocklistd.serve.dns.query import respond
from blocklistd.serve.dns.tsig import Key
from blocklistd.serve.dns.zones import Peer
from tests.costly_messages import KNOWN_KEY, MESSAGES
from tests.property.test_zones import ZONE, Primary

FLOOR = 1.0  # ms
ROUNDS = 200
SUBSCRIBERS = 300


def rows() -> Iterator[Row]:
    """The row of the message with the highest median."""
    zones = Primary({}, {}).zones
    zones.replace_peers(_peer(number) for number in range(SUBSCRIBERS))
    found = {}
    for name, wire in MESSAGES.items():

        def answer(wire: bytes = wire) -> None:
            respond(wire, zones, "192.0.2.1", 1000, tcp=True)

        found[name] = Sample(tuple(1000 * seconds(answer) for _ in range(ROUNDS)))
    slowest = max(found, key=lambda name: found[name].median)
    title = f"the most expensive DNS message that a client without a key can send ({slowest})"
    yield Row(title, found[slowest], None, "", "ms", FLOOR)


def _peer(number: int) -> Peer:
    names = [wire_name(f"isp-{number}")] if number else [KNOWN_KEY]
    keys = tuple(Key(name, "hmac-sha256", bytes(32)) for name in names)
    first = int(ipaddress.IPv4Address("198.18.0.0")) + 256 * number
    networks = tuple(ipaddress.IPv4Network((first + 4 * part, 32 - part % 3)) for part in range(4))
    return Peer(f"isp-{number}", frozenset({wire_name(ZONE)}), keys, networks, ())

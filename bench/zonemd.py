"""The digest of a zone (ZONEMD) beside the compiling of its messages: run `python -m bench.zonemd`.

Both read the same sorted rules, 1,000,000 of 500,000 domains. The times are processor seconds, the lowest of ROUNDS.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from blocklistd.lines.snapshot import lines
from blocklistd.rpz.rules import DOMAIN, rules
from blocklistd.rpz.wire import Action, Apex, compile_rules, wire_name
from blocklistd.rpz.zonemd import zone_digest

ZONE: Final = "rpz.blocklist.example"
APEX: Final = Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",), True)
ACTION: Final = Action(wire_name("."), 60)
DOMAINS: Final = 500_000
ROUNDS: Final = 5


def content() -> bytes:
    """The file of rules."""
    chance = random.Random(1)
    names = {
        f"{chance.choice(['test', 'example'])}\0{chance.getrandbits(48):012x}" + "\0www" * (chance.random() < 0.3)
        for _ in range(DOMAINS)
    }
    return b"".join(rule + b"\n" for rule in rules(sorted(name.encode() + DOMAIN for name in names), ZONE).lines)


def lowest(work: Callable[[], object]) -> float:
    """The lowest processor time in seconds."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def main() -> None:
    """Prints both times."""
    file = content()
    count = file.count(b"\n")
    digest = lowest(lambda: zone_digest(APEX, 1, lines(file), ACTION))
    compiled = lowest(lambda: sum(map(len, compile_rules(lines(file), wire_name(ZONE), ACTION))))
    print(f"{count:,} records: digest {digest:.2f} s, compiling {compiled:.2f} s")


if __name__ == "__main__":
    main()

"""Changes of a zone: large changes beside the first serial, and the difference of serials far apart.

There is no daemon; two jobs run in this process and are timed: the one that makes a zone's serial from a version of its
list, and the one that makes the file of an IXFR from the deltas of the zone.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import bodies
from bench.compare import Compared, Row, Sample, seconds
from blocklistd.model import Sha256
from blocklistd.pipeline.zone_job import advance, digests_read
from blocklistd.rpz.wire import Apex
from blocklistd.store.ixfr import deltas_from_serial, ixfr_path, write_ixfr
from blocklistd.store.verified import Verified
from blocklistd.store.zones import ZonePlan
from tests.versions_of import LIST, NOW, Versions

ZONE = "rpz.blocklist.example"
PLAN = ZonePlan(ZONE, LIST, (), ".", 60, Apex(ZONE, "localhost", "h.invalid", 60, 30, 600, 60, ("localhost",)), 1)
DOMAINS = 500_000  # two rules each
FEW = 1_500
ROUNDS = 2
ENTRIES = 50_000  # of the zone whose serials are followed
SERIALS = 500
CHANGES = 1_000  # rules that are removed and added together, in each step
TIMES = 5


class BenchZone:
    """A list and its zone in a store of their own."""

    def __init__(self, folder: Path) -> None:
        self.versions = Versions(folder)
        self.verified = Verified(self.versions.store.sealed)

    def publish(self, names: list[bytes]) -> None:
        """Makes a version of the list with these domains."""
        with self.versions.store.sealed.create() as draft:
            draft.write(b"".join(b'{"type":"domain","value":"%b"}\n' % name for name in sorted(names)))
        assert draft.sealed is not None
        self.versions.publish(draft.sealed)

    def advance(self) -> float:
        """Makes the zone's serial from the newest version. Returns the seconds."""
        with self.versions.database.read() as connection:
            digests = digests_read(connection, PLAN)
        known = self.verified.of(digests)

        def work() -> None:
            self.verified.learn(advance(self.versions.store, PLAN, NOW, False, known)["verified"])

        return seconds(work)

    def difference(self, start: int, end: int) -> float:
        """Makes the file of an IXFR. Returns the milliseconds."""
        with self.versions.database.read() as connection:
            way = deltas_from_serial(connection, ZONE, start, end)
        assert way is not None
        ixfr_path(self.versions.store, ZONE, start, end).unlink(missing_ok=True)
        known: dict[Sha256, str] = self.verified.of(way.deltas)
        order = (self.versions.store, PLAN, start, end, way.deltas, 10**9, known)
        return seconds(lambda: write_ixfr(*order, alone=len(way.deltas) == 1)) * 1000


@contextmanager
def _zone() -> Iterator[BenchZone]:
    folder = Path(tempfile.mkdtemp(prefix="bench-zone-changes-"))
    try:
        zone = BenchZone(folder)
        yield zone
        zone.versions.close()
    finally:
        shutil.rmtree(folder)


def large() -> Iterator[Compared]:
    """Large changes beside the first serial, in seconds."""
    one, other = bodies.domains(DOMAINS, seed=1), bodies.domains(DOMAINS, seed=2)
    steps = {
        "first": one,
        "every rule replaced": other,
        f"all but {FEW:,} domains removed": one[:FEW],
        f"grown from {FEW:,} domains to all": other,
    }
    found: dict[str, list[float]] = {what: [] for what in steps}
    for _ in range(ROUNDS):
        with _zone() as zone:
            for what, names in steps.items():
                zone.publish(names)
                found[what].append(zone.advance())
    first = Sample(tuple(found.pop("first")))
    for what, took in found.items():
        yield Compared(what, Sample(tuple(took)), first)


def far() -> Iterator[tuple[str, Sample]]:
    """(name of the case, milliseconds) of the file of an IXFR."""
    names = bodies.domains(ENTRIES, seed=3)
    fresh = bodies.domains((SERIALS + TIMES) * CHANGES // 4, seed=4)
    order = random.Random(5)
    with _zone() as zone:
        for _ in range(SERIALS + TIMES):
            zone.publish(names)
            zone.advance()
            step, fresh = fresh[: CHANGES // 4], fresh[CHANGES // 4 :]  # a name is two rules
            for at, name in zip(order.sample(range(len(names)), len(step)), step, strict=True):
                names[at] = name
        newest = SERIALS + TIMES
        yield "neighbours", Sample(tuple(zone.difference(newest - n - 1, newest - n) for n in range(4 * TIMES)))
        yield "far", Sample(tuple(zone.difference(n, n + SERIALS) for n in range(1, TIMES + 1)))


def rows() -> Iterator[Row]:
    """The rows of the table."""
    for what, ours, first in large():
        yield Row(f"zone of {2 * DOMAINS:,} records: {what}", ours, first, "its first serial", floor=1.5)
    floors = {
        "neighbours": ("consecutive serials", 10.0),
        "far": (f"serials {SERIALS} apart, {CHANGES:,} rules changed in each", 1000.0),
    }
    for name, found in far():
        title, floor = floors[name]
        yield Row(f"making the file of an IXFR between {title}", found, None, "", "ms", floor)

"""Makes the differences between two serials of a zone, for IXFR (RFC 1995), when the first secondary asks for one.

On the disk: a file for each difference under ixfr/ (store/ixfr.py), which may be deleted at any time. In memory: the
fingerprints of the files that this process has written. A file with another fingerprint is not read, but made again.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Final, NamedTuple

from blocklistd.errors import StoreError
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import MAX_RENDERINGS, SMALL_DIFF
from blocklistd.pipeline.resources import Resources
from blocklistd.rpz.wire import Apex
from blocklistd.serve.dns.zones import ZoneView
from blocklistd.store.ixfr import SerialDeltas, deltas_from_serial, ixfr_path, read_ixfr, write_ixfr

FEW_DELTAS: Final = 64  # deltas that are merged in a thread; more are merged in a job


class ZoneDifference(NamedTuple):
    """The difference between two serials: the apex of the older one, and the compiled rules removed and added since."""

    apex: Apex
    removed: bytes
    added: bytes


class ZoneDifferences:
    """The differences of all zones. Simultaneous requests for one difference make it once."""

    def __init__(self, resources: Resources) -> None:
        self._store = resources.store
        self._database = resources.database
        self._jobs = resources.jobs
        self._verified = resources.verified
        self._tasks: dict[tuple[str, int, int], asyncio.Future[None]] = {}
        self._fingerprints: dict[tuple[str, int, int], str | None] = {}
        """By (zone, from serial, to serial): the fingerprint of the file that this process wrote; None if the
        difference is larger than the zone."""
        self._slots = asyncio.Semaphore(MAX_RENDERINGS)  # fewer than there are jobs: commits always find a free one

    def forget(self, zone: str, serial: int) -> None:
        """Forgets the zone's differences that do not end at `serial`."""
        for key in [key for key in self._fingerprints if key[0] == zone and key[2] != serial]:
            del self._fingerprints[key]

    async def between(self, view: ZoneView, since: int) -> ZoneDifference | None:
        """Return the difference from serial `since` to the serial of `view`. None if the zone itself is smaller, or the
        deltas since then are not kept. Raises DamagedError if a delta is damaged, and StoreError."""
        key = (view.plan.name, since, view.serial)
        deltas = await self._database.reading(lambda connection: deltas_from_serial(connection, *key))
        for _ in range(2):
            if deltas is None:
                return None
            if key not in self._fingerprints:
                if key not in self._tasks:
                    made = asyncio.ensure_future(self._write(view, since, deltas))
                    made.add_done_callback(lambda _: self._tasks.pop(key, None))
                    self._tasks[key] = made
                await asyncio.shield(self._tasks[key])
            known = self._fingerprints.get(key)
            if known is None:
                return None
            compiled = await asyncio.to_thread(read_ixfr, ixfr_path(self._store, *key), known)
            if compiled is not None:
                return ZoneDifference(deltas.apex, *compiled)
            if self._fingerprints.get(key) == known:  # the file was changed, or deleted to make room
                del self._fingerprints[key]
        raise StoreError(f"zone {view.plan.name}: another program keeps changing files under ixfr/: stop that program")

    async def _write(self, view: ZoneView, start: int, deltas: SerialDeltas) -> None:
        """Write the file of a difference, and remember its fingerprint."""
        plan, is_small = view.plan, deltas.changes <= SMALL_DIFF and len(deltas.deltas) <= FEW_DELTAS
        verified, most = self._verified.of(deltas.deltas), max(view.records, 1)
        arguments = (self._store, plan, start, view.serial, deltas.deltas, most, verified)
        if is_small:
            answer = await asyncio.to_thread(functools.partial(write_ixfr, *arguments, alone=True))
        else:
            async with self._slots:
                answer = await self._jobs.run(write_ixfr, *arguments, limits=COMMIT)
        self._verified.learn(answer["verified"])
        self._fingerprints[plan.name, start, view.serial] = answer["fingerprint"]

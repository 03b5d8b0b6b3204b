"""Differences between two serials of a zone (IXFR, RFC 1995), netted from its sealed deltas and compiled into a file.

On the disk: `ixfr/ZONE/START-END`, with the length in bytes of the compiled rules that are removed, a newline, these
rules, and the SOA and rules that are added. The file is a rendering: its name contains no digest to verify it by, so
the caller remembers the stat fingerprint that `write_ixfr` returns and passes it to `read_ixfr`.

Long deltas are split at the same rules into parts of about PART bytes together. Each part is netted and compiled by
itself, on all cores, so no process has the rules of more than one part in memory.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, select

from blocklistd.errors import store_errors
from blocklistd.jobs.spread import Answer, processes, spread
from blocklistd.limits import CHUNK
from blocklistd.lines.delta import RULES, net_items, split_offsets_of_deltas
from blocklistd.lines.keys import Buffer
from blocklistd.model import Sha256
from blocklistd.rpz.wire import Apex, compile_rules, wire_name
from blocklistd.store.files import atomic, fingerprint
from blocklistd.store.schema_served import zone_serials
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified
from blocklistd.store.zones import ZonePlan, oldest_ixfr, zone_at

PART: Final = 4 << 20  # bytes of one part, of all deltas together


@dataclass(frozen=True, slots=True)
class SerialDeltas:
    """The deltas that lead from one serial to a later one. `changes`: rules that they remove and add, in sum. `apex`:
    the zone's apex at the first of the two serials."""

    apex: Apex
    deltas: tuple[Sha256, ...]
    changes: int


def deltas_from_serial(connection: Connection, zone: str, start: int, end: int) -> SerialDeltas | None:
    """The deltas from serial `start` to serial `end`; None if one is not kept or the zone never had the serial `start`.

    `serial_start` skips serials, and a secondary that followed another primary before may have one of these.
    """
    oldest, had = oldest_ixfr(connection, zone), zone_at(connection, zone, start)
    if oldest is None or had is None or start < oldest:
        return None
    rows = connection.execute(
        select(zone_serials.c.delta, zone_serials.c.added + zone_serials.c.removed)
        .where(zone_serials.c.zone == zone, zone_serials.c.serial > start, zone_serials.c.serial <= end)
        .order_by(zone_serials.c.serial)
    ).all()
    return SerialDeltas(had.plan.apex, tuple(delta for delta, _ in rows), sum(changes for _, changes in rows))


def ixfr_path(store: Store, zone: str, start: int, end: int) -> Path:
    """The file of the difference from serial `start` to serial `end`."""
    return store.ixfr / zone / f"{start}-{end}"


def write_ixfr(
    store: Store,
    plan: ZonePlan,
    start: int,
    end: int,
    deltas: Sequence[Sha256],
    most: int,
    fingerprints: Fingerprints,
    *,
    alone: bool = False,
) -> dict[str, Any]:
    """The job that writes the difference from `start` to `end`, to which `deltas` lead, as a file.

    `most`: if more rules change, no file is written. `fingerprints`: of the deltas that were verified.
    `alone`: start no other processes. Returns `fingerprint`: of the file, or None if none was written; and `verified`:
    the fingerprints of the deltas. Raises DamagedError for a missing or damaged delta, StoreError for an error of the
    disk.
    """
    path, files = ixfr_path(store, plan.name, start, end), store.sealed
    with store_errors(store.ixfr):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    verified = Verified(files, fingerprints)
    with verified.reading(deltas), ExitStack() as stack:
        buffers = [stack.enter_context(files.map(digest)) for digest in deltas]
        made = _compile(buffers, plan, end, 1 if alone else processes())
    answer = {"fingerprint": None, "verified": verified.of(deltas)}
    if made.changes > most:
        return answer
    with atomic(files.disk, path.with_name(f".{secrets.token_hex(16)}"), lambda: path, sync=False) as draft:
        draft.write(b"%d\n" % sum(map(len, made.removed)))
        for compiled in (*made.removed, *made.added):
            for begin in range(0, len(compiled), CHUNK):
                draft.write(compiled[begin : begin + CHUNK])
    return {**answer, "fingerprint": fingerprint(path)}


@dataclass(slots=True)
class _Compiled:
    """The compiled rules that are removed and added, in blocks, and how many rules these are."""

    removed: list[bytes] = field(default_factory=list)
    added: list[bytes] = field(default_factory=list)
    changes: int = 0


def _compile(deltas: Sequence[Buffer], plan: ZonePlan, end: int, count: int) -> _Compiled:
    zone, action, soa = wire_name(plan.name), plan.ruling.action, plan.apex.soa(end)
    offsets = split_offsets_of_deltas(RULES, deltas, PART)

    def work(part: int) -> Answer:
        lines = b"".join([delta[at[part] : at[part + 1]] for delta, at in zip(deltas, offsets, strict=True)])
        removes, adds = map(sorted, net_items(RULES, lines))
        # The SOA precedes the first added rule of all parts. A later part does not know whether the parts before it
        # add rules, so it compiles its first rule both with and without the SOA.
        first = [] if part == 0 else adds[:1]
        blocks = [
            b"".join(compile_rules(removes, zone, action)),
            b"".join(compile_rules(first, zone, action, lead=soa)),
            b"".join(compile_rules(first, zone, action)),
            b"".join(compile_rules(adds[len(first) :], zone, action, lead=b"" if part else soa)),
        ]
        return {"changes": len(removes) + len(adds), "lengths": [len(block) for block in blocks]}, b"".join(blocks)

    made = _Compiled()
    parts = len(offsets[0]) - 1 if offsets else 0
    with spread(work, min(count, parts)) as answers:
        for figures, data in answers(parts):
            made.changes += figures["changes"]
            blocks = [data[stop - size : stop] for size, stop in _lengths_and_ends(figures["lengths"])]
            removed, with_soa, without, added = blocks
            made.removed.append(removed)
            made.added += (without if any(made.added) else with_soa, added)
    return made


def _lengths_and_ends(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(lengths, accumulate(lengths), strict=True)


def read_ixfr(path: Path, expected: str) -> tuple[bytes, bytes] | None:
    """Returns the compiled rules that are removed, and those that are added, after the SOA; None if the file's
    fingerprint is not `expected`. Raises StoreError for an error of the disk."""
    if fingerprint(path) != expected:
        return None
    with store_errors(path.parent):
        length, _, compiled = path.read_bytes().partition(b"\n")
    if fingerprint(path) != expected:
        return None
    return compiled[: int(length)], compiled[int(length) :]

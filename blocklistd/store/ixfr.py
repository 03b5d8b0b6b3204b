"""Differences of two serials (IXFR, RFC 1995), netted from a zone's sealed deltas and compiled into a file.

The file is a rendering: no digest in its name says what is in it. Whoever had it written remembers its fingerprint.

Long deltas are split at the same rules into parts of some PART bytes in sum. Each is netted and compiled by itself, on
all cores, so no process holds the rules of more than one part.
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
from blocklistd.lines.delta import RULES, cuts_of_deltas, net_items
from blocklistd.lines.keys import Buffer
from blocklistd.model import Sha256
from blocklistd.rpz.wire import Apex, compile_rules, wire_name
from blocklistd.store.files import atomic, fingerprint
from blocklistd.store.schema import zone_serials
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified
from blocklistd.store.zones import ZonePlan, oldest_ixfr, zone_at

PART: Final = 4 << 20  # bytes of all deltas together that are netted at once


@dataclass(frozen=True, slots=True)
class Way:
    """The deltas that lead from a serial to a later one, and how many rules they remove and add in sum. `apex` is the
    zone's apex at the serial where they start."""

    apex: Apex
    deltas: tuple[Sha256, ...]
    changes: int


def way_from(connection: Connection, zone: str, start: int, end: int) -> Way | None:
    """None where a delta is not kept, or the zone never had the serial `start`: `serial_start` leaves some out, and a
    secondary that was another's may hold one of these."""
    oldest, had = oldest_ixfr(connection, zone), zone_at(connection, zone, start)
    if oldest is None or had is None or start < oldest:
        return None
    rows = connection.execute(
        select(zone_serials.c.delta, zone_serials.c.added + zone_serials.c.removed)
        .where(zone_serials.c.zone == zone, zone_serials.c.serial > start, zone_serials.c.serial <= end)
        .order_by(zone_serials.c.serial)
    ).all()
    return Way(had.plan.apex, tuple(delta for delta, _ in rows), sum(changes for _, changes in rows))


def ixfr_path(store: Store, zone: str, start: int, end: int) -> Path:
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
    """The job: writes the difference of two serials, which these deltas lead through, as a file: the length of the
    compiled rules that are removed, a newline, these rules, and SOA and rules that are added.

    `fingerprints` are those of the deltas that were verified; `alone`: no other processes are started. The answer has
    the file's `fingerprint`, None if more than `most` rules change (no file is written then), and under `verified` the
    fingerprints of the deltas. Raises DamagedError for a delta that is missing or damaged.
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
    with atomic(files.disk, path.with_name(f".{secrets.token_hex(16)}"), lambda: path) as draft:
        draft.write(b"%d\n" % sum(map(len, made.removed)))
        for compiled in (*made.removed, *made.added):
            for begin in range(0, len(compiled), CHUNK):
                draft.write(compiled[begin : begin + CHUNK])
    return {**answer, "fingerprint": fingerprint(path)}


@dataclass(slots=True)
class _Compiled:
    """Messages of rules that are removed and added, in pieces, and how many rules these are."""

    removed: list[bytes] = field(default_factory=list)
    added: list[bytes] = field(default_factory=list)
    changes: int = 0


def _compile(deltas: Sequence[Buffer], plan: ZonePlan, end: int, count: int) -> _Compiled:
    zone, action, soa = wire_name(plan.name), plan.ruling.action, plan.apex.soa(end)
    cuts = cuts_of_deltas(RULES, deltas, PART)

    def work(part: int) -> Answer:
        lines = b"".join([delta[at[part] : at[part + 1]] for delta, at in zip(deltas, cuts, strict=True)])
        removes, adds = map(sorted, net_items(RULES, lines))
        first = [] if part == 0 else adds[:1]  # the SOA goes before the first rule of all: perhaps this one
        pieces = [
            b"".join(compile_rules(removes, zone, action)),
            b"".join(compile_rules(first, zone, action, lead=soa)),
            b"".join(compile_rules(first, zone, action)),
            b"".join(compile_rules(adds[len(first) :], zone, action, lead=b"" if part else soa)),
        ]
        return {"changes": len(removes) + len(adds), "lengths": [len(piece) for piece in pieces]}, b"".join(pieces)

    made = _Compiled()
    parts = len(cuts[0]) - 1 if cuts else 0
    with spread(work, min(count, parts)) as answers:
        for figures, data in answers(parts):
            made.changes += figures["changes"]
            pieces = [data[stop - size : stop] for size, stop in _ends(figures["lengths"])]
            removed, with_soa, without, added = pieces
            made.removed.append(removed)
            made.added += (without if any(made.added) else with_soa, added)
    return made


def _ends(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(lengths, accumulate(lengths), strict=True)


def read_ixfr(path: Path, expected: str) -> tuple[bytes, bytes] | None:
    """The compiled rules that are removed and added; None if the file has another fingerprint than `expected`."""
    if fingerprint(path) != expected:
        return None
    with store_errors(path.parent):
        length, _, compiled = path.read_bytes().partition(b"\n")
    if fingerprint(path) != expected:
        return None
    return compiled[: int(length)], compiled[int(length) :]

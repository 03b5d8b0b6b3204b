"""The interfaces of the fast machinery, and a plain implementation of each: read everything, a dictionary, sort.

The modules `sources/intake/entries.py`, `lines/delta.py` and `compose/compose.py` have these interfaces, and so has
this one. mypy holds the signatures; the property tests run random histories through both.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import BinaryIO, Protocol

import orjson

from blocklistd.compose.compose import ADDITIONS, ENDED, LIFETIME, QUORUM, ListRules, withheld
from blocklistd.compose.compose_all import ComposedChunk
from blocklistd.kinds import DIGITS, KINDS, InvalidEntry, is_host_of
from blocklistd.lines.delta import DeltaPart, Form
from blocklistd.lines.exceptions import EXCEPTION
from blocklistd.lines.keys import Buffer
from blocklistd.model import Entry
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions, Reject
from blocklistd.sources.intake.canonical import Canonical, Notes
from blocklistd.sources.intake.entries import Entries, first_line
from blocklistd.sources.intake.incremental import Base


class Bodies(Protocol):
    """From a body, and the last one, to what it asserts."""

    def read_entries(
        self, body: Buffer, format: str, options: FormatOptions, base: Base | None, out: BinaryIO
    ) -> Entries: ...


class Deltas(Protocol):
    """The algebra of sorted files of items and their deltas."""

    def between(self, form: Form, old: Buffer, new: Buffer) -> Iterable[DeltaPart]: ...

    def apply(self, form: Form, old: Buffer, delta: Buffer) -> Iterable[bytes | memoryview]: ...

    def net(self, form: Form, deltas: Sequence[Buffer], *, reverse: bool = False) -> Iterable[DeltaPart]: ...


class Composing(Protocol):
    """From what the sources assert, in order of precedence, to the snapshot of a list."""

    def compose_all(self, sources: Sequence[Buffer], rules: ListRules) -> Iterable[ComposedChunk]: ...


# -- bodies ------------------------------------------------------------------------------------------------------------


def read_entries(body: Buffer, format: str, options: FormatOptions, base: Base | None, out: BinaryIO) -> Entries:
    """All of the body, whatever the last one was."""
    records = FORMATS[format].records(io.BytesIO(body[first_line(body, format) :]), options)
    lines: dict[tuple[str, str], list[str]] = {}
    rejects = []
    dropped = 0
    for record in records:
        if isinstance(record, Reject):
            rejects.append((record.number, record.code))
            continue
        try:
            value = KINDS[record.type](record.value)
            if record.host and record.type not in DIGITS and not is_host_of(record.host, value):
                raise InvalidEntry("other-host")
        except InvalidEntry as refused:
            rejects.append((record.number, refused.code))
            continue
        line = Entry(record.type, value, record.attributes).line().decode()
        lines.setdefault((record.type, value), []).append(line)
        dropped += record.dropped
    kept = [max(sorted(found), key=lambda line: orjson.loads(line).get("expires", "~")) for found in lines.values()]
    out.writelines(sorted(f"{line}\n".encode() for line in kept))
    return Entries(
        Canonical(
            records=sum(map(len, lines.values())) + len(rejects),
            types=Counter(kind for kind, _ in lines),
            dropped_attributes=dropped,
            notes=Notes(sorted(line for found in lines.values() if len(found) > 1 for line in found), sorted(rejects)),
        )
    )


# -- deltas ------------------------------------------------------------------------------------------------------------


def between(form: Form, old: Buffer, new: Buffer) -> Iterator[DeltaPart]:
    was, now = set(_lines(old)), set(_lines(new))
    return _delta(form, was - now, now - was)


def apply(form: Form, old: Buffer, delta: Buffer) -> Iterator[bytes]:
    items = set(_lines(old))
    for is_added, item in _changes(form, delta):
        if (item in items) == is_added:
            raise ValueError("a line to add is already present" if is_added else "a line to remove is missing")
        items ^= {item}
    yield b"".join(item + b"\n" for item in sorted(items))


def net(form: Form, deltas: Sequence[Buffer], *, reverse: bool = False) -> Iterator[DeltaPart]:
    balance: Counter[bytes] = Counter()
    for delta in deltas:
        for is_added, item in _changes(form, delta):
            balance[item] += 1 if is_added else -1
    removes, adds = ({item for item, count in balance.items() if count == sign} for sign in (-1, 1))
    return _delta(form, adds, removes) if reverse else _delta(form, removes, adds)


def _delta(form: Form, removes: set[bytes], adds: set[bytes]) -> Iterator[DeltaPart]:
    gone, come = ({form.keys([item])[0]: item for item in items} for items in (removes, adds))
    changes = [(key, 0, form.remove + item) for key, item in gone.items()]
    changes += [(key, 1, form.add + item) for key, item in come.items()]
    both = len(gone.keys() & come.keys())
    data = b"".join(line + form.end + b"\n" for _, _, line in sorted(changes))
    yield DeltaPart(data, removed=len(gone) - both, added=len(come) - both, changed=both)


def _changes(form: Form, delta: Buffer) -> Iterator[tuple[bool, bytes]]:
    return ((line.startswith(form.add), form.item(line)) for line in _lines(delta))


def _lines(buffer: Buffer) -> list[bytes]:
    return buffer[:].split(b"\n")[:-1]


# -- lists -------------------------------------------------------------------------------------------------------------


def compose_all(
    sources: Sequence[Buffer],
    rules: ListRules,
    live: Collection[bytes] = (),
    has_outlived: Callable[[bytes, bytes], bool] = lambda key, now: False,
) -> Iterator[ComposedChunk]:
    """`live`: the keys of the live version. `has_outlived`: whether the entry of a key has ended by its age."""
    asserted: dict[tuple[str, str], list[dict[str, str | int]]] = {}
    for source in sources:
        for line in _lines(source):
            attributes = orjson.loads(line)
            asserted.setdefault((attributes.pop("type"), attributes.pop("value")), []).append(attributes)
    lines: list[bytes] = []
    expiries: list[bytes] = []
    counts: Counter[str] = Counter()
    for key, line in rules.tests.items():
        asserted.pop((orjson.loads(line)["type"], orjson.loads(line)["value"]), None)
        if key in rules.corrected:
            counts[rules.corrected[key]] += 1
        else:
            lines.append(line + b"\n")
    for (kind, value), every in asserted.items():
        plain = Entry(kind, value).line()
        now = "" if rules.now is None else rules.now.decode()
        lasting = [attributes for attributes in every if str(attributes.get("expires", "~")) > now]
        reason = withheld(plain, rules)
        if reason is None and not lasting:
            reason = ENDED
        if reason is None and len(lasting) < rules.quorum:
            reason = QUORUM
        if reason is None and rules.now is not None and has_outlived(plain[:-1], rules.now):
            reason = None if rules.keeps_live and plain[:-1] in live else LIFETIME
        if reason is None:
            reason = rules.corrected.get(plain[:-1])
        stopped = not rules.additions or rules.pending.rule_of(kind, value)
        if reason is None and stopped and plain[:-1] not in live:
            reason = ADDITIONS
        digest = hashlib.blake2b(f"{kind}\0{value}".encode(), digest_size=16, key=rules.ids.secret)
        attributes = {"id": f"e-{digest.hexdigest()}"} | (lasting or every)[0]
        if reason is None and attributes["id"] in rules.excepted:
            reason = EXCEPTION
        if reason is not None:
            counts[reason] += 1
            continue
        expiries += [str(attributes["expires"]).encode()] if "expires" in attributes else []
        lines.append(Entry(kind, value, attributes).line() + b"\n")
    yield ComposedChunk(b"".join(sorted(lines)), len(lines), dict(counts), min(expiries, default=None))

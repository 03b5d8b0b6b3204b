"""What a list is made of: the entries that its sources assert, in their order of precedence, with their ids.

Pure: sorted buffers in, sorted lines out. `compose` evaluates only what differs between what a source asserted before
and what it asserts now; `compose_all` evaluates everything, for a first version and where the list's own
configuration changed. Both give the same lines, which a property test holds.

Lines order by their key (lines.py): no key is the beginning of another, so attributes and ids never change the order.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from typing import Final

import orjson

from blocklistd.kinds.name import is_public_suffix
from blocklistd.kinds.url import is_address_url
from blocklistd.lines import Buffer, key_of, type_and_value
from blocklistd.outputs.snapshot import changed_lines, find, lines

ID_BYTES: Final = 16
_DOMAIN: Final = b'{"type":"domain"'
_URL: Final = b'{"type":"url"'


@dataclass(frozen=True, slots=True)
class Rules:
    """What of its sources a list takes. `secret` makes the ids: stable, and no offline test of what is listed."""

    secret: bytes
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool


@dataclass(slots=True)
class Composition:
    """A difference from the live version: sorted lines to remove and to add, and counts by (type, value).

    `withheld` counts, by rule, what was asserted and is left out.
    """

    removes: list[bytes]
    adds: list[bytes]
    withheld: dict[str, int] = field(default_factory=dict)
    added: int = 0
    removed: int = 0
    changed: int = 0

    def __post_init__(self) -> None:
        gone, come = {key_of(line) for line in self.removes}, {key_of(line) for line in self.adds}
        self.changed = len(gone & come)
        self.added, self.removed = len(come) - self.changed, len(gone) - self.changed

    def __bool__(self) -> bool:
        return bool(self.removes or self.adds)


def with_id(line: bytes, secret: bytes) -> bytes:
    """The line as subscribers get it: `id` is `e-` and 128 bits of HMAC-SHA-256 over type, NUL, value."""
    kind, value = type_and_value(line)
    digest = hmac.digest(secret, kind + b"\0" + value, "sha256")[:ID_BYTES].hex()
    if line.endswith(b'"}') and line.count(b'":"') == 2:  # type and value alone, the common case
        return b'%b,"id":"e-%b"}' % (line[:-1], digest.encode())
    record = orjson.loads(line)
    first = {"type": record.pop("type"), "value": record.pop("value")}
    return orjson.dumps(first | dict(sorted((record | {"id": f"e-{digest}"}).items())))


def withheld(line: bytes, rules: Rules) -> str | None:
    """The rule that keeps an asserted entry out of the list, or None. Never a reason to hold all the others."""
    kind = line[9 : line.index(b'"', 9)].decode()
    if kind not in rules.types:
        return f"type {kind}"
    if not rules.allow_ip and line.startswith(_URL) and is_address_url(type_and_value(line)[1].decode()):
        return "allow_ip"
    if not rules.allow_public_suffix and line.startswith(_DOMAIN):
        return "allow_public_suffix" if is_public_suffix(type_and_value(line)[1].decode()) else None
    return None


def compose(live: Buffer, touched: Iterable[bytes], sources: Sequence[Buffer], rules: Rules) -> Composition:
    """The change that follows where only the keys of the `touched` lines may have another answer than before.

    `sources` are what each source asserts now, in order of precedence: the first that asserts a key gives its
    attributes.
    """
    removes, adds, counts = [], [], dict[str, int]()
    for key in sorted({key_of(line) for line in touched}):
        before = find(live, key)
        asserted = next((line for source in sources if (line := find(source, key)) is not None), None)
        after = _admit(asserted, rules, counts) if asserted is not None else None
        if before != after:
            if before is not None:
                removes.append(before)
            if after is not None:
                adds.append(after)
    return Composition(removes, adds, counts)


def compose_all(live: Buffer, sources: Sequence[Buffer], rules: Rules) -> Composition:
    """The change to what all sources assert, every key evaluated."""
    counts = dict[str, int]()
    composed = [line for asserted in first_of_each(sources) if (line := _admit(asserted, rules, counts)) is not None]
    if not live:
        return Composition([], composed, counts)
    removes, adds = changed_lines(live, b"".join(line + b"\n" for line in composed))
    return Composition(removes, adds, counts)


def first_of_each(sources: Sequence[Buffer]) -> Iterator[bytes]:
    """All keys of sorted buffers in order, each with the line of the first source that has it."""
    if len(sources) == 1:
        yield from lines(sources[0])
        return

    def ranked(buffer: Buffer, rank: int) -> Iterator[tuple[bytes, int, bytes]]:
        return ((key_of(line), rank, line) for line in lines(buffer))

    last = None
    for key, _, line in merge(*(ranked(buffer, rank) for rank, buffer in enumerate(sources))):
        if key != last:
            yield line
            last = key


def _admit(line: bytes, rules: Rules, counts: dict[str, int]) -> bytes | None:
    reason = withheld(line, rules)
    if reason is None:
        return with_id(line, rules.secret)
    counts[reason] = counts.get(reason, 0) + 1
    return None

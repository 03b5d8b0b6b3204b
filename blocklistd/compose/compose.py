"""Composes a list from the entries that its sources assert, in their order of precedence, and adds the ids. Pure.

`evaluate` gives the result of one key: its line, or the rule that withholds it. The rules, in their order:

    delisted, embargoed, excepted           a correction of a test entry is in force; no other rule withholds one
    exception                               the same for a local exception
    type X, ip, public_suffix               the entry alone (`withheld`)
    never_block, own_name, shared_hosts     a guard file has its name (names.py)
    expired                                 every source that lists it says that it has ended
    quorum                                  fewer than `quorum` sources assert it
    lifetime                                nobody has confirmed it for too long (lifetimes.py)
    delisted, embargoed, excepted           a correction is in force
    exception                               a local exception (lines/exceptions.py) has its name, or has its id
    additions                               the entry is not live, and a guard file is unusable, or its names wait for
                                            a release and have the entry's

`compose` evaluates only the keys that a change touches and returns the difference from the live version. `compose_all`
(compose_all.py) evaluates every key and returns the whole snapshot: for a first version, and after a change of policy.
Both lead to the same lines; property tests hold that.

Lines sort by their key (lines/keys.py). No key is a prefix of another, so attributes and ids never change the order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from blocklistd.compose.names import NO_NAMES, NameRules
from blocklistd.kinds.name import is_public_suffix
from blocklistd.kinds.url import is_address_url
from blocklistd.lines.exceptions import EXCEPTION
from blocklistd.lines.expiry import earliest, expiry_of, has_ended
from blocklistd.lines.ids import Ids
from blocklistd.lines.keys import Buffer, key_of, type_and_value
from blocklistd.lines.snapshot import find
from blocklistd.model import ID, TEST, Entry

ENDED: Final = "expired"
"""The rule that withholds the entries whose `expires` has passed."""
QUORUM: Final = "quorum"
LIFETIME: Final = "lifetime"
ADDITIONS: Final = "additions"
NAME_RULES: Final = ("never_block", "own_name", "shared_hosts")
"""The rules whose hits people see by id."""

Find = Callable[[bytes], bytes | None]
"""Returns the line with a key, or None."""
Asserted = Sequence[tuple[int, bytes]]
"""The lines of the sources that assert a key, in precedence, each with the index of its source."""


class EndsByAge(Protocol):
    """When entries end by their age (lifetimes.EntryAges). An object is for one set of sources."""

    def end_of(self, key: bytes, asserted: Asserted) -> bytes | None:
        """The instant at which the entry ends; None if it does not end. `asserted`: without lines that have ended."""

    def first_end(self, parts: Sequence[bytes]) -> bytes | None:
        """An instant before which no entry of these lines ends; None: none ends. `parts`: of each source."""


@dataclass(frozen=True, slots=True)
class ListRules:
    """Which entries of its sources a list takes, and how the ids of its entries are made.

    - `now`: entries that end by this instant have ended (lines/expiry.py); None: no entry has.
    - `quorum`: so many sources have to assert an entry. `names`: the names of guard files.
    - `corrected`: the keys of the corrections in force and of local exceptions, each with the rule that it gives.
    - `excepted`: the ids of local exceptions.
    - `lifetimes`: None: entries don't end by age. `keeps_live`: a live entry whose lifetime has ended stays live, since
      only an expiry takes it out. `additions`: False: entries that are not live are withheld.
    - `pending`: entries that are not live and hit one of these names are withheld.
    - `tests`: the lines of the test entries by key; they replace what sources assert.
    """

    ids: Ids
    types: tuple[str, ...]
    allow_public_suffix: bool
    allow_ip: bool
    now: bytes | None = None
    quorum: int = 1
    names: NameRules = NO_NAMES
    corrected: Mapping[bytes, str] = field(default_factory=dict)
    lifetimes: EndsByAge | None = None
    keeps_live: bool = False
    additions: bool = True
    pending: NameRules = NO_NAMES
    excepted: frozenset[str] = frozenset()
    tests: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def stops_additions(self) -> bool:
        """Whether entries may be withheld because they are not live."""
        return bool(self.pending) or not self.additions


class Evaluated(NamedTuple):
    """The result of a key: the `line` of the list, or the `rule` that withholds it; neither: no source asserts it.
    `until`: the first instant at which that may change by itself; None: never."""

    line: bytes | None
    rule: str | None
    until: bytes | None = None


class Hit(NamedTuple):
    """An entry that a guard file withholds: its id, the rule, its type and value."""

    id: str
    rule: str
    type: str
    value: str


@dataclass(slots=True)
class Composition:
    """A difference from the live version: the lines to remove and to add, each sorted. `withheld`: by rule, the change
    in the number of asserted entries that the rule withholds; negative if it withholds fewer than before. `hits`: the
    touched entries that a guard file withholds. `no_hits`: ids of those that none withholds any more. `next_expiry`:
    the first instant at which a touched key may change by itself; None if none does."""

    removes: list[bytes]
    adds: list[bytes]
    withheld: dict[str, int]
    hits: list[Hit] = field(default_factory=list)
    no_hits: list[str] = field(default_factory=list)
    next_expiry: bytes | None = None


def with_id(line: bytes, ids: Ids) -> bytes:
    """The line as subscribers get it: with an id of this list, unless the asserted line has an id of its own."""
    entry = Entry.from_line(line)
    if ID in entry.attributes:
        return line
    entry.attributes[ID] = ids.of(entry.type.encode(), entry.value.encode())
    return entry.line()


def line_of_test(host: str, ids: Ids) -> bytes:
    """The line of a test entry."""
    return with_id(Entry("host", host, {TEST: True}).line(), ids)


def keys_of_tests(hosts: Iterable[str]) -> tuple[bytes, ...]:
    """The keys of test entries."""
    return tuple(key_of(Entry("host", host).line()) for host in hosts)


def hit_of(line: bytes, rule: str, ids: Ids) -> Hit:
    """The hit of an asserted line."""
    entry = Entry.from_line(with_id(line, ids))
    return Hit(str(entry.attributes[ID]), rule, entry.type, entry.value)


def withheld(line: bytes, rules: ListRules) -> str | None:
    """Return the rule that withholds an asserted entry, judged by its type and value alone; None if no rule does. The
    other entries of the change are not affected."""
    rule = by_entry(line, rules)
    if rule is not None or not rules.names:
        return rule
    kind, value = type_and_value(line)
    return rules.names.rule_of(kind.decode(), value.decode())


def by_entry(line: bytes, rules: ListRules) -> str | None:
    """`withheld`, without the names of guard files."""
    kind = kind_of(line)
    if kind not in rules.types:
        return f"type {kind}"
    if not rules.allow_ip and (kind == "ip" or (kind == "url" and is_address_url(type_and_value(line)[1].decode()))):
        return "ip"
    if not rules.allow_public_suffix and kind == "domain" and is_public_suffix(type_and_value(line)[1].decode()):
        return "public_suffix"
    return None


def kind_of(line: bytes) -> str:
    """The type of a line's entry."""
    return line[9 : line.index(b'"', 9)].decode()


def evaluate(key: bytes, asserted: Asserted, rules: ListRules, *, is_live: bool) -> Evaluated:
    """The result of a key that these sources assert. `is_live`: whether the live version has it."""
    if (test := rules.tests.get(key)) is not None:
        rule = rules.corrected.get(key)
        return Evaluated(test if rule is None else None, rule)
    if not asserted:
        return Evaluated(None, None)
    rule = withheld(asserted[0][1], rules)
    if rule is not None:
        return Evaluated(None, rule)
    lasting = [(source, line) for source, line in asserted if not has_ended(line, rules.now)]
    if not lasting:
        return Evaluated(None, ENDED)
    until = earliest(expiry_of(line) for _, line in (lasting if rules.quorum > 1 else lasting[:1]))
    if len(lasting) < rules.quorum:
        return Evaluated(None, QUORUM, until)
    end = rules.lifetimes.end_of(key, lasting) if rules.lifetimes else None
    if end is not None and rules.now is not None and end <= rules.now and not (is_live and rules.keeps_live):
        return Evaluated(None, LIFETIME, until)
    until = earliest((until, end))
    rule = rules.corrected.get(key) or (None if is_live else _not_added(key, rules))
    if rule is not None:
        return Evaluated(None, rule, until)
    line = with_id(lasting[0][1], rules.ids)
    if rules.excepted and Entry.from_line(line).attributes[ID] in rules.excepted:
        return Evaluated(None, EXCEPTION, until)
    return Evaluated(line, None, until)


def _not_added(key: bytes, rules: ListRules) -> str | None:
    if rules.additions and not rules.pending:
        return None
    kind, value = type_and_value(key)
    return None if rules.additions and rules.pending.rule_of(kind.decode(), value.decode()) is None else ADDITIONS


def compose(
    live: Buffer,
    touched: Iterable[bytes],
    sources: Sequence[Find],
    rules: ListRules,
    accepted: Sequence[Find] = (),
    before: ListRules | None = None,
) -> Composition:
    """Compose the keys of the `touched` lines; no other key has changed.

    `sources` look a key up in what each source lists now, in order of precedence. `accepted` look it up in what the
    live version was composed from, under the rules `before` (None: `rules`).
    """
    found = Composition([], [], {})
    for key in sorted(set(map(key_of, touched))):
        live_line = find(live, key)
        is_live = live_line is not None
        old = _asserted(key, accepted)
        was = None if is_live else evaluate(key, old, before or rules, is_live=False).rule
        asserted = _asserted(key, sources)
        now = evaluate(key, asserted, rules, is_live=is_live)
        for rule, count in ((was, -1), (now.rule, 1)):
            if rule is not None:
                found.withheld[rule] = found.withheld.get(rule, 0) + count
        if now.rule in NAME_RULES:
            found.hits.append(hit_of(asserted[0][1], now.rule, rules.ids))
        if was in NAME_RULES:
            found.no_hits.append(hit_of(old[0][1], was, rules.ids).id)
        found.next_expiry = earliest((found.next_expiry, now.until))
        if live_line != now.line:
            if live_line is not None:
                found.removes.append(live_line)
            if now.line is not None:
                found.adds.append(now.line)
    return found


def _asserted(key: bytes, sources: Sequence[Find]) -> list[tuple[int, bytes]]:
    return [(index, line) for index, find_in in enumerate(sources) if (line := find_in(key)) is not None]

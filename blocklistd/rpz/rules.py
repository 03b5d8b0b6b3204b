"""From the entries of a list to the rules of a Response Policy Zone (draft-vixie-dnsop-dns-rpz). Pure.

entries → names → rules → DNS messages (rpz/wire.py), each step a file of sorted lines:

- A *name* is an entry as a line: its labels from the root down, joined by NUL, then two NULs and `d` for a domain or
  `h` for a host. A name sorts before all names below it, and these sort before any other name. The name of an address
  or a prefix is `rpz-ip`, NUL, `4` or `6`, its bits as a text of zeros and ones, two NULs and `i`; the names below it
  are those of the prefixes in it.
- A *rule* is the owner of one record: the labels from the root down, joined by NUL. It sorts in canonical DNS order
  (RFC 4034 section 6.1). A last label `*` is the wildcard of the name before it.

A host makes one rule, a domain two: its name and the wildcard below it; an address one (rpz/addresses.py). An entry
below a listed domain is *covered*: it makes no rule, since its rule would be the closest encloser for names below it
and would take them out of the domain's wildcard (RFC 4592 section 3.3). A prefix in a listed prefix is covered, too:
all rules of a zone have one action, so its rule would change nothing. An entry whose owner would exceed 255 octets in
the zone is *omitted*.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final

import orjson

from blocklistd.kinds.ip import bits, of_bits
from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.snapshot import lines, position
from blocklistd.model import TEST
from blocklistd.rpz.addresses import ip_owner

MAX_OWNER: Final = 255  # octets of a name in wire format (RFC 1035 section 2.3.4)
WILDCARD: Final = b"\0*"
DOMAIN: Final = b"\0\0d"  # the end of the line of a domain
HOST: Final = b"\0\0h"  # the end of the line of a host
ADDRESS: Final = b"\0\0i"  # the end of the line of an address or a prefix
ELSEWHERE: Final = b"\0\0e"  # the end of the line of a domain whose rules are in another shard (rpz/shards.py)
ADDRESSES: Final = b"rpz-ip\0"  # the beginning of these lines, and of no other: no entry has such a last label

_HEADS: Final = (
    (b'{"type":"domain","value":"', DOMAIN),
    (b'{"type":"host","value":"', HOST),
    (b'{"type":"ip","value":"', ADDRESS),
)


@dataclass(slots=True)
class ZoneRules:
    """Rules in canonical order, the number of covered names, and the omitted names: once for each rule that is too
    long."""

    lines: list[bytes] = field(default_factory=list)
    covered: int = 0
    omitted: list[bytes] = field(default_factory=list)


def names(entries: Iterable[bytes], categories: Collection[str] = ()) -> list[bytes]:
    """Return the sorted names of the hosts, domains and addresses among the lines of a list; others are skipped.
    `categories`: only entries of these, and test entries; empty: all."""
    allowed = set(categories)
    found = []
    for line in entries:
        for head, end in _HEADS:  # noqa: B007
            if line.startswith(head):
                break
        else:
            continue
        if allowed and (entry := orjson.loads(line)).get("category") not in allowed and not entry.get(TEST):
            continue
        start = len(head)
        value = line[start : line.index(b'"', start)] if b"\\" not in line else type_and_value(line)[1]
        if end is ADDRESS:
            found.append(b"%b%d%b\0\0i" % (ADDRESSES, *_address_key(value)))
            continue
        labels = value.split(b".")
        labels.reverse()
        found.append(b"\0".join(labels) + end)
    found.sort()
    return found


def rules(names: Iterable[bytes], zone: str) -> ZoneRules:
    """Return the rules of sorted names in a zone; `zone` is the zone's name."""
    (made,) = rules_in_blocks(names, zone, sys.maxsize)
    return made


def longest_rule(zone: str) -> int:
    """The length in bytes of the longest rule whose owner fits into the zone."""
    return MAX_OWNER - (len(zone.rstrip(".")) + 2) - 1  # each label has an octet for its length


def rules_in_blocks(names: Iterable[bytes], zone: str, size: int) -> Iterator[ZoneRules]:
    """Yield the result of `rules` in blocks of about `size` rules; each block has its own counts."""
    longest = longest_rule(zone)
    made = ZoneRules()
    for name, parts in _rules_of(names):
        if not parts:
            made.covered += not name.endswith(ELSEWHERE)
            continue
        if len(made.lines) >= size:
            yield made
            made = ZoneRules()
        for rule in parts:
            if len(rule) > longest:
                made.omitted.append(name)
            else:
                made.lines.append(rule)
    yield made


def _rules_of(names: Iterable[bytes]) -> Iterator[tuple[bytes, tuple[bytes, ...]]]:
    """Yield each name with its rules, in the order of the rules: none if it is covered, or of another shard."""
    below = None
    addresses: list[tuple[bytes, bytes]] = []  # the rules of addresses are in another order than their names
    for name in names:
        key = name[: -len(DOMAIN)]
        if below is not None and name.startswith(below):
            yield name, ()
        elif name.endswith(ADDRESS):
            below = key
            addresses.append((rule_of(ip_owner(_value_of(key)).encode()), name))
        else:
            if addresses:
                yield from ((one, (rule,)) for rule, one in sorted(addresses))
                addresses = []
            if name.endswith(HOST):
                yield name, (key,)
                continue
            below = key + b"\0"
            yield name, (key, key + WILDCARD) if name.endswith(DOMAIN) else ()
    yield from ((one, (rule,)) for rule, one in sorted(addresses))


def _address_key(value: bytes) -> tuple[int, bytes]:
    version, prefix = bits(value.decode())
    return version, prefix.encode()


def _value_of(key: bytes) -> str:
    """The value of the address or prefix whose name begins with `key`."""
    at = len(ADDRESSES)
    return of_bits(int(key[at : at + 1]), key[at + 1 :].decode())


@dataclass(slots=True)
class RulesUpdate:
    """The effect of a change of names on the rules: removed and added rules, the change in the number of covered names,
    and the names that were omitted before and that are omitted now, among those that were looked at."""

    removes: list[bytes] = field(default_factory=list)
    adds: list[bytes] = field(default_factory=list)
    covered: int = 0
    omitted_before: list[bytes] = field(default_factory=list)
    omitted: list[bytes] = field(default_factory=list)


def update_rules(names: Buffer, removed: Iterable[bytes], added: Iterable[bytes], zone: str) -> RulesUpdate:
    """Update rules after a change of names. `names`: the sorted file of names before; `removed` are in it, `added` are
    not.

    A change affects the rules of its own name and of the names below it, so only these are compared. Most changed names
    are below a few others, which are searched for once.
    """
    made = RulesUpdate()
    without, fresh = set(removed), sorted(added)
    fresh_names = set(fresh)
    had = cache(partial(_contains, names))
    last = None
    for name in sorted([*without, *fresh]):
        key = name[: -len(DOMAIN)]
        root = key if name.endswith(ADDRESS) else key + b"\0"  # the prefix of this name and of all names below it
        if last is not None and root.startswith(last):
            continue
        last = root
        above = _above(root)
        old = _below(names, root)
        new = [one for one in old if one not in without]
        for at in range(bisect_left(fresh, root), len(fresh)):
            if not fresh[at].startswith(root):
                break
            new.append(fresh[at])
        before = _rules_below(old, any(map(had, above)), zone)
        covers = any(one in fresh_names or (one not in without and had(one)) for one in above)
        after = _rules_below(sorted(new), covers, zone)
        rules_before, rules_after = set(before.lines), set(after.lines)
        made.removes += sorted(rules_before - rules_after)
        made.adds += sorted(rules_after - rules_before)
        made.covered += after.covered - before.covered
        made.omitted_before += before.omitted
        made.omitted += after.omitted
    return made


def _above(root: bytes) -> list[bytes]:
    """The names of the domains, or of the prefixes, that would cover the names with the prefix `root`."""
    if root.startswith(ADDRESSES):
        return [root[:end] + ADDRESS for end in range(len(ADDRESSES) + 1, len(root))]
    labels = root[:-1].split(b"\0")
    keys = [b"\0".join(labels[:depth]) for depth in range(1, len(labels))]
    return [key + end for key in keys for end in (DOMAIN, ELSEWHERE)]


def _below(names: Buffer, root: bytes) -> list[bytes]:
    """The names of a file with the prefix `root`, in order."""
    start = end = position(names, root)
    while names[end : end + len(root)] == root:
        end = names.find(b"\n", end) + 1 or len(names)
    return list(lines(names[start:end]))


def _rules_below(found: list[bytes], is_covered: bool, zone: str) -> ZoneRules:
    """The rules of these names; none, and all covered, if a domain or a prefix above them is listed."""
    if is_covered:
        return ZoneRules(covered=sum(not name.endswith(ELSEWHERE) for name in found))
    return rules(found, zone)


def _contains(names: Buffer, name: bytes) -> bool:
    start = position(names, name)
    return names[start : start + len(name) + 1] == name + b"\n"


def entries_of(names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (type, value) of the entry of each name."""
    for name in names:
        key = name[: -len(DOMAIN)]
        if name.endswith(ADDRESS):
            yield b"ip", _value_of(key).encode()
        else:
            yield b"domain" if name.endswith(DOMAIN) else b"host", name_of(key)


def rule_of(name: bytes) -> bytes:
    """Return the rule whose owner is this domain name: the rule alone, without a wildcard."""
    return b"\0".join(reversed(name.split(b".")))


def name_of(rule: bytes) -> bytes:
    """Return the owner of a rule, in the usual order of labels."""
    return b".".join(reversed(rule.split(b"\0")))

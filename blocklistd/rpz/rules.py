"""The rules of a Response Policy Zone: which names of a list a zone holds. Pure.

A rule is a line that sorts as its owner does in canonical DNS order (RFC 4034 6.1): the labels from the root down,
joined by NUL; a last label `*` is the wildcard of the name before it. `host` makes one rule, `domain` two. What is at
or below a listed domain makes none while the domain is listed: the closest encloser wins (RFC 4592 3.3), so its own
rule would take names out of the domain's.

Between the two stand the names: a line for each entry, the rule of exactly its name, two NULs, and `d` for a domain or
`h` for a host. Sorted, a name comes before all that are below it, and these come before any other.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import orjson

from blocklistd.lines.keys import Buffer, type_and_value
from blocklistd.lines.snapshot import lines, position

MAX_OWNER: Final = 255  # octets of a name on the wire (RFC 1035 2.3.4)
WILDCARD: Final = b"\0*"
DOMAIN: Final = b"\0\0d"  # the end of a domain's name
HOST: Final = b"\0\0h"

_HEADS: Final = ((b'{"type":"domain","value":"', DOMAIN), (b'{"type":"host","value":"', HOST))


@dataclass(slots=True)
class Rules:
    """`lines` in canonical order; `covered` counts names that a listed domain speaks for, `omitted` has the names of
    which a rule does not fit, once for each rule."""

    lines: list[bytes] = field(default_factory=list)
    covered: int = 0
    omitted: list[bytes] = field(default_factory=list)


def names(entries: Iterable[bytes], categories: Collection[str] = ()) -> list[bytes]:
    """The names, sorted, of the hosts and domains among a list's lines; `categories`, if any, takes only entries of
    these."""
    wanted = set(categories)
    found = []
    for line in entries:
        for head, end in _HEADS:  # noqa: B007
            if line.startswith(head):
                break
        else:
            continue
        if wanted and orjson.loads(line).get("category") not in wanted:
            continue
        start = len(head)
        value = line[start : line.index(b'"', start)] if b"\\" not in line else type_and_value(line)[1]
        labels = value.split(b".")
        labels.reverse()
        found.append(b"\0".join(labels) + end)
    found.sort()
    return found


def rules(names: Iterable[bytes], zone: str) -> Rules:
    """The rules that a zone of that name has for these names, which come sorted."""
    (made,) = rules_in_blocks(names, zone, sys.maxsize)
    return made


def rules_in_blocks(names: Iterable[bytes], zone: str, size: int) -> Iterator[Rules]:
    """What `rules` answers, in parts of about so many rules; each part counts for itself."""
    room = MAX_OWNER - (len(zone.rstrip(".")) + 2)  # octets for the labels before the zone's name
    made = Rules()
    below = None
    for name in names:
        key = name[: -len(DOMAIN)]
        if below is not None and name.startswith(below):
            made.covered += 1
            continue
        if len(made.lines) >= size:
            yield made
            made = Rules()
        parts = [key]
        if name.endswith(DOMAIN):
            below = key + b"\0"
            parts.append(key + WILDCARD)
        for rule in parts:
            if len(rule) + 1 > room:
                made.omitted.append(name)
            else:
                made.lines.append(rule)
    yield made


@dataclass(slots=True)
class Revision:
    """What a change of names does: rules that go and come, names that are covered more (or fewer), and those that are
    no longer, or newly, omitted."""

    removes: list[bytes] = field(default_factory=list)
    adds: list[bytes] = field(default_factory=list)
    covered: int = 0
    unomitted: list[bytes] = field(default_factory=list)
    omitted: list[bytes] = field(default_factory=list)


def revise(old: Buffer, new: Buffer, changed: Iterable[bytes], zone: str) -> Revision:
    """What follows for the rules from `changed` names, all that only one of two sorted files has.

    A change speaks for its own name and for all below it, so only these are looked at.
    """
    made = Revision()
    last = None
    for name in sorted(changed):
        root = name[: -len(DOMAIN)] + b"\0"  # of its lines and of those below it
        if last is not None and root.startswith(last):
            continue
        last = root
        before, after = _below(old, root, zone), _below(new, root, zone)
        gone, come = set(before.lines), set(after.lines)
        made.removes += sorted(gone - come)
        made.adds += sorted(come - gone)
        made.covered += after.covered - before.covered
        made.unomitted += before.omitted
        made.omitted += after.omitted
    return made


def _below(names: Buffer, root: bytes, zone: str) -> Rules:
    """The rules of the names that begin with `root`."""
    start, end = position(names, root), position(names, root[:-1] + b"\1")
    found = lines(names[start:end])
    labels = root[:-1].split(b"\0")
    for depth in range(1, len(labels)):
        if _holds(names, b"\0".join(labels[:depth]) + DOMAIN):
            return Rules(covered=sum(1 for _ in found))
    return rules(found, zone)


def _holds(names: Buffer, name: bytes) -> bool:
    start = position(names, name)
    return names[start : start + len(name) + 1] == name + b"\n"


def entries_of(names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """(type, value) of the entries behind these names."""
    for name in names:
        yield b"domain" if name.endswith(DOMAIN) else b"host", name_of(name[: -len(DOMAIN)])


def rule_of(name: bytes) -> bytes:
    """The rule of exactly this name."""
    return b"\0".join(reversed(name.split(b".")))


def name_of(rule: bytes) -> bytes:
    """The name that a rule is for, in the usual order of labels."""
    return b".".join(reversed(rule.split(b"\0")))

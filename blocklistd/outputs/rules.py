"""The rules of a Response Policy Zone: which names of a list a zone holds. Pure.

A rule is a line that sorts as its owner does in canonical DNS order (RFC 4034 6.1): the labels from the root down,
joined by NUL; a last label `*` is the wildcard of the name before it. `host` makes one rule, `domain` two. What is at
or below a listed domain makes none while the domain is listed: the closest encloser wins (RFC 4592 3.3), so its own
rule would take names out of the domain's.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import orjson

from blocklistd.lines import Buffer, type_and_value
from blocklistd.outputs.snapshot import lines

MAX_OWNER: Final = 255  # octets of a name on the wire (RFC 1035 2.3.4)
WILDCARD: Final = b"\0*"

_KINDS: Final = (b'{"type":"domain"', b'{"type":"host"')


@dataclass(slots=True)
class Rules:
    """`lines` in canonical order; `covered` counts entries that a listed domain speaks for, `omitted` names (by id) the
    entries of which a rule does not fit, once for each rule."""

    lines: list[bytes] = field(default_factory=list)
    covered: int = 0
    omitted: list[str] = field(default_factory=list)


def rules(snapshot: Buffer, zone: str, categories: Collection[str] = ()) -> Rules:
    """The rules that a zone of that name has for a snapshot; `categories`, if any, takes only entries of these."""
    room = MAX_OWNER - (len(zone.rstrip(".")) + 2)  # octets for the labels before the zone's name
    wanted = set(categories)
    entries = []
    for line in lines(snapshot):
        if not line.startswith(_KINDS) or (wanted and orjson.loads(line).get("category") not in wanted):
            continue
        kind, name = type_and_value(line)
        entries.append((rule_of(name), kind, line))
    entries.sort()
    made = Rules()
    cover = below = None
    for key, kind, line in entries:
        if key == cover or (below is not None and key.startswith(below)):
            made.covered += 1
            continue
        parts = [key]
        if kind == b"domain":
            cover, below = key, key + b"\0"
            parts.append(key + WILDCARD)
        for rule in parts:
            if len(rule) + 1 > room:
                made.omitted.append(orjson.loads(line)["id"])
            else:
                made.lines.append(rule)
    return made


def rule_of(name: bytes) -> bytes:
    """The rule of exactly this name."""
    return b"\0".join(reversed(name.split(b".")))


def name_of(rule: bytes) -> bytes:
    """The name that a rule is for, in the usual order of labels."""
    return b".".join(reversed(rule.split(b"\0")))

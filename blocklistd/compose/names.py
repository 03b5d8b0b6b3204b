"""Names and addresses that guard files protect: which entries of a list hit one of them. Pure.

A host or domain entry hits a name if it is the name or below it; a domain entry also if it is above it, since it blocks
everything below itself. An address or prefix hits a protected one if it is that, in it, or contains it. Entries of
other types never hit anything: a URL blocks one page, not a host.

A sealed file of names has one name a line, in canonical form (kinds/name.py) with its labels in reverse order
(`example.search.www`), sorted bytewise. So the names below another one are neighbours, and a binary search finds them.
The line of an address is `/`, the IP version, and the bits of the prefix as zeros and ones, with the same effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Final

from blocklistd.kinds.ip import bits, is_meant_as_address
from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import lines, position

NAMED_TYPES: Final = ("host", "domain")
"""The types of entries that can hit a name."""
PROTECTED_TYPES: Final = (*NAMED_TYPES, "ip")
"""The types of entries that can hit a name or an address. Their values never need escapes."""


def reverse_labels(name: bytes) -> bytes:
    """The name with its labels in reverse order: `www.search.example` gives `example.search.www`."""
    return b".".join(name.split(b".")[::-1])


def names_file(names: Iterable[str]) -> bytes:
    """The content of a sealed file of these canonical names, and addresses or prefixes (kinds.ip.protected)."""
    return b"".join(line + b"\n" for line in sorted(set(map(_line_of, names))))


def _line_of(name: str) -> bytes:
    return _address_line(name) if is_meant_as_address(name) else reverse_labels(name.encode())


def _address_line(value: str) -> bytes:
    version, prefix = bits(value)
    return f"/{version}{prefix}".encode()


class Names:
    """The names of one sealed file (`names_file`). It reads the file when it is asked: by binary search for one entry,
    and completely, once, for the first run of entries."""

    def __init__(self, content: Buffer) -> None:
        self._content = content

    def hit_by(self, kind: str, value: bytes) -> bool:
        """Whether an entry hits a name."""
        if kind == "ip":
            return self._address_hit(value.decode())
        if kind not in NAMED_TYPES:
            return False
        labels = value.split(b".")[::-1]
        above = (b".".join(labels[:count]) for count in range(1, len(labels) + 1))
        return any(self._line_at(name) == name for name in above) or (
            kind == "domain" and self._line_at(below := b".".join(labels) + b".").startswith(below)
        )

    def _address_hit(self, value: str) -> bool:
        line = _address_line(value)
        if self._line_at(line).startswith(line):
            return True
        return any(line[:length] in self.all for length in self._address_lengths if length < len(line))

    @cached_property
    def _address_lengths(self) -> frozenset[int]:
        """The lengths of the lines of addresses."""
        return frozenset(len(line) for line in self.all if line.startswith(b"/"))

    @cached_property
    def first_parts(self) -> frozenset[bytes]:
        """The first octet of each IPv4 address or prefix, and the first group of each of IPv6, as canonical values
        begin; no prefix is shorter."""
        found: set[bytes] = set()
        for version, prefix in re.findall(rb"(?m)^/([46])([01]+)$", self._content):
            found.add(b"%d" % int(prefix[:8], 2) if version == b"4" else b"%x" % int(prefix[:16], 2))
        return frozenset(found | {b""} if b"0" in found else found)  # of IPv6, `::` may stand for a group of 0

    def _line_at(self, searched: bytes) -> bytes:
        """The first line that sorts at or after `searched`; empty if there is none."""
        start = position(self._content, searched)
        return self._content[start : self._content.find(b"\n", start)] if start < len(self._content) else b""

    def hits_known(self, kind: str, value: bytes) -> bool:
        """`hit_by` for a host or domain entry, with the sets of names: 20 times as fast, once they are made."""
        name, dot = value, b"."
        if kind == "ip":
            return self._address_hit(value.decode())
        while dot:
            if name in self.all:
                return True
            _, dot, name = name.partition(b".")
        return kind == "domain" and value in self.parents

    @cached_property
    def all(self) -> frozenset[bytes]:
        """The names."""
        return frozenset(map(reverse_labels, lines(self._content)))

    @cached_property
    def second_labels(self) -> list[bytes]:
        """The second label from the right of each name that has two or more."""
        return re.findall(rb"(?m)^[^.\n]+\.([^.\n]+)", self._content)

    @property
    def has_one_label(self) -> bool:
        """Whether there is a name of one label."""
        content = b"\n" + self._content[:]
        return content.count(b"\n") - content.count(b"\n/") - 1 > len(self.second_labels)

    @cached_property
    def parents(self) -> frozenset[bytes]:
        """Every name that is above one of the names."""
        found: set[bytes] = set()
        for name in self.all:
            _, _, parent = name.partition(b".")
            while parent and parent not in found:
                found.add(parent)
                _, _, parent = parent.partition(b".")
        return frozenset(found)


class NameRules:
    """The rules of a list that withhold entries because of names, in their order: the first one that an entry hits
    gives its name. None: the list has no such names."""

    def __init__(
        self, never_block: Names | None = None, own_names: Names | None = None, shared_hosts: Names | None = None
    ) -> None:
        given = (("never_block", never_block), ("own_name", own_names), ("shared_hosts", shared_hosts))
        self._rules = [(rule, names) for rule, names in given if names is not None]

    def __bool__(self) -> bool:
        """Whether there is any rule."""
        return bool(self._rules)

    def rule_of(self, kind: str, value: str) -> str | None:
        """The rule that withholds an entry; None if no rule does."""
        return next((rule for rule, names in self._rules if names.hit_by(kind, value.encode())), None)

    def rules_of_all(self, kind: str, values: Sequence[bytes]) -> dict[int, str]:
        """For the values of entries of one type: the index of each entry that a rule withholds, and that rule.

        An entry that hits a name has the second label from the right of a name, or has one label, or there is a name of
        one label. The entries for which none of that holds, nearly all, cost one look-up.
        """
        if not self._rules or kind not in PROTECTED_TYPES:
            return {}
        suspects: Iterable[int] = range(len(values))
        if kind == "ip":
            firsts = self._first_parts
            heads = (value.partition(b":")[0].partition(b".")[0] for value in values)
            suspects = [index for index, head in enumerate(heads) if head in firsts]
        elif not self._has_one_label:
            known = self._second_labels
            suspects = [
                index for index, value in enumerate(values) if value.rpartition(b".")[0].rpartition(b".")[2] in known
            ]
        found = {}
        for index in suspects:
            for rule, names in self._rules:
                if names.hits_known(kind, values[index]):
                    found[index] = rule
                    break
        return found

    @cached_property
    def _second_labels(self) -> frozenset[bytes]:
        """The second label from the right of each name; and b"", which entries of one label have."""
        return frozenset().union([b""], *(names.second_labels for _, names in self._rules))

    @cached_property
    def _first_parts(self) -> frozenset[bytes]:
        return frozenset().union(*(names.first_parts for _, names in self._rules))

    @cached_property
    def _has_one_label(self) -> bool:
        return any(names.has_one_label for _, names in self._rules)


NO_NAMES: Final = NameRules()
"""The rules of a list without names."""

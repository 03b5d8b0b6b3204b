"""A Response Policy Zone as the rules of its names. Pure.

`Zone.write` writes its sorted lines, one for each name, with four fields and tabs between them:

    !      -        ZONE    SERIAL      the zone itself; both may be empty
    (empty)  CODE   NUMBER              a record that can't be read, and its line in the body
    NAME   VERDICT  RULES   SUBDOMAINS  the rules of NAME and of `*.NAME`; VERDICT is a type, a reason, or `-`: no entry

A rule is its action, or the type and a digest of any other data. So a list of differences can be applied to the lines
of an earlier zone (rpz_update.py), and one that does not fit is recognised.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE, MAX_LINES_MEMORY, MAX_REJECTS
from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import lines
from blocklistd.sources.formats.rpz_ip import has_hole, owners_around
from blocklistd.sources.formats.zonefile import (
    REASONS as ZONEFILE_REASONS,
)
from blocklistd.sources.formats.zonefile import (
    UNKNOWN,
    ZoneReader,
    ZoneRecord,
    canonical_name,
    relative_name,
)

_NO_ORIGIN: Final = (
    "absolute names, and neither an SOA nor $ORIGIN before them: expected the zone's name; ask the hotline for both"
)
_TWO_ZONES: Final = (
    "records of two zones, or an SOA after other records: expected the SOA first, and one zone in a file"
)
NO_FIT: Final = "the differences do not fit the last list: the complete zone is fetched"
EXCEPTION: Final = b"rpz-passthru."
"""The rule of an exception."""
_PLAIN: Final = re.compile(
    rb"([a-z0-9_*.-]{1,255}+)[ \t]++(?:[0-9]{1,10}+[ \t]++)?+(?:in[ \t]++)?+cname[ \t]++"
    rb"(\.|\*\.|rpz-(?:drop|tcp-only|passthru)\.)[ \t]*+\r?\n",
    re.I,
)
"""A line with one rule, as programs write it."""
_TRIGGERS: Final = {
    b"rpz-ip": b"ip",
    b"rpz-client-ip": b"trigger",
    b"rpz-nsip": b"trigger",
    b"rpz-nsdname": b"trigger",
}
"""The verdict on rules that are not about a queried name, by the last label in the zone."""
_NO_RULES: Final = frozenset(b"RRSIG NSEC NSEC3 NSEC3PARAM DNSKEY DS CDS CDNSKEY SIG KEY NXT ZONEMD".split())
"""Records that a signed zone has beside its rules."""
_DELEGATIONS: Final = frozenset((b"NS", b"DNAME", b"SOA"))
_LISTED: Final = frozenset((b".", b"*.", b"rpz-drop.", b"rpz-tcp-only."))
_ACTIONS: Final = {action: action for action in (*_LISTED, EXCEPTION)}  # one object for each
_BLOCK: Final = 10_000  # lines written at once
_RULE: Final = 400  # bytes of memory for a rule, at most
_CHECKED: Final = 1 << 16  # lines after which the memory is checked
_NAME: Final = 1020  # characters of a name of 255 octets, at most
REASONS: Final = (*ZONEFILE_REASONS, _NO_ORIGIN, _TWO_ZONES, NO_FIT)
"""The messages of the errors that this module raises."""


class Difference(NamedTuple):
    """A rule that is removed or added. `name`: its owner in the zone."""

    removes: bool
    name: bytes
    rule: bytes


@dataclass(slots=True)
class Zone:
    """The rules of a zone. `name`: the zone, None until it is known. `rules`: by owner in the zone, as in a line.
    `rejects`: the reason and the line of each record that is no rule."""

    name: bytes | None = None
    serial: bytes = b""
    rules: dict[bytes, bytes] = field(default_factory=dict)
    rejects: list[tuple[bytes, bytes]] = field(default_factory=list)

    # -- a complete zone -----------------------------------------------------------------------------------------------

    def read(self, body: Buffer, start: int) -> None:
        """Add the records of a master file. Plain lines are recognised by one pattern."""
        reader = ZoneReader(body, start)
        rules, plain = self.rules, _PLAIN.match
        suffix: bytes | None = None  # makes a relative name a name in the zone; None if unknown
        ending: bytes | None = None  # of every absolute name in the zone; None if unknown
        last: bytes | None = None  # the owner of the last plain line
        known: tuple[bytes | None, bytes | None] = (None, None)  # zone and origin to which `suffix` and `ending` belong
        while reader.at < len(body):
            found = plain(body, reader.at)
            if found is not None:
                owner, rule = found.groups()
                if owner.endswith(b"."):
                    name = owner[: -len(ending)].lower() if ending and owner.lower().endswith(ending) else b""
                else:
                    name = (owner + suffix).lower() if suffix is not None else b""
                if name:
                    rule = _ACTIONS.get(rule) or rule.lower()
                    if name in rules:
                        self._add(name, rule, reader.number)
                    else:
                        rules[name] = rule
                    reader.at = found.end()
                    reader.number += 1
                    last = owner
                    if not reader.number % _CHECKED:
                        self._check_size()
                    continue
            if last is not None:
                reader.owner = canonical_name(last, reader.origin)
                last = None
            self._check_size()
            record = reader.next()
            if isinstance(record, ZoneRecord):
                self._read(record, reader)
            elif record is not None:
                self._reject(b"malformed", record.number)
            if known != (self.name, reader.origin) and self.name is not None:
                known = (self.name, reader.origin)
                above = relative_name(reader.origin, self.name)
                suffix = None if above is None else b"." + above if above else b""
                ending = None if self.name in (UNKNOWN, b".") else b"." + self.name
        self._check_size()

    def _read(self, record: ZoneRecord, reader: ZoneReader) -> None:
        if record.type == b"SOA":
            if self.name is None:
                self.name = record.owner
                if reader.origin == UNKNOWN:
                    reader.origin = record.owner
            elif record.owner != self.name:
                raise ParseError(_TWO_ZONES)
            if len(record.data) > 2 and record.data[2].isdigit():
                self.serial = record.data[2]
            return
        if self.name is None:
            self.name = reader.origin
        name = relative_name(record.owner, self.name)
        if name is None:
            if self.name == UNKNOWN:
                raise ParseError(_NO_ORIGIN)
            self._reject(b"outside-zone", record.number)
        elif name and record.type not in _NO_RULES:
            rule = None if record.type in _DELEGATIONS else _rule(record, name, self.name, reader.origin)
            if rule is None or len(name) > _NAME:
                self._reject(b"malformed" if rule is None else b"name-too-long", record.number)
            else:
                self._add(name, rule, record.number)

    def _add(self, name: bytes, rule: bytes, number: int) -> None:
        before = self.rules.get(name)
        if before is None:
            self.rules[name] = rule
        elif rule != before and rule not in (several := before.split(b",")):
            if len(before) + len(rule) > MAX_LINE // 4:  # a line has two such lists
                self._reject(b"too-long", number)
            else:
                self.rules[name] = b",".join(sorted([*several, rule]))

    def _reject(self, code: bytes, number: int) -> None:
        self.rejects.append((code, b"%d" % number))
        if len(self.rejects) > MAX_REJECTS:
            raise ParseError(f"more than {MAX_REJECTS} records can't be read: check `format` and `fields`")

    def _check_size(self) -> None:
        if len(self.rules) > MAX_LINES_MEMORY // _RULE:
            raise ParseError(
                f"its records need more than {MAX_LINES_MEMORY} bytes of memory: ask the hotline to split its list"
            )

    # -- differences ---------------------------------------------------------------------------------------------------

    @classmethod
    def of_head(cls, earlier: Buffer) -> tuple[Zone, int]:
        """The zone without rules from its lines, and the offset of the first line with rules. Raises ParseError."""
        made, at = cls(), 0
        while earlier[at : at + 1] in (b"!", b"\t"):
            end = earlier.find(b"\n", at)
            made.read_line(earlier[at:end])
            at = end + 1
        return made, at

    @classmethod
    def of_lines(cls, earlier: Buffer) -> Zone:
        """The zone from its lines. Raises ParseError if they are not such lines."""
        made = cls()
        for line in lines(earlier):
            made.read_line(line)
        return made

    def read_line(self, line: bytes) -> None:
        """Add the rules of a line of the list. `line` has no newline. Raises ParseError."""
        fields = line.split(b"\t")
        if len(fields) != 4:
            raise ParseError(NO_FIT)
        name, verdict, own, below = fields
        if not name:
            self.rejects.append((verdict, own))
        elif name == b"!":
            self.name, self.serial = own, below
        else:
            if own:
                self.rules[name] = own
            if below:
                self.rules[b"*" if name == b"." else b"*." + name] = below

    def differences(self, body: Buffer) -> list[Difference]:
        """Read the differences in `body`: `$ORIGIN ZONE`, then a line for each record of an IXFR (RFC 1995 section 4)
        in its order, from the second SOA on, with `-` before a removed and `+` before an added record. `serial` is then
        the new one.

        Raises ParseError unless they begin at the zone's serial, and for a record that `read` rejects: the complete
        zone counts its rejects.
        """
        removes, serial, zone = False, self.serial, self.name or UNKNOWN
        made = []
        for number, line in enumerate(lines(body), 1):
            sign, reader = line[:1], ZoneReader(line[1:], origin=zone)
            if number == 1:
                if line != b"$ORIGIN " + (self.name or b"?"):
                    raise ParseError(NO_FIT)
                continue
            record = reader.next() if len(line) > 1 else None
            if sign not in (b"-", b"+") or not isinstance(record, ZoneRecord):
                raise ParseError(NO_FIT)
            name = relative_name(record.owner, zone)
            if record.type == b"SOA":
                if name != b"" or len(record.data) < 3 or removes is (sign == b"-"):
                    raise ParseError(NO_FIT)
                removes = sign == b"-"
                if removes and record.data[2] != self.serial:
                    raise ParseError(NO_FIT)
                self.serial = record.data[2]
            elif name is None or removes is not (sign == b"-") or number == 2:
                raise ParseError(NO_FIT)
            elif name and record.type not in _NO_RULES:
                rule = None if record.type in _DELEGATIONS else _rule(record, name, zone, reader.origin)
                if rule is None:
                    raise ParseError(NO_FIT)
                made.append(Difference(removes, name, rule))
        if removes or self.serial == serial:
            raise ParseError(NO_FIT)
        return made

    def apply(self, differences: Iterable[Difference]) -> None:
        """Apply differences. Raises ParseError if they remove what the zone does not have, or add what it has."""
        for removes, name, rule in differences:
            found = self.rules.get(name)
            several = found.split(b",") if found is not None else []
            if (rule in several) is not removes:
                raise ParseError(NO_FIT)
            if not removes:
                self._add(name, rule, 0)
            elif len(several) == 1:
                del self.rules[name]
            else:
                several.remove(rule)
                self.rules[name] = b",".join(several)
        self._check_size()

    # -- lines ---------------------------------------------------------------------------------------------------------

    def write_head(self, out: BinaryIO) -> None:
        """Write the lines above those with rules."""
        out.write(b"!\t-\t%b\t%b\n" % (self.name or b"", self.serial))
        out.writelines(b"\t%b\t%b\t\n" % reject for reject in self.rejects)

    def write(self, out: BinaryIO) -> None:
        """Write all lines, sorted."""
        self.write_head(out)
        names = [owner for owner in self.rules if not owner.startswith(b"*")]
        names += {base_name(owner) for owner in self.rules if owner.startswith(b"*")}.difference(names)
        names.sort()
        inexpressible = self._domains_with_exceptions()
        for start in range(0, len(names), _BLOCK):
            out.write(b"".join([self.line(name, inexpressible) for name in names[start : start + _BLOCK]]))

    def line(self, name: bytes, inexpressible: Container[bytes] = ()) -> bytes:
        """The line of a name; empty if it has no rules. `inexpressible`: the names above an exception."""
        own, below = self.rules.get(name, b""), self.rules.get(b"*." + name, b"")
        if own == below == b"." and b"rpz-" not in name and name not in inexpressible:
            return b"%b\tdomain\t.\t.\n" % name
        if name == b".":
            below = self.rules.get(b"*", b"")
        if not own and not below:
            return b""
        trigger = _TRIGGERS.get(name.rpartition(b".")[2])
        if trigger == b"ip" and own:
            verdict = b"exception" if has_hole(name, inexpressible) else b"ip"
            verdict = verdict if _is_listed(own) else b"-"
        elif trigger is not None:
            verdict = b"malformed" if trigger == b"ip" else trigger
        elif not _is_listed(own):
            verdict = b"subdomains-only" if _is_listed(below) else b"-"
        elif not _is_listed(below):
            verdict = b"host"
        else:
            verdict = b"exception" if name in inexpressible else b"domain"
        return b"%b\t%b\t%b\t%b\n" % (name, verdict, own, below)

    def _domains_with_exceptions(self) -> set[bytes]:
        """The names above an exception, and the owners of the prefixes around it."""
        found: set[bytes] = set()
        excepting = {rule for rule in set(self.rules.values()) if EXCEPTION in rule}
        for owner in (owner for owner, rule in self.rules.items() if rule in excepting) if excepting else ():
            name = base_name(owner)
            if name.endswith(b".rpz-ip"):
                found.update(owners_around(owner))
                continue
            while (name := name.partition(b".")[2]) and name not in found:
                found.add(name)
        return found


def base_name(owner: bytes) -> bytes:
    """The name of a wildcard, or the name itself: `.` for the zone's own wildcard."""
    return b"." if owner == b"*" else owner.removeprefix(b"*.")


def _is_listed(rules: bytes) -> bool:
    """Whether these rules of an owner list it: there is one, and no exception among them."""
    return bool(rules) and EXCEPTION not in rules.split(b",")


def _rule(record: ZoneRecord, name: bytes, zone: bytes, origin: bytes) -> bytes | None:
    """The rule of a record at `name` in the zone, as in a line; None if the record is malformed."""
    if record.type != b"CNAME":
        data = b"\0".join(record.data)
    else:
        target = canonical_name(record.data[0], origin) if len(record.data) == 1 else None
        if target is None:
            return None
        if target in _LISTED:
            return target
        if target in (EXCEPTION, name + b".", record.owner) or record.data[0].lower() == EXCEPTION[:-1]:
            return EXCEPTION
        data = target
    return b"%b:%b" % (record.type.lower(), hashlib.blake2b(data, digest_size=8).hexdigest().encode())

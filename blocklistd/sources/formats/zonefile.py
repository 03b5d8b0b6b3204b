"""Reads the records of a master file (RFC 1035 section 5.1, RFC 2308 section 4). Pure.

$ORIGIN and $TTL are followed; $INCLUDE, $GENERATE and any other directive fail. TTLs and classes are checked and
dropped.

Names are bytes in one canonical text form, so that equal names are equal bytes: lower case, with `\\DDD` for each octet
other than letters, digits, `-`, `_` and `*`. The dots that remain separate labels. An absolute name ends in a dot. A
file may have no $ORIGIN: its names are then relative to an unknown origin, which is written as the empty name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE
from blocklistd.lines.keys import Buffer

UNKNOWN: Final = b""
"""The origin of a file that names none."""
REASONS: Final = (
    "a directive at line N that can't be followed: expected only $ORIGIN and $TTL; ask the hotline for the complete"
    " zone in one file",
    "a record of more than N bytes at line N: expected quotes and parentheses that close; ask the hotline",
)
TYPES: Final = frozenset(
    b"A AAAA AFSDB APL CAA CDNSKEY CDS CERT CNAME CSYNC DHCID DLV DNAME DNSKEY DS EUI48 EUI64 HINFO HIP HTTPS IPSECKEY"
    b" ISDN KEY KX LOC MB MD MF MG MINFO MR MX NAPTR NS NSAP NSEC NSEC3 NSEC3PARAM NULL NXT OPENPGPKEY PTR PX RP RRSIG"
    b" RT SIG SMIMEA SOA SPF SRV SSHFP SVCB TA TLSA TXT URI WKS X25 ZONEMD".split()
)
"""The mnemonics of record types; any other type is written as TYPE and a number (RFC 3597 section 5)."""

_TOKEN: Final = re.compile(
    rb"[ \t\r\f\v]*+(?:"
    rb"(?P<word>(?:[^ \t\r\n\f\v;()\"\\]|\\[0-9]{3}|\\[^0-9\n])++)"
    rb"|\"(?P<quoted>(?:[^\"\\\n]|\\[0-9]{3}|\\[^0-9\n])*+)\""
    rb"|(?P<end>(?:;[^\n]*+)?+(?:\n|\Z))"
    rb"|(?P<parenthesis>[()]))"
)
_BLANK: Final = frozenset(b" \t\r\f\v")
_PLAIN_NAME: Final = re.compile(rb"[A-Za-z0-9_*-]++(?:\.[A-Za-z0-9_*-]++)*+\.?")
_OCTET: Final = re.compile(rb"\\([0-9]{3})|\\(.)|([^A-Za-z0-9_*.-])", re.S)
_TTL: Final = re.compile(rb"(?:[0-9]{1,10}[wdhms]?){1,5}", re.I)
_OTHER_TYPE: Final = re.compile(rb"TYPE[0-9]{1,5}")
_CLASSES: Final = frozenset((b"IN", b"CLASS1"))


class ZoneRecord(NamedTuple):
    """A record. `number`: the line on which it begins. `owner`: the canonical name. `type`: the mnemonic in upper case.
    `data`: the fields of its data, as written, without quotes."""

    number: int
    owner: bytes
    type: bytes
    data: list[bytes]


class MalformedRecord(NamedTuple):
    """A record that can't be read. `number`: the line on which it begins."""

    number: int


def canonical_name(text: bytes, origin: bytes) -> bytes | None:
    """The canonical form of a name; None if the text is no name. A relative name is completed by `origin`, which is
    canonical. Lengths are not checked."""
    if text == b"@":
        return origin
    if text == b".":
        return text
    if not _PLAIN_NAME.fullmatch(text):
        if any(int(number) > 255 for number, _, _ in _OCTET.findall(text) if number):
            return None
        text = _OCTET.sub(_canonical_octet, text)
        if text.startswith(b".") or b".." in text or not text:
            return None
    text = text.lower()
    if text.endswith(b".") or origin == UNKNOWN:
        return text
    return text + b"." if origin == b"." else text + b"." + origin


def _canonical_octet(found: re.Match[bytes]) -> bytes:
    number, escaped, bare = found.groups()
    octet = bytes([int(number)]) if number else escaped or bare
    return octet if octet.isalnum() or octet in b"-_*" else b"\\%03d" % octet[0]


def relative_name(name: bytes, zone: bytes) -> bytes | None:
    """The part of a canonical name above the zone; empty for the zone itself, None if the name is not in the zone."""
    if name == zone:
        return b""
    if zone == UNKNOWN:
        return None if name.endswith(b".") else name
    ending = zone if zone == b"." else b"." + zone
    return name[: -len(ending)] if name.endswith(ending) else None


@dataclass(slots=True)
class ZoneReader:
    """Reads a master file, one logical line at a time.

    `at`: the offset of the next line, and `number` its number. `origin`: the present $ORIGIN. `owner`: the owner of the
    last record, for records without one; None if it could not be read. `at`, `number` and `owner` may be changed
    between two calls of `next`, by a faster reader of plain lines.
    """

    body: Buffer
    at: int = 0
    number: int = 1
    origin: bytes = UNKNOWN
    owner: bytes | None = None
    _words: list[bytes] = field(default_factory=list)

    def next(self) -> ZoneRecord | MalformedRecord | None:
        """Read the next logical line: a record, or None for a blank line or a directive. Raises ParseError."""
        number, body, at = self.number, self.body, self.at
        has_owner = body[at] not in _BLANK
        words, depth, well_formed = self._words, 0, True
        words.clear()
        while True:
            token = _TOKEN.match(body, at)
            if token is None:  # a quote that does not close in its line, or a stray backslash
                well_formed = False
                at = body.find(b"\n", at)
                at = len(body) if at < 0 else at
                continue
            at = token.end()
            if at - self.at > MAX_LINE:
                raise ParseError(
                    f"a record of more than {MAX_LINE} bytes at line {number}:"
                    " expected quotes and parentheses that close; ask the hotline"
                )
            kind = token.lastgroup
            if kind == "end":
                self.number += body[at - 1 : at] == b"\n"
                if depth <= 0 or at == len(body):
                    break
            elif kind == "parenthesis":
                depth += 1 if body[at - 1 : at] == b"(" else -1
                well_formed = well_formed and depth >= 0
            else:
                assert kind is not None
                words.append(token[kind])
        self.at = at
        if not words and well_formed and not depth:
            return None
        if not well_formed or depth:
            self.owner = None if has_owner else self.owner
            return MalformedRecord(number)
        if has_owner and words[0].startswith(b"$"):
            self._directive(number, words)
            return None
        return self._record(number, words, has_owner)

    def _directive(self, number: int, words: list[bytes]) -> None:
        name, arguments = words[0].upper(), words[1:]
        if name == b"$TTL" and len(arguments) == 1 and _TTL.fullmatch(arguments[0]):
            return
        origin = canonical_name(arguments[0], self.origin) if name == b"$ORIGIN" and len(arguments) == 1 else None
        if origin is None:
            raise ParseError(
                f"a directive at line {number} that can't be followed: expected only $ORIGIN and $TTL;"
                " ask the hotline for the complete zone in one file"
            )
        self.origin = origin

    def _record(self, number: int, words: list[bytes], has_owner: bool) -> ZoneRecord | MalformedRecord:
        at = 0
        if has_owner:
            self.owner = canonical_name(words[0], self.origin)
            at = 1
        seen: set[str] = set()  # a TTL and a class, in any order
        while at < len(words):
            word = words[at].upper()
            part = "class" if word in _CLASSES else "ttl" if _TTL.fullmatch(word) else ""
            if not part or part in seen:
                break
            seen.add(part)
            at += 1
        type = words[at].upper() if at < len(words) else b""
        if self.owner is None or at + 1 >= len(words) or not (type in TYPES or _OTHER_TYPE.fullmatch(type)):
            return MalformedRecord(number)
        return ZoneRecord(number, self.owner, type, words[at + 1 :])

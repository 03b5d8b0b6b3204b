"""The format of hosts(5): `ADDRESS name [name…]`. The address is ignored; each name is a record of its own."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, Final

from blocklistd.kinds import InvalidEntry
from blocklistd.kinds.name import name
from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, default_attributes, lines, type_refusal

_COMMENT: Final = re.compile(rb"#|;|//")
_LOCAL: Final = frozenset({"localdomain", "localdomain4", "localdomain6", "localhost", "local"})
"""The last labels of local names (RFC 6761, RFC 6762). A hosts file contains such names, and names of one label, so
that it can replace /etc/hosts; neither is an entry."""


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield a record for each name (`Format.records`). `#`, `;` and `//` begin a comment anywhere.

    A field that is no name rejects the line: its other fields may be parts of that name. Rejects: too-long, not-utf8,
    no-address, no-name, no-type, unknown-type, and the reasons of kinds/name.py.
    """
    type = options.defaults.get("type", "")
    refusal = type_refusal(type)
    attributes = default_attributes(options)
    for number, line in lines(body):
        if line is None:
            yield Reject(number, "too-long")
            continue
        if b"#" in line or b";" in line or b"//" in line:
            line = _COMMENT.split(line, 1)[0]
        try:
            fields = line.decode().split()
        except UnicodeDecodeError:
            yield Reject(number, "not-utf8")
            continue
        if not fields:
            continue
        if not _is_address(fields[0]):
            yield Reject(number, "no-address")
            continue
        if len(fields) == 1:
            yield Reject(number, "no-name")
            continue
        try:
            found = [entry for field in fields[1:] if (entry := _entry(field, type, options)) is not None]
        except InvalidEntry as refused:
            yield Reject(number, refused.code)
            continue
        for kind, value in found:
            yield Record(number, kind, value, attributes) if refusal is None else Reject(number, refusal)


def _entry(field: str, type: str, options: FormatOptions) -> tuple[str, str] | None:
    """The type and the canonical name in a field; None for a local name and for `0.0.0.0`. Raises InvalidEntry for a
    field that is no name."""
    if field == "0.0.0.0":  # the line `0.0.0.0 0.0.0.0` is in many lists
        return None
    if options.wildcards and field.startswith("*."):
        type, field = "domain", field[2:]
    canonical = name(field)
    dot = canonical.rfind(".")
    if dot < 0 and field.endswith("."):
        raise InvalidEntry("not-a-name")  # part of a name that contains a blank, as in `www. a.example`
    return None if dot < 0 or canonical[dot + 1 :] in _LOCAL else (type, canonical)


@lru_cache(maxsize=64)  # most files have the same address, or a few, in all lines
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


FORMAT: Final = Format(
    records, first_independent_line=all_lines_independent, has_types=False, options=frozenset({"wildcards"})
)

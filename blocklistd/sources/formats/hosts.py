"""The format of hosts(5): `ADDRESS name [name…]`; the address says nothing, each name is a record of its own."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, Final

from blocklistd.sources.formats.format import Format, every_line
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, default_attributes, lines, type_refusal

LOCAL_NAMES: Final = frozenset(
    {
        "0.0.0.0",
        "broadcasthost",
        "ip6-allhosts",
        "ip6-allnodes",
        "ip6-allrouters",
        "ip6-localhost",
        "ip6-localnet",
        "ip6-loopback",
        "ip6-mcastprefix",
        "local",
        "localhost",
        "localhost.localdomain",
    }
)
"""What such files hold so that they can replace /etc/hosts: never an entry."""


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Rejects: too-long, not-utf8, no-address, no-name, no-type, unknown-type. `#` begins a comment anywhere."""
    type = options.defaults.get("type", "")
    refusal = type_refusal(type)
    attributes = default_attributes(options)
    for number, line in lines(body):
        if line is None:
            yield Reject(number, "too-long")
            continue
        try:
            fields = line.partition(b"#")[0].decode().split()
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
        for name in fields[1:]:
            if name.lower() not in LOCAL_NAMES:
                yield Record(number, type, name, attributes) if refusal is None else Reject(number, refusal)


@lru_cache(maxsize=64)  # such a file has one address in all its lines, or a few
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


FORMAT: Final = Format(records, heading=every_line, says_types=False)

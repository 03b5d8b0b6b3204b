"""Response Policy Zones as master files (draft-vixie-dnsop-dns-rpz): each name with a rule is one entry. Pure.

The zone is the owner of the SOA, or $ORIGIN if there is no SOA. If neither is written, all names must be relative.

`x` alone is a host; `x` and `*.x` are a domain; `24.0.2.0.192.rpz-ip` is the prefix 192.0.2.0/24. The action does not
matter (NXDOMAIN, a stop page, an address, …), except that of an exception, `CNAME rpz-passthru.`, or the older
`x CNAME x.`: an exception is no entry. A domain or a prefix with an exception in it is rejected, since no entry is a
domain without one of its names.

`to_lines` writes the lines of a Zone (rpz_zone.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from blocklistd.kinds import InvalidEntry
from blocklistd.lines.keys import Buffer
from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.records import (
    FormatOptions,
    Record,
    Reject,
    default_attributes,
    lines,
    list_start,
)
from blocklistd.sources.formats.rpz_ip import ip_value
from blocklistd.sources.formats.rpz_update import update_lines
from blocklistd.sources.formats.rpz_zone import REASONS, Zone

_TYPES: Final = {b"domain": "domain", b"host": "host"}
_CODES: Final = {
    code.encode(): code for code in ("exception", "malformed", "outside-zone", "subdomains-only", "trigger")
}
_CODES[b"too-long"], _CODES[b"name-too-long"] = "too-long", "name-too-long"


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield a record for each line of `to_lines` that is an entry (`Format.records`).

    Rejects: exception (a domain with an exception below it), subdomains-only (`*.x` without `x`), trigger (a rule about
    clients or name servers), outside-zone, malformed, too-long, name-too-long, and the reasons of kinds/ip.py.
    """
    attributes = default_attributes(options)
    for number, line in lines(body):
        if line is None:
            yield Reject(number, "too-long")
            continue
        name, _, rest = line.partition(b"\t")
        verdict = rest.partition(b"\t")[0]
        if verdict in _TYPES:
            yield Record(number, _TYPES[verdict], name.decode("ascii", "backslashreplace"), attributes)
        elif verdict == b"ip":
            try:
                value, refused = ip_value(name), ""
            except InvalidEntry as error:
                value, refused = "", error.code
            yield Reject(number, refused) if refused else Record(number, "ip", value, attributes)
        elif verdict != b"-":
            yield Reject(number, _CODES.get(verdict, "malformed"))


def to_lines(body: Buffer, earlier: Buffer | None, options: FormatOptions, out: BinaryIO) -> None:
    """Write the lines of a zone (`Format.to_lines`). `body`: a master file; with `earlier`, the differences from the
    zone of these lines. Raises ParseError."""
    if earlier is None:
        zone = Zone()
        zone.read(body, list_start(body, "rpz"))
        zone.write(out)
    else:
        update_lines(earlier, body, out)


FORMAT: Final = Format(
    records,
    first_independent_line=all_lines_independent,
    always_has_types=True,
    to_lines=to_lines,
    reasons=REASONS,
)

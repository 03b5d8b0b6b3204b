"""Formats of exports and of `sync`: each renders a snapshot for a program. A new one is a file here, a line in OUTPUTS.

None widens an entry, and none narrows one: what a format can't say exactly is omitted and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, Final

from blocklistd.outputs import adblock, dnsmasq, hosts, mikrotik, plain, rpz, squid, squid_urls, unbound
from blocklistd.outputs.reading import Out

Render = Callable[[BinaryIO, Out], int]
"""(snapshot, out) → number of omitted entries. `snapshot` can be repositioned. Raises ValueError for a line that is not
canonical; the caller discards the incomplete output."""

OUTPUTS: Final[Mapping[str, Render]] = {
    "plain": plain.render,
    "hosts": hosts.render,
    "rpz": rpz.render,
    "unbound": unbound.render,
    "squid": squid.render,
    "squid-urls": squid_urls.render,
    "dnsmasq": dnsmasq.render,
    "adblock": adblock.render,
    "mikrotik": mikrotik.render,
}
"""By the name in `/export/NAME` and `sync --format NAME`. The snapshot itself (`ndjson`) needs no rendering."""

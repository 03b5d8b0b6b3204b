"""The configuration for Unbound. It can't sign requests, sends no client certificate, and adds no extended DNS error to
the answers that a policy changes, up to version 1.26."""

from __future__ import annotations

from typing import Final

from blocklistd.config import ZoneSettings
from blocklistd.daemon.profiles.request import ConfigRequest

MANY_RULES: Final = 100_000  # rules of one zone from which on Unbound's pauses are longer than a second
SHARDS: Final = 16  # the number with which the pauses were measured to be shortest

_SERVER: Final = """\
server:
  module-config: "respip validator iterator"
"""

_TLS: Final = """\
  tls-cert-bundle: "{ca}"  # of all TLS servers that this Unbound asks
"""

_ZONE: Final = """\
rpz:
  name: {zone}
  zonefile: "/var/lib/unbound/{zone}.zone"  # keeps blocking after a restart
  primary: {host}{at}
  allow-notify: {host}
"""


_SHARDS: Final = """\
# {zone} has {rules:,} rules.
# While Unbound loads a zone that it transfers whole, it answers nobody: 300,000
# rules took 3.6 s in one zone, and 0.65 s in 16 shards, which measured best.
# Ask the publisher for `shards: {shards}`.
"""


def text(request: ConfigRequest) -> str:
    """The module, and a clause for each zone. A large zone that is not divided into shards has a comment on them."""
    tls, host = request.tls, request.primary.host
    at = f"@{request.primary.port}#{tls.name}" if tls else request.at
    clauses = (_advice(request, zone) + _ZONE.format(zone=zone.name, host=host, at=at) for zone in request.zones)
    return _SERVER + (_TLS.format(ca=tls.ca) if tls else "") + "".join(clauses)


def _advice(request: ConfigRequest, zone: ZoneSettings) -> str:
    """Advises shards, if the zone has none and is large. `python -m bench.blackout` measures its figures."""
    rules = request.rules.get(zone.name, 0)
    if zone.shards > 1 or rules <= MANY_RULES:
        return ""
    return _SHARDS.format(zone=zone.name, rules=rules, shards=SHARDS)

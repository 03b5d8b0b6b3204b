"""The configuration for Unbound. It can't sign requests, sends no client certificate, and adds no extended DNS error to
the answers that a policy changes, up to version 1.26."""

from __future__ import annotations

from typing import Final

from blocklistd.daemon.profiles.request import ConfigRequest

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


def text(request: ConfigRequest) -> str:
    """The module, and a clause for each zone."""
    tls, host = request.tls, request.primary.host
    at = f"@{request.primary.port}#{tls.name}" if tls else request.at
    return (
        _SERVER
        + (_TLS.format(ca=tls.ca) if tls else "")
        + "".join(_ZONE.format(zone=zone.name, host=host, at=at) for zone in request.zones)
    )

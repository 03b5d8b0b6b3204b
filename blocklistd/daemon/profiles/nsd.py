"""The configuration for NSD, which transfers the zones to its own secondaries."""

from __future__ import annotations

from typing import Final

from blocklistd.daemon.profiles.request import CLIENT_CERT, CLIENT_KEY, OWN_SECONDARY, ConfigRequest

_KEY: Final = """\
key:
  name: "{name}"
  algorithm: {algorithm}
  secret: "{secret}"
"""

_SERVER: Final = """\
server:
  zonefiles-write: 10        # seconds; a restart loses changes that are not written yet
"""

_TLS: Final = """\
  tls-cert-bundle: "{ca}"
tls-auth:
  name: "publisher"
  auth-domain-name: "{name}"
"""

_CERTIFICATE: Final = f"""\
  client-cert: "{CLIENT_CERT}"
  client-key: "{CLIENT_KEY}"
"""

_ZONE: Final = """\
zone:
  name: "{zone}"
  zonefile: "/var/lib/nsd/{zone}.zone"
  request-xfr: {host}{at} {key}{tls}
  allow-notify: {host} {key}
  allow-query: {own} NOKEY   # instead of {own}: your own secondaries; answers disclose entries
  provide-xfr: {own} NOKEY
"""


def text(request: ConfigRequest) -> str:
    """Key, server settings, and the zones."""
    tsig, tls = request.tsig, request.tls
    where = {"host": request.primary.host, "at": request.at, "own": OWN_SECONDARY, "tls": " publisher" if tls else ""}
    key = tsig["name"] if tsig else "NOKEY"
    return (
        (_KEY.format(**tsig) if tsig else "")
        + _SERVER
        + (_TLS.format(ca=tls.ca, name=tls.name) if tls else "")
        + (_CERTIFICATE if request.sends_certificate else "")
        + "".join(_ZONE.format(zone=zone.name, key=key, **where) for zone in request.zones)
    )

"""The configuration for Knot DNS, which transfers the zones to its own secondaries."""

from __future__ import annotations

import ipaddress
from typing import Final

from blocklistd.daemon.profiles.request import (
    CLIENT_CERT,
    CLIENT_KEY,
    OWN_SECONDARY,
    PUBLIC_CA,
    ConfigRequest,
    TlsPrimary,
)

_KEY: Final = """\
key:
  - id: {name}
    algorithm: {algorithm}
    secret: {secret}
"""

_KNOT: Final = """\
remote:
  - id: publisher
    address: {host}{at}
{tls}{remote_key}acl:
  - id: publisher
    {notifier}
    action: notify
  - id: own-secondaries      # instead of {own}: the addresses of your own secondaries
    address: {own}
    action: transfer
mod-queryacl:
  - id: own-secondaries      # the same; answers to others would disclose entries
    address: {own}
"""

_ZONE: Final = """\
  - domain: {zone}
    master: publisher
    acl: [publisher, own-secondaries]
    module: mod-queryacl/own-secondaries
"""

_CATALOG: Final = """\
template:
  - id: blocklist            # of the zones that the publisher's catalog names
    master: publisher
    acl: [publisher, own-secondaries]
    module: mod-queryacl/own-secondaries
zone:
  - domain: {catalog}
    master: publisher
    acl: publisher
    module: mod-queryacl/own-secondaries
    catalog-role: interpret
    catalog-template: blocklist
"""

_PIN: Final = "    cert-key: {pin}   # changes with the publisher's key\n"


def text(request: ConfigRequest) -> str:
    """Key, primary and access, then the zones; with a `catalog` Knot takes them from that and follows each change."""
    tsig = request.tsig
    head = _KNOT.format(
        host=request.primary.host,
        at=request.at,
        tls="    tls: on\n" + _verified(request, request.tls) if request.tls else "",
        remote_key=f"    key: {tsig['name']}\n" if tsig else "",
        notifier=f"key: {tsig['name']}" if tsig else f"address: {request.primary.host}",
        own=OWN_SECONDARY,
    )
    if request.catalog is not None:
        body = _CATALOG.format(catalog=request.catalog)
    else:
        body = "zone:\n" + "".join(_ZONE.format(zone=zone.name) for zone in request.zones)
    return _server(request) + (_KEY.format(**tsig) if tsig else "") + head + body


def _verified(request: ConfigRequest, tls: TlsPrimary) -> str:
    """How the primary's certificate is verified: by its name from version 3.5, else by its public key."""
    return f"    cert-hostname: {tls.name}\n" if _by_name(request) else _PIN.format(pin=tls.pin)


def _by_name(request: ConfigRequest) -> bool:
    return request.tls is not None and request.software.is_from(3, 5) and not _is_address(request.tls.name)


def _server(request: ConfigRequest) -> str:
    """The settings of the server section for TLS."""
    lines = []
    if request.tls is not None and _by_name(request):
        ca = "" if request.tls.ca == PUBLIC_CA else request.tls.ca  # empty: the authorities that the system trusts
        lines.append(f'  ca-file: "{ca}"\n')
    if request.sends_certificate:
        lines += [f'  cert-file: "{CLIENT_CERT}"\n', f'  key-file: "{CLIENT_KEY}"\n']
    return "server:                      # add to the server section\n" + "".join(lines) if lines else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

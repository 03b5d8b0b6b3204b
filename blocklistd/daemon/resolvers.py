"""Configurations to paste into the name servers of subscribers. Tests run each with the version in Debian 12.

With each configuration the server keeps blocking after a restart while the publisher is unreachable. The server refuses
queries for the zone, because an answer would disclose whether a name is listed; Knot and NSD answer their own
secondaries. docs/resolvers.md contains the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from blocklistd.config import Address, ZoneSettings

POLICIES: Final = 64  # the most policy zones that BIND takes
OWN_SECONDARY: Final = "192.0.2.60"
"""Placeholder for the addresses of the server's own secondaries: a documentation address (RFC 5737)."""

PORT: Final = 53
"""The default port of DNS, omitted in a configuration."""

Tsig = Mapping[str, str]
"""A TSIG key: `name`, `algorithm`, `secret` (base64)."""

PUBLIC_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
PRIVATE_CA: Final = "/etc/ssl/blocklistd-ca.pem"
"""Placeholder for the file with the authority of the publisher's certificate, if hosts do not trust it already."""


@dataclass(frozen=True, slots=True)
class TlsPrimary:
    """The publisher's DNS over TLS: the address, the name in its certificate, the file with the authority of that."""

    address: Address
    name: str
    ca: str


_BIND_KEY: Final = """\
key "{name}" {{
    algorithm {algorithm};
    secret "{secret}";
}};
"""

_BIND_TLS: Final = """\
tls publisher {{
    ca-file "{ca}";
    remote-hostname "{name}";
}};
"""

_BIND_ZONE: Final = """\
zone "{zone}" {{
    type secondary;
    primaries {{ {host} port {port}{key}; }};
    file "{zone}.rpz";             // keeps blocking after a restart
    masterfile-format raw;
    allow-query {{ none; }};         // answers would disclose entries
    allow-transfer {{ none; }};
    notify no;
{notify}}};
"""

_BIND_POLICY: Final = """\
options {{                          // add to the options block, if there is one
    response-policy {{ {zones} }}
        break-dnssec yes           // else DNSSEC queries escape
        qname-wait-recurse no
        min-update-interval 1;     // the default of 60 s delays a change
}};
"""

_UNBOUND: Final = """\
server:
  module-config: "respip validator iterator"
"""

_UNBOUND_TLS: Final = """\
  tls-cert-bundle: "{ca}"  # of all TLS servers that this Unbound asks
"""

_UNBOUND_ZONE: Final = """\
rpz:
  name: {zone}
  zonefile: "/var/lib/unbound/{zone}.zone"  # keeps blocking after a restart
  primary: {host}{at}
  allow-notify: {host}
"""

_POWERDNS: Final = """\
rpzPrimary("{address}", "{zone}", {{
{key}  refresh = {refresh},
  axfrTimeout = 600,
  seedFile = "/var/lib/pdns-recursor/{zone}.zone",  -- keeps blocking after a restart
  dumpFile = "/var/lib/pdns-recursor/{zone}.zone"
}})
"""

_POWERDNS_KEY: Final = '  tsigname = "{name}", tsigalgo = "{algorithm}", tsigsecret = "{secret}",\n'

_KNOT_KEY: Final = """\
key:
  - id: {name}
    algorithm: {algorithm}
    secret: {secret}
"""

_KNOT: Final = """\
remote:
  - id: publisher
    address: {host}{at}
{remote_key}acl:
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

_KNOT_ZONE: Final = """\
  - domain: {zone}
    master: publisher
    acl: [publisher, own-secondaries]
    module: mod-queryacl/own-secondaries
"""

_KNOT_CATALOG: Final = """\
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

_NSD_KEY: Final = """\
key:
  name: "{name}"
  algorithm: {algorithm}
  secret: "{secret}"
"""

_NSD: Final = """\
server:
  zonefiles-write: 10        # seconds; a restart loses changes that are not written yet
"""

_NSD_TLS: Final = """\
  tls-cert-bundle: "{ca}"
tls-auth:
  name: "publisher"
  auth-domain-name: "{name}"
"""

_NSD_ZONE: Final = """\
zone:
  name: "{zone}"
  zonefile: "/var/lib/nsd/{zone}.zone"
  request-xfr: {host}{at} {key}{tls}
  allow-notify: {host} {key}
  allow-query: {own} NOKEY   # instead of {own}: your own secondaries; answers disclose entries
  provide-xfr: {own} NOKEY
"""


def _at(primary: Address) -> str:
    return "" if primary.port == PORT else f"@{primary.port}"


def _tls(text: str, tls: TlsPrimary | None) -> str:
    return text.format(name=tls.name, ca=tls.ca) if tls else ""


def bind(zones: Iterable[ZoneSettings], primary: Address, tsig: Tsig | None, tls: TlsPrimary | None = None) -> str:
    """For BIND 9: key, zones, and the response policy of the first POLICIES zones."""
    zones, primary = list(zones), tls.address if tls else primary
    key = (f' key "{tsig["name"]}"' if tsig else "") + (" tls publisher" if tls else "")
    notify = f'    allow-notify {{ key "{tsig["name"]}"; }};\n' if tsig else ""
    names = " ".join(f'zone "{zone.name}";' for zone in zones[:POLICIES])
    where = {"host": primary.host, "port": primary.port}
    return "".join(
        [
            _BIND_KEY.format(**tsig) if tsig else "",
            _tls(_BIND_TLS, tls),
            *(_BIND_ZONE.format(zone=zone.name, key=key, notify=notify, **where) for zone in zones),
            _BIND_POLICY.format(zones=names),
            *(
                f"// {zone.name} is not in the response-policy: BIND allows at most {POLICIES} zones\n"
                for zone in zones[POLICIES:]
            ),
        ]
    )


def unbound(zones: Iterable[ZoneSettings], primary: Address, tsig: Tsig | None, tls: TlsPrimary | None = None) -> str:
    """For Unbound, which can't use TSIG: `tsig` is None."""
    assert tsig is None
    at = f"@{tls.address.port}#{tls.name}" if tls else _at(primary)
    host = tls.address.host if tls else primary.host
    return (
        _UNBOUND
        + _tls(_UNBOUND_TLS, tls)
        + "".join(_UNBOUND_ZONE.format(zone=zone.name, host=host, at=at) for zone in zones)
    )


def powerdns(zones: Iterable[ZoneSettings], primary: Address, tsig: Tsig | None) -> str:
    """For the `lua-config-file` of PowerDNS Recursor. Before 5.1 it ignores NOTIFY and polls every `soa.refresh`."""
    key = _POWERDNS_KEY.format(**tsig) if tsig else ""
    address = primary.host if primary.port == PORT else str(primary)
    return "".join(
        _POWERDNS.format(zone=zone.name, address=address, key=key, refresh=int(zone.soa.refresh.total_seconds()))
        for zone in zones
    )


def knot(zones: Iterable[ZoneSettings], primary: Address, tsig: Tsig | None, catalog: str | None = None) -> str:
    """For Knot DNS, which transfers the zones to its own secondaries. With a `catalog` it takes the zones from that and
    follows each change."""
    head = _KNOT.format(
        host=primary.host,
        at=_at(primary),
        remote_key=f"    key: {tsig['name']}\n" if tsig else "",
        notifier=f"key: {tsig['name']}" if tsig else f"address: {primary.host}",
        own=OWN_SECONDARY,
    )
    if catalog is not None:
        body = _KNOT_CATALOG.format(catalog=catalog)
    else:
        body = "zone:\n" + "".join(_KNOT_ZONE.format(zone=zone.name) for zone in zones)
    return (_KNOT_KEY.format(**tsig) if tsig else "") + head + body


def nsd(zones: Iterable[ZoneSettings], primary: Address, tsig: Tsig | None, tls: TlsPrimary | None = None) -> str:
    """For NSD, which transfers the zones to its own secondaries."""
    primary = tls.address if tls else primary
    where = {"host": primary.host, "at": _at(primary), "own": OWN_SECONDARY, "tls": " publisher" if tls else ""}
    key = tsig["name"] if tsig else "NOKEY"
    return (
        (_NSD_KEY.format(**tsig) if tsig else "")
        + _NSD
        + _tls(_NSD_TLS, tls)
        + "".join(_NSD_ZONE.format(zone=zone.name, key=key, **where) for zone in zones)
    )


WITH_TLS: Final = {"bind": bind, "nsd": nsd, "unbound": unbound}
"""Programs that transfer zones over TLS (XoT) in the version with which they are tested."""
SOFTWARE: Final[Mapping[str, Callable[[Iterable[ZoneSettings], Address, Tsig | None], str]]] = {
    "bind": bind,
    "knot": knot,
    "nsd": nsd,
    "powerdns": powerdns,
    "unbound": unbound,
}
TESTED_VERSIONS: Final = {"bind": "9.18", "knot": "3.2", "nsd": "4.6", "powerdns": "4.8", "unbound": "1.17"}
"""The version of each program with which its configuration is tested."""
UNSIGNED_ONLY: Final = {"unbound"}
"""Programs that can't use TSIG."""

FIRST_WITH_ZONEMD: Final = {"powerdns": "5.4.2", "unbound": "1.25"}
"""The first version of a program that a ZONEMD record does not break."""


def breaks_on_zonemd(software: str) -> bool:
    """Whether a ZONEMD record breaks the program: PowerDNS Recursor makes a policy for the root of it, Unbound can't
    prime the root. `software`: NAME or NAME:VERSION; without a version, the tested one."""
    name, _, version = software.partition(":")
    if name not in FIRST_WITH_ZONEMD:
        return False
    found, first = (
        [int(number) for number in text.split(".")]
        for text in (version or TESTED_VERSIONS[name], FIRST_WITH_ZONEMD[name])
    )
    return found < first


def broken_by_zonemd(software: str | None, *, by_address: bool) -> str | None:
    """The NAME:VERSION of a subscriber's software if a ZONEMD record breaks it, else None. `software`: as registered;
    without it, a subscriber that is known `by_address` has Unbound, any other BIND."""
    name, _, version = (software or ("unbound" if by_address else "bind")).partition(":")
    return f"{name}:{version or TESTED_VERSIONS[name]}" if breaks_on_zonemd(f"{name}:{version}") else None


def comment_marker(program: str) -> str:
    """The marker that begins a comment in the program's configuration."""
    return {"bind": "//", "powerdns": "--"}.get(program, "#")


def configurations(
    zones: Iterable[ZoneSettings],
    listen: Address,
    tsig: Tsig | None,
    tls: TlsPrimary | None = None,
    catalog: str | None = None,
) -> dict[str, str]:
    """The configuration of each program for these zones. `listen`: the publisher's DNS address; a wildcard address
    becomes a placeholder with a comment. With `tls`, programs in WITH_TLS transfer over TLS.
    `catalog`: the name of `dns.catalog`.

    With a TSIG key, programs in UNSIGNED_ONLY are omitted. Without one, the publisher identifies the secondary by its
    address.
    """
    zones = list(zones)
    made = {}
    for name, plain in SOFTWARE.items():
        if name == "knot":
            plain = partial(knot, catalog=catalog)
        if tsig is not None and name in UNSIGNED_ONLY:
            continue
        over = WITH_TLS.get(name) if tls is not None else None
        primary, comment = tls.address if tls and over else listen, comment_marker(name)
        notes = ""
        if primary.host in ("::", "0.0.0.0"):
            primary = Address("127.0.0.1", primary.port)
            notes += f"{comment} instead of {primary.host}: the address under which the publisher is reached\n"
        if tls is None or over is None:
            made[name] = notes + plain(zones, primary, tsig)
            continue
        if tls.ca == PRIVATE_CA:
            notes += f"{comment} {tls.ca}: the authority of the publisher's certificate\n"
        made[name] = notes + over(zones, primary, tsig, replace(tls, address=primary))
    return made

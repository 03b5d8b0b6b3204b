"""The configuration for BIND 9 as a resolver."""

from __future__ import annotations

from typing import Final

from blocklistd.config import ZoneSettings
from blocklistd.daemon.profiles.request import CLIENT_CERT, CLIENT_KEY, ConfigRequest, blocks

POLICIES: Final = 64  # the most policy zones that BIND takes

_KEY: Final = """\
key "{name}" {{
    algorithm {algorithm};
    secret "{secret}";
}};
"""

_TLS: Final = """\
tls publisher {{
    ca-file "{ca}";
    remote-hostname "{name}";
{certificate}}};
"""

_CERTIFICATE: Final = f"""\
    cert-file "{CLIENT_CERT}";
    key-file "{CLIENT_KEY}";
"""

_ZONE: Final = """\
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

_POLICY: Final = """\
options {{                          // add to the options block, if there is one
    response-policy {{ {zones} }}
        break-dnssec yes           // else DNSSEC queries escape
        qname-wait-recurse no
        min-update-interval 1;     // the default of 60 s delays a change
}};
"""


def text(request: ConfigRequest) -> str:
    """Key, zones, and the response policy of the first POLICIES zones."""
    tsig, zones = request.tsig, request.zones
    key = (f' key "{tsig["name"]}"' if tsig else "") + (" tls publisher" if request.tls else "")
    notify = f'    allow-notify {{ key "{tsig["name"]}"; }};\n' if tsig else ""
    where = {"host": request.primary.host, "port": request.primary.port}
    return "".join(
        [
            _KEY.format(**tsig) if tsig else "",
            _tls(request),
            *(_ZONE.format(zone=zone.name, key=key, notify=notify, **where) for zone in zones),
            _POLICY.format(zones=" ".join(_policy(request, zone) for zone in zones[:POLICIES])),
            *(
                f"// {zone.name} is not in the response-policy: BIND allows at most {POLICIES} zones\n"
                for zone in zones[POLICIES:]
            ),
        ]
    )


def _tls(request: ConfigRequest) -> str:
    if request.tls is None:
        return ""
    certificate = _CERTIFICATE if request.sends_certificate else ""
    return _TLS.format(ca=request.tls.ca, name=request.tls.name, certificate=certificate)


def _policy(request: ConfigRequest, zone: ZoneSettings) -> str:
    error = " ede censored" if request.software.is_from(9, 20) and blocks(zone) else ""
    return f'zone "{zone.name}"{error};'

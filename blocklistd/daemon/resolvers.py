"""Configurations to paste into a resolver that takes zones from here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from blocklistd.config import Address, Zone

POLICIES: Final = 64  # policy zones that BIND takes

_KEY: Final = """\
key "{name}" {{
    algorithm {algorithm};
    secret "{secret}";
}};
"""

_ZONE: Final = """\
zone "{zone}" {{
    type secondary;
    primaries {{ {address} port {port}{key}; }};
    file "{zone}.rpz";
    masterfile-format raw;
    allow-query {{ none; }};       // the policy must not tell what is listed
    allow-transfer {{ none; }};
    notify no;
{notify}}};
"""

_POLICY: Final = """\
options {{                          // into the options block that is there, if there is one
    response-policy {{ {zones} }}
        break-dnssec yes           // else signed names escape for clients that ask for DNSSEC
        qname-wait-recurse no
        min-update-interval 5;     // the default of 60 s delays a delisting
}};
"""


def bind(zones: Iterable[Zone], listen: Address, tsig: dict[str, str], *, signed: bool) -> str:
    """For BIND 9: key, zones, and the policy that uses them."""
    zones = list(zones)
    beyond = "".join(f"// {zone.name} is left out of it: BIND takes {POLICIES} at most\n" for zone in zones[POLICIES:])
    anywhere = listen.host in ("::", "0.0.0.0")
    host = "127.0.0.1" if anywhere else listen.host
    key = f' key "{tsig["name"]}"' if signed else ""
    names = " ".join(f'zone "{zone.name}";' for zone in zones[:POLICIES])
    return "".join(
        [
            "// instead of 127.0.0.1: the address under which this resolver reaches the publisher\n"
            if anywhere
            else "",
            _KEY.format(**tsig) if signed else "",
            *(
                _ZONE.format(
                    zone=zone.name,
                    address=host,
                    port=listen.port,
                    key=key,
                    notify=f'    allow-notify {{ key "{tsig["name"]}"; }};\n' if signed else "",
                )
                for zone in zones
            ),
            _POLICY.format(zones=names),
            beyond,
        ]
    )

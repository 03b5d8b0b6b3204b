"""Zone transfers: axfr://SERVER[:PORT]/ZONE, as a secondary of that server (RFC 5936, RFC 1995). TCP only.

The download is in zone_client.py, which is slow to import.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from blocklistd.sources.transports.transport import Download, Request, Transport

PORT: Final = 53
EXPECTED: Final = "axfr://SERVER/ZONE or axfr://SERVER:PORT/ZONE, an IPv6 address in brackets"
_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_MAX_NAME: Final = 253  # characters (RFC 1035 section 2.3.4)


class ZoneLocation(NamedTuple):
    """The server and the zone of a URL. `host`: an address or a name. `zone`: in lower case, with its final dot."""

    host: str
    port: int
    zone: str


def location(url: str) -> ZoneLocation:
    """Parse an axfr: URL. Raises ValueError, with a description of such a URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(EXPECTED) from None
    zone = parts.path.removeprefix("/").removesuffix(".").lower()
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or "%" in url) and port != 0
    if not is_plain or not _is_host(host) or not _is_name(zone):
        raise ValueError(EXPECTED)
    return ZoneLocation(host, PORT if port is None else port, f"{zone}.")


def check(url: str) -> None:
    """Raises ValueError, with a description of an axfr: URL, for any other."""
    location(url)


def serial_is_newer(serial: int, known: int) -> bool:
    """Whether a serial is newer than a known one (RFC 1982 section 3.2)."""
    return 0 < (serial - known) % 2**32 < 2**31


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _is_name(host.removesuffix(".")) and not host.removesuffix(".").rpartition(".")[2].isdigit()
    return True


def _is_name(name: str) -> bool:
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def _open(request: Request) -> Download:
    from blocklistd.sources.transports.zone_client import ZoneDownload

    return ZoneDownload(request)


# -- the messages of its errors ----------------------------------------------------------------------------------------

NO_ZONE: Final = f"not the URL of a zone: expected {EXPECTED}"
NO_NAME: Final = "its name does not resolve: check `url`, and the resolver of this machine"
NO_CONNECTION: Final = "expected a name server over TCP, check `url` and the network"
CLOSED: Final = "the connection was closed before the end of the transfer: the next pull tries again"
NOT_DNS: Final = "not a valid DNS message: expected a name server, check `url`"
OTHER_ANSWER: Final = "an answer to another question: expected one to ours, check `url`"
NO_SOA: Final = "the transfer does not begin with the SOA of the zone: check `url`, or ask the hotline"
OTHER_SOA: Final = "an SOA of another serial within the transfer: expected one zone from first to last; ask the hotline"
AFTER_END: Final = "records after the last SOA of the transfer: expected none; ask the hotline"
UNSIGNED: Final = (
    "an answer without a signature by the key of `auth.tsig`: ask the hotline whether its server has this key"
)
WRONG_SIGNATURE: Final = (
    "a signature that does not fit: check name, algorithm and secret of `auth.tsig`; if they are right, the answer was"
    " changed on its way"
)
CLOCKS: Final = "signed at another time than now: check the clocks of the name server and of this machine"
OTHER_RCODE: Final = "the name server answered with an error (RCODE N): ask the hotline"
RCODES: Final = {
    1: "the name server does not understand the request (FORMERR): ask the hotline",
    2: "the name server has no valid copy of the zone at the moment (SERVFAIL): the next pull tries again",
    3: "the name server has no such zone (NXDOMAIN): check the zone in `url`",
    4: "the name server makes no zone transfers (NOTIMP): check `url`, or ask the hotline",
    5: "the name server refuses the transfer (REFUSED): ask the hotline to allow it for this address or this key",
    9: "the name server is not authoritative for the zone, or does not accept this client (NOTAUTH): check the zone in"
    " `url` and `auth.tsig`",
}
"""The messages for the RCODE of an answer."""
TSIG_ERRORS: Final = {
    16: "the secret of `auth.tsig` is not the one that the name server has (BADSIG): compare both",
    17: "the name server does not have the key of `auth.tsig` (BADKEY): compare its name and its algorithm",
    18: "the clocks of the name server and this machine differ too much (BADTIME): check both",
    22: "the name server expects a longer signature (BADTRUNC): choose another algorithm in `auth.tsig`",
}
"""The messages for the error in the TSIG record of an answer (RFC 8945 section 5.3.2)."""
_NETWORK: Final = (
    *(errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPIPE),
    *(errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENETDOWN, errno.EACCES, errno.EPERM, errno.EADDRNOTAVAIL),
)
REASONS: Final = tuple(
    f"OURS: {text}"
    for text in (
        *(f"{os.strerror(number)}: {NO_CONNECTION}" for number in _NETWORK),
        *(NO_ZONE, NO_NAME, NO_CONNECTION, CLOSED, NOT_DNS, OTHER_ANSWER, NO_SOA, OTHER_SOA, AFTER_END, UNSIGNED),
        *(WRONG_SIGNATURE, CLOCKS, OTHER_RCODE, *RCODES.values(), *TSIG_ERRORS.values()),
    )
)

TRANSPORT: Final = Transport(_open, check=check, uses_tsig=True, format="rpz", reasons=REASONS)
"""The position is the serial of the zone. If it is known, only the differences are fetched, where the server has them.
A serial that is not newer than the known one is a complete zone: a server may begin to count again, and a signature
covers the request, so that nobody else can answer with an old zone."""

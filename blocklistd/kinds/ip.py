"""IP addresses and prefixes: IPv4 and IPv6.

The canonical form is the text of RFC 5952 for IPv6 and four decimal octets for IPv4, then `/` and the length of the
prefix in bits. A prefix of one address has no length. An IPv4-mapped IPv6 address is its IPv4 address.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from blocklistd.kinds.invalid import InvalidEntry
from blocklistd.model import SPECIAL_ADDRESS, TOO_WIDE

WIDEST: Final = {4: 16, 6: 32}
"""The shortest length of a prefix in bits, by IP version."""
WIDEST_PROTECTED: Final = {4: 8, 6: 16}
"""The shortest length of a prefix in a guard file, by IP version."""
_SPECIAL: Final = [
    ipaddress.ip_network(text)
    for text in (
        *("64:ff9b::/96", "64:ff9b:1::/48"),  # IPv4 addresses behind NAT64 (RFC 6052, RFC 8215)
        *("2001::/32", "2002::/16"),  # IPv4 addresses in Teredo and 6to4 (RFC 4380, RFC 3056)
        *("192.0.0.0/24", "2001:1::/32"),  # protocol assignments, like those that find a NAT64 (RFC 6890, RFC 7050)
        *("169.254.0.0/16", "fe80::/10"),  # link-local (RFC 3927, RFC 4291)
        *("224.0.0.0/4", "ff00::/8"),  # multicast (RFC 5771, RFC 4291)
        *("240.0.0.0/4", "100::/64"),  # reserved, broadcast, discard-only (RFC 1112, RFC 919, RFC 6666)
    )
]
"""Special-purpose ranges (RFC 6890) that no list may block. Private, shared, documentation and benchmark ranges are not
among them: a publisher may want answers with such addresses blocked."""
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
PLAIN_IPV4: Final = rf"(?!0\.|127\.|169\.254\.|192\.0\.0\.|22[4-9]\.|2[345][0-9]\.){_OCTET}(?:\.{_OCTET}){{3}}"
"""The pattern of canonical IPv4 addresses; needs a character after it that continues no number."""
PLAIN: Final = re.compile(PLAIN_IPV4)
_WRITTEN: Final = re.compile(r"([0-9A-Fa-f.:]{2,45})(?:/(0|[1-9][0-9]{0,2}))?")
_MAPPED: Final = 96  # the length of ::ffff:0:0/96 (RFC 4291 section 2.5.5.2)
_BITS: Final = {str(octet): format(octet, "08b") for octet in range(256)}
_OCTETS: Final = {written: octet for octet, written in _BITS.items()}
_MEANT_AS_ONE: Final = re.compile(r"(?:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*|[0-9]+(?:\.[0-9]+){3})(?:/[0-9]+)?")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def ip(value: str) -> str:
    """The canonical form of an address or a prefix.

    Raises InvalidEntry: empty, not-an-address, host-bits (the address has bits beyond the length of the prefix),
    too-wide (a prefix shorter than WIDEST), local-address (of no host on the Internet: unspecified or loopback
    addresses, and ::/80, where resolvers keep IPv4 addresses as IPv4-mapped ones), special-address (in a range of
    _SPECIAL, or containing one).
    """
    return value if PLAIN.fullmatch(value) else parsed_ip(value)


def parsed_ip(value: str) -> str:
    """`ip` for a value that PLAIN does not match."""
    if not value:
        raise InvalidEntry("empty")
    written = _WRITTEN.fullmatch(value)
    address = _address(written[1]) if written is not None else None
    if written is None or address is None:
        raise InvalidEntry("not-an-address")
    length = int(written[2]) if written[2] else address.max_prefixlen
    if length > address.max_prefixlen:
        raise InvalidEntry("not-an-address")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped and length >= _MAPPED:
        address, length = address.ipv4_mapped, length - _MAPPED
    if int(address) & ((1 << address.max_prefixlen - length) - 1):
        raise InvalidEntry("host-bits")
    if length < WIDEST[address.version]:
        raise InvalidEntry(TOO_WIDE)
    if int(address) >> 24 in (0, 127) if address.version == 4 else not int(address) >> 48:
        raise InvalidEntry("local-address")
    if any(_overlap(address, length, network.network_address, network.prefixlen) for network in _SPECIAL):
        raise InvalidEntry(SPECIAL_ADDRESS)
    return _text(address, length)


def is_meant_as_address(text: str) -> bool:
    """Whether a text is meant as an address or a prefix, and not as a name."""
    return _MEANT_AS_ONE.fullmatch(text) is not None


def protected(value: str) -> str:
    """The canonical form of an address or a prefix of a guard file: any but the widest, also those that are no entry.

    Raises InvalidEntry: not-an-address, host-bits, too-wide (a prefix shorter than WIDEST_PROTECTED).
    """
    written = _WRITTEN.fullmatch(value)
    address = _address(written[1]) if written is not None else None
    length = int(written[2]) if written is not None and written[2] else address.max_prefixlen if address else 0
    if address is None or length > address.max_prefixlen:
        raise InvalidEntry("not-an-address")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped and length >= _MAPPED:
        address, length = address.ipv4_mapped, length - _MAPPED
    if int(address) & ((1 << address.max_prefixlen - length) - 1):
        raise InvalidEntry("host-bits")
    if length < WIDEST_PROTECTED[address.version]:
        raise InvalidEntry(TOO_WIDE)
    return _text(address, length)


def _overlap(one: Address, length: int, other: Address, other_length: int) -> bool:
    if one.version != other.version:
        return False
    rest = one.max_prefixlen - min(length, other_length)
    return int(one) >> rest == int(other) >> rest


def bits(value: str) -> tuple[int, str]:
    """The IP version of a canonical value, and the bits of its prefix as a text of zeros and ones."""
    address, _, length = value.partition("/")
    if ":" not in address:  # five times as fast as the library
        found = "".join([_BITS[octet] for octet in address.split(".")])
        return 4, found[: int(length)] if length else found
    found = format(int(ipaddress.IPv6Address(address)), "0128b")
    return 6, found[: int(length)] if length else found


def of_bits(version: int, prefix: str) -> str:
    """The canonical value of a prefix: the reverse of `bits`."""
    if version == 4:
        padded = prefix.ljust(32, "0")
        address = ".".join([_OCTETS[padded[at : at + 8]] for at in (0, 8, 16, 24)])
        return address if len(prefix) == 32 else f"{address}/{len(prefix)}"
    return _text(ipaddress.IPv6Address(int(prefix.ljust(128, "0"), 2)), len(prefix))


def containing(value: str) -> list[str]:
    """Every canonical value that contains this canonical one: the value itself, then wider prefixes."""
    version, prefix = bits(value)
    return [of_bits(version, prefix[:length]) for length in range(len(prefix), WIDEST[version] - 1, -1)]


def _text(address: Address, length: int) -> str:
    return str(address) if length == address.max_prefixlen else f"{address}/{length}"


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None

"""Names in the DNS, as zones are configured with them."""

from __future__ import annotations

from typing import Final

from blocklistd.config.page import Reader, Spot, Wrong
from blocklistd.config.reader import either, one_of
from blocklistd.config.values import match

ACTIONS: Final = {
    "nxdomain": ".",
    "nodata": "*.",
    "drop": "rpz-drop.",
    "passthru": "rpz-passthru.",
    "tcp-only": "rpz-tcp-only.",
}
"""What a policy's name stands for: the target of its CNAME."""

LONGEST: Final = 253
LONGEST_ZONE: Final = 127  # octets; more would leave too little for the names of entries


def zone_name(text: str) -> str:
    """Lower case, without the final dot."""
    return text.lower().removesuffix(".")


def _name(spot: Spot) -> str:
    text = zone_name(spot.text())
    match(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}", text)
    if len(text) > LONGEST:
        raise Wrong(f"a name of at most {LONGEST} characters")
    return text


def _zone(spot: Spot) -> str:
    name = _name(spot)
    if len(name) > LONGEST_ZONE:
        raise Wrong(f"a name of at most {LONGEST_ZONE} characters: an owner name has 255 octets in all")
    return name


def _action(spot: Spot) -> str:
    if spot.node is not None and spot.node.id == "mapping":
        return _target.convert(spot)
    word = spot.text()
    if word not in ACTIONS:
        raise Wrong
    return ACTIONS[word]


def _serial(spot: Spot) -> int:
    number = int(match("[1-9][0-9]{0,9}", spot.text())[0])
    if number >= 2**32:
        raise Wrong
    return number


name: Final = Reader("a name in the DNS", _name)
_target: Final = one_of({"cname": name})
zone: Final = Reader("the name of a zone", _zone)
action: Final = Reader(f"{either(ACTIONS)}, or {{cname: NAME}}", _action)
serial: Final = Reader("a serial from 1 to 4294967295", _serial)

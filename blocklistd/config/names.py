"""Readers of DNS names: zones, policies and serials."""

from __future__ import annotations

from typing import Final

from blocklistd.config.document import ConfigNode, InvalidValue, Reader
from blocklistd.config.reader import alternatives, one_of
from blocklistd.config.values import match

ACTIONS: Final = {
    "nxdomain": ".",
    "nodata": "*.",
    "drop": "rpz-drop.",
    "passthru": "rpz-passthru.",
    "tcp-only": "rpz-tcp-only.",
}
"""The CNAME target of each RPZ policy, by the name of the policy."""

MAX_NAME: Final = 253  # characters (RFC 1035 section 2.3.4: 255 octets on the wire)
MAX_ZONE: Final = 127  # characters; a longer name would leave too little room for the names of entries

MAX_SHARDS: Final = 32


def zone_name(text: str) -> str:
    """The zone's name in lower case, without the final dot."""
    return text.lower().removesuffix(".")


def shard_name(zone: str, shard: int) -> str:
    """The name of a zone's shard, from 0."""
    return f"{shard:02}.{zone}"


def _shards(node: ConfigNode) -> int:
    number = int(match("[1-9][0-9]?", node.text())[0])
    if number > MAX_SHARDS:
        raise InvalidValue
    return number


def _name(node: ConfigNode) -> str:
    text = zone_name(node.text())
    match(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}", text)
    if len(text) > MAX_NAME:
        raise InvalidValue(f"a name of at most {MAX_NAME} characters")
    return text


def _zone(node: ConfigNode) -> str:
    name = _name(node)
    if len(name) > MAX_ZONE:
        raise InvalidValue(f"a name of at most {MAX_ZONE} characters: an owner name has 255 octets in all")
    return name


def _action(node: ConfigNode) -> str:
    if node.yaml_node is not None and node.yaml_node.id == "mapping":
        return _target.convert(node)
    word = node.text()
    if word not in ACTIONS:
        raise InvalidValue
    return ACTIONS[word]


def _serial(node: ConfigNode) -> int:
    number = int(match("[1-9][0-9]{0,9}", node.text())[0])
    if number >= 2**32:
        raise InvalidValue
    return number


name: Final = Reader("a name in the DNS", _name)
_target: Final = one_of({"cname": name})
zone: Final = Reader("the name of a zone", _zone)
action: Final = Reader(f"{alternatives(ACTIONS)}, or {{cname: NAME}}", _action)
shards: Final = Reader(f"a whole number from 1 to {MAX_SHARDS}", _shards)
serial: Final = Reader("a serial from 1 to 4294967295", _serial)

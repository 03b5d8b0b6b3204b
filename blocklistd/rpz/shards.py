"""Spreads the names of a zone (rpz/rules.py) over its shards. Pure.

A domain and everything that it covers are in one shard: all names below the shortest name that is no public suffix. A
domain that is a public suffix covers names of every shard. Its rules are in one shard; the others have it as a name
that ends in ELSEWHERE, which covers and makes no rule. A prefix and all prefixes in it are in one shard, too, since no
entry is shorter than the bits that choose the shard.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from zlib import crc32

from blocklistd.kinds.ip import WIDEST
from blocklistd.kinds.name import is_public_suffix
from blocklistd.rpz.rules import ADDRESSES, DOMAIN, ELSEWHERE


def spread(names: Iterable[bytes], shards: int) -> list[list[bytes]]:
    """The sorted names of each shard, from the sorted names of the zone."""
    made: list[list[bytes]] = [[] for _ in range(shards)]
    group, own = b"\n", made[0]  # the names with the prefix `group` are in `own`
    for name in names:
        if not name.startswith(group):
            key = name[: -len(DOMAIN)]
            home = _home(key)
            own = made[crc32(home or key) % shards]
            group = b"\n" if not home else home if key.startswith(ADDRESSES) else home + b"\0"
            if not home and name.endswith(DOMAIN):
                for other in made:
                    if other is not own:
                        other.append(key + ELSEWHERE)
        own.append(name)
    return made


def _home(key: bytes) -> bytes:
    """The part of a name that chooses its shard; empty if the name is a public suffix."""
    if key.startswith(ADDRESSES):
        at = len(ADDRESSES) + 1
        return key[: at + WIDEST[int(key[at - 1 : at])]]
    end = 0
    while end >= 0:
        end = key.find(b"\0", end + 1)
        above = key[:end] if end >= 0 else key
        if not _is_suffix(above):
            return above
    return b""


@lru_cache(maxsize=1 << 14)
def _is_suffix(key: bytes) -> bool:
    return is_public_suffix(".".join(reversed(key.decode().split("\0"))))

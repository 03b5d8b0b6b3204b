"""Hashes of files: hex digits, in lower case."""

from __future__ import annotations

import re
from typing import Final

from blocklistd.kinds.refused import Refused

_HEX: Final = re.compile(r"[0-9a-f]+")


def md5(value: str) -> str:
    """128 bits (RFC 1321) as 32 lower-case hex digits, or Refused."""
    return _digest(value, 32)


def sha1(value: str) -> str:
    """160 bits (RFC 3174) as 40 lower-case hex digits, or Refused."""
    return _digest(value, 40)


def sha256(value: str) -> str:
    """256 bits (RFC 6234) as 64 lower-case hex digits, or Refused."""
    return _digest(value, 64)


def _digest(value: str, digits: int) -> str:
    if len(value) != digits:
        raise Refused("hash-length" if value else "empty")
    lower = value.lower()
    if not _HEX.fullmatch(lower):
        raise Refused("hash-digits")
    return lower

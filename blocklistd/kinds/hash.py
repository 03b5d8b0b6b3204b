"""Hashes of files: hex digits in lower case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from blocklistd.kinds.invalid import InvalidEntry

DIGITS: Final[Mapping[str, int]] = {"md5": 32, "sha1": 40, "sha256": 64}
"""The number of hex digits of a hash (RFC 1321, RFC 3174, RFC 6234)."""
_HEX: Final = re.compile(r"[0-9a-f]+")


def md5(value: str) -> str:
    """Return 128 bits as 32 lower-case hex digits. Raises InvalidEntry: empty, hash-length, hash-digits."""
    return _digest(value, DIGITS["md5"])


def sha1(value: str) -> str:
    """Return 160 bits as 40 lower-case hex digits. Raises InvalidEntry: empty, hash-length, hash-digits."""
    return _digest(value, DIGITS["sha1"])


def sha256(value: str) -> str:
    """Return 256 bits as 64 lower-case hex digits. Raises InvalidEntry: empty, hash-length, hash-digits."""
    return _digest(value, DIGITS["sha256"])


def _digest(value: str, digits: int) -> str:
    if len(value) != digits:
        raise InvalidEntry("hash-length" if value else "empty")
    lower = value.lower()
    if not _HEX.fullmatch(lower):
        raise InvalidEntry("hash-digits")
    return lower

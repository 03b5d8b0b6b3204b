"""HMAC (RFC 2104) for those who make millions with one key: its two keyed states made once, and copied. Pure.

`hmac.new` looks up the algorithm and hashes the key at each call, which costs more than a short message does.
"""

from __future__ import annotations

import hashlib
from typing import Final

_BLOCK: Final = {"sha256": 64, "sha512": 128}  # octets


class Keyed:
    """`begin` answers a hash to update with the message, `end` the MAC of it; who has millions in a loop updates
    `outer()` with the digest there, as `end` does."""

    def __init__(self, secret: bytes, algorithm: str = "sha256", prefix: bytes = b"") -> None:
        """`prefix` begins every message."""
        block = _BLOCK[algorithm]
        key = secret if len(secret) <= block else hashlib.new(algorithm, secret).digest()
        key = key.ljust(block, b"\0")
        self.begin = hashlib.new(algorithm, bytes(octet ^ 0x36 for octet in key) + prefix).copy
        self.outer = hashlib.new(algorithm, bytes(octet ^ 0x5C for octet in key)).copy

    def end(self, begun: hashlib._Hash) -> hashlib._Hash:
        """The hash whose digest is the MAC."""
        outer = self.outer()
        outer.update(begun.digest())
        return outer

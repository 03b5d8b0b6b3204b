"""Ids of entries: a keyed hash of type, NUL, value. An id identifies an entry in one list and reveals nothing of it.

A list never changes its method, since subscribers and appeals refer to entries by id. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

BLAKE2B: Final = "blake2b"
HMAC_SHA256: Final = "hmac-sha256"
METHODS: Final = (BLAKE2B, HMAC_SHA256)
"""BLAKE2b with a key (RFC 7693) for new lists, HMAC-SHA-256 (RFC 2104) for lists that version 0.2.0 created."""
FORM: Final = re.compile("e-[0-9a-f]{32}")
"""The form of ids, also of those that another list has made."""
_OCTETS: Final = 16
_BLOCK: Final = 64  # octets of a block of SHA-256; the secret is never longer


@dataclass(frozen=True, slots=True)
class Ids:
    """Makes the ids of one list. `method`: one of METHODS. `secret`: the key, 32 octets; without it nobody can test
    whether an entry is listed."""

    method: str
    secret: bytes = field(repr=False)

    def of(self, kind: bytes, value: bytes) -> str:
        """The id of one entry: `e-` and 32 hex digits."""
        return f"e-{self.digits(kind, [value])[0]}"

    def digits(self, kind: bytes, values: Iterable[bytes]) -> list[str]:
        """The 32 hex digits of the id of each value, in order; all values are of one kind."""
        prefix = kind + b"\0"
        found = []
        if self.method == BLAKE2B:
            begin = hashlib.blake2b(prefix, digest_size=_OCTETS, key=self.secret).copy
            for value in values:
                digest = begin()
                digest.update(value)
                found.append(digest.hexdigest())
            return found
        # HMAC by hand (RFC 2104 section 2): hmac.digest hashes the key each time, which takes twice as long
        key = self.secret.ljust(_BLOCK, b"\0")
        begin_inner = hashlib.sha256(bytes(octet ^ 0x36 for octet in key) + prefix).copy
        begin_outer = hashlib.sha256(bytes(octet ^ 0x5C for octet in key)).copy
        for value in values:
            inner, outer = begin_inner(), begin_outer()
            inner.update(value)
            outer.update(inner.digest())
            found.append(outer.hexdigest()[: 2 * _OCTETS])
        return found

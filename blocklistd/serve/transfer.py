"""A zone transfer, from its first message to its last (RFC 5936, RFC 1995). Pure: no socket, no clock but an argument.

What is sent is one serial's, whatever is published meanwhile: it is read from files that do not change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from blocklistd.serve.dns_message import AA, NOERROR, Query, header
from blocklistd.serve.tsig import Signer

CHUNK: Final = 128 * 1024  # octets handed to the socket at once
_LENGTH: Final = struct.Struct("!H").pack

Compiled = bytes | memoryview
"""Length-prefixed messages (outputs.wire)."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """What a transfer says: its first message's records, what was compiled, its last message's records."""

    first: bytes
    first_count: int
    parts: tuple[Compiled, ...]
    last: bytes
    last_count: int = 1


def axfr(soa: bytes, servers: tuple[bytes, int], compiled: Compiled) -> Sequence:
    """The whole zone: SOA and NS, the rules, SOA."""
    return Sequence(soa + servers[0], 1 + servers[1], (compiled,), soa)


def ixfr(new: bytes, old: bytes, removed: Compiled, added: Compiled) -> Sequence:
    """One difference: SOA(new), SOA(old), what goes, SOA(new), what comes, SOA(new) (RFC 1995 4).

    `added` opens with SOA(new), in the message of its first record: clients there are (kdig) take a message that ends
    in the new SOA for the end.
    """
    if not added:
        return Sequence(new + old, 2, (removed,), new + new, 2)
    return Sequence(new + old, 2, (removed, added), new)


def chunks(query: Query, sequence: Sequence, signer: Signer | None, now: int) -> Iterator[bytes]:
    """The transfer in chunks of whole length-prefixed messages, each message with the request's id, each signed.

    The question is repeated in the first message only (RFC 5936 2.2.1).
    """
    pending: list[bytes | bytearray] = []
    size = 0
    for message in _messages(query, sequence):
        signed = message if signer is None else signer.sign(message, now)
        pending += (_LENGTH(len(signed)), signed)
        size += len(signed)
        if size >= CHUNK:
            yield b"".join(pending)
            pending, size = [], 0
    yield b"".join(pending)


def _messages(query: Query, sequence: Sequence) -> Iterator[bytes | bytearray]:
    yield (
        header(query.id, query.flags, NOERROR, more=AA, counts=(1, sequence.first_count, 0, 0))
        + query.question
        + sequence.first
    )
    ident = struct.pack("!H", query.id)
    for part in sequence.parts:
        view = memoryview(part)
        start = 0
        while start < len(view):
            (size,) = struct.unpack_from("!H", view, start)
            message = bytearray(view[start + 2 : start + 2 + size])
            message[:2] = ident
            yield message
            start += 2 + size
    yield header(query.id, query.flags, NOERROR, more=AA, counts=(0, sequence.last_count, 0, 0)) + sequence.last


def newer(serial: int, than: int) -> bool:
    """Serial number arithmetic (RFC 1982 3.2)."""
    return 0 < (serial - than) % 2**32 < 2**31

"""Transaction signatures (TSIG, RFC 8945) of a server: checks a request, signs each message of an answer. Pure.

dnspython has this too, but parses each message to sign it. A transfer signs more than a thousand messages; this code
computes one HMAC for each and nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass, field
from typing import Final

from blocklistd.rpz.wire import wire_name

ALGORITHMS: Final = {"hmac-sha256": "sha256", "hmac-sha512": "sha512"}
_NAMES: Final = {name: wire_name(name) for name in ALGORITHMS}
FUDGE: Final = 300  # seconds that the clocks of client and server may differ (RFC 8945 10)
TSIG: Final = 250
ANY: Final = 255

NOERROR: Final = 0
BADSIG: Final = 16
BADKEY: Final = 17
BADTIME: Final = 18

_U16: Final = struct.Struct("!H").pack
_RECORD_HEAD: Final = struct.Struct("!HHIH").pack  # type, class, TTL, length
_TIMERS: Final = struct.Struct("!HIH").pack
_RDATA_HEAD: Final = struct.Struct("!HIHH")  # time, fudge, size of the MAC


@dataclass(frozen=True, slots=True)
class Key:
    """A shared secret. `name` is in wire format and lower case, `algorithm` a key of ALGORITHMS. `until`: Unix seconds
    at which it becomes invalid; None: it does not."""

    name: bytes
    algorithm: str
    secret: bytes = field(repr=False)
    until: float | None = None

    @property
    def algorithm_name(self) -> bytes:
        """The algorithm's domain name in wire format (RFC 8945 6)."""
        return _NAMES[self.algorithm]


@dataclass(frozen=True, slots=True)
class TsigRecord:
    """The parsed TSIG record of a message (RFC 8945 4.2).

    `start` is its offset in the message, `time` Unix seconds, `fudge` seconds. Names are in wire format, lower case.
    """

    start: int
    name: bytes
    algorithm: bytes
    time: int
    fudge: int
    mac: bytes
    original_id: int
    error: int
    other: bytes


class TsigRefused(Exception):
    """A request fails the check of its signature. `error` is the TSIG error, BADKEY, BADSIG or BADTIME.

    `key` signs the answer: the key of a BADTIME (RFC 8945 5.2.3), None for the others.
    """

    def __init__(self, error: int, key: Key | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.key = key


def check(wire: bytes, record: TsigRecord, key: Key | None, now: int, request_mac: bytes = b"") -> Key:
    """Checks a message's signature, and returns the key (RFC 8945 5.2). Raises TsigRefused.

    `key` is the key of the record's name, None if there is none. `now` is in Unix seconds. `request_mac` is the MAC of
    the request if the message is an answer.
    """
    if key is None or record.algorithm != key.algorithm_name:
        raise TsigRefused(BADKEY)
    unsigned = (
        struct.pack("!H", record.original_id)
        + wire[2:10]
        + struct.pack("!H", struct.unpack_from("!H", wire, 10)[0] - 1)
        + wire[12 : record.start]
    )
    digest = _hmac(key, request_mac)
    digest.update(unsigned)
    digest.update(_variables(key, record.time, record.fudge, record.error, record.other))
    if not hmac.compare_digest(digest.digest(), record.mac):  # also if the MAC is truncated (RFC 8945 5.2.2.1)
        raise TsigRefused(BADSIG)
    if abs(now - record.time) > record.fudge:
        raise TsigRefused(BADTIME, key)
    return key


class Signer:
    """Signs the messages of one answer, in the order in which they are sent (RFC 8945 5.3, 5.3.1).

    The first signature covers the request's MAC and all TSIG variables, each later one the MAC before it and the time.
    Without `request_mac` the first message is a request.
    """

    def __init__(self, key: Key, request_mac: bytes = b"") -> None:
        self._key = key
        self._inner, self._outer = _begun_hmac(key)
        self._mac = request_mac
        self._first = True

    @property
    def mac(self) -> bytes:
        """The MAC of the last signed message, or of the request."""
        return self._mac

    def sign(self, message: bytes | bytearray, now: int, error: int = NOERROR, other: bytes = b"") -> bytes:
        """The message with its TSIG record. `now` is in Unix seconds, `error` a TSIG error, `other` its data."""
        return _append_record(message, self.record(message, now, error, other))

    def record(
        self, message: bytes | bytearray | memoryview, now: int, error: int = NOERROR, other: bytes = b""
    ) -> bytes:
        """The TSIG record for a message whose header does not count it yet (RFC 8945 5.1)."""
        inner, outer = self._inner.copy(), self._outer.copy()
        if self._mac:
            inner.update(_U16(len(self._mac)) + self._mac)
        inner.update(message)
        if self._first:
            inner.update(_variables(self._key, now, FUDGE, error, other))
            self._first = False
        else:
            inner.update(_TIMERS(now >> 32, now & 0xFFFFFFFF, FUDGE))
        outer.update(inner.digest())
        self._mac = outer.digest()
        return _make_record(message, self._key.name, self._key.algorithm_name, now, self._mac, error, other)


def unsigned_error(message: bytes, record: TsigRecord, now: int, error: int) -> bytes:
    """The answer with an unsigned TSIG record, whose error is BADKEY or BADSIG (RFC 8945 5.2.1, 5.2.2, 5.3.2)."""
    return _append_record(message, _make_record(message, record.name, record.algorithm, now, b"", error, b""))


def _begun_hmac(key: Key) -> tuple[hashlib._Hash, hashlib._Hash]:
    """The inner and the outer hash of an HMAC (RFC 2104 2) before any text. To copy these for each message of a
    transfer takes a tenth less time than `hmac`, which copies three hashes and calls through Python."""
    secret, new = key.secret, getattr(hashlib, ALGORITHMS[key.algorithm])
    size = new().block_size
    secret = (new(secret).digest() if len(secret) > size else secret).ljust(size, b"\0")
    inner, outer = (new(bytes(octet ^ pad for octet in secret)) for pad in (0x36, 0x5C))
    return inner, outer


def _hmac(key: Key, mac: bytes) -> hmac.HMAC:
    digest = hmac.new(key.secret, digestmod=ALGORITHMS[key.algorithm])
    if mac:
        digest.update(struct.pack("!H", len(mac)) + mac)
    return digest


def _variables(key: Key, time: int, fudge: int, error: int, other: bytes) -> bytes:
    """The TSIG variables in the order in which they are digested (RFC 8945 4.3.3)."""
    return (
        key.name
        + struct.pack("!HI", ANY, 0)
        + key.algorithm_name
        + struct.pack("!HIHHH", time >> 32, time & 0xFFFFFFFF, fudge, error, len(other))
        + other
    )


def _append_record(message: bytes | bytearray, record: bytes) -> bytes:
    """The message with the record at its end, counted in ARCOUNT."""
    return b"".join((message[:10], _U16((message[10] << 8 | message[11]) + 1), message[12:], record))


def _make_record(
    message: bytes | bytearray | memoryview,
    name: bytes,
    algorithm: bytes,
    now: int,
    mac: bytes,
    error: int,
    other: bytes,
) -> bytes:
    return b"".join(
        (
            name,
            _RECORD_HEAD(TSIG, ANY, 0, len(algorithm) + _RDATA_HEAD.size + len(mac) + 6 + len(other)),
            algorithm,
            _RDATA_HEAD.pack(now >> 32, now & 0xFFFFFFFF, FUDGE, len(mac)),
            mac,
            message[:2],
            _U16(error),
            _U16(len(other)),
            other,
        )
    )

"""Transaction signatures (RFC 8945), for a server: check a request, sign each message of an answer. Pure.

Own code where dnspython has some, because a transfer signs more than a thousand messages: one HMAC each, nothing else.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass, field
from typing import Final

from blocklistd.rpz.wire import wire_name

ALGORITHMS: Final = {"hmac-sha256": "sha256", "hmac-sha512": "sha512"}
_NAMES: Final = {name: wire_name(name) for name in ALGORITHMS}
FUDGE: Final = 300  # seconds that clocks may differ (RFC 8945 10)
TSIG: Final = 250
ANY: Final = 255

NOERROR: Final = 0
BADSIG: Final = 16
BADKEY: Final = 17
BADTIME: Final = 18

_U16: Final = struct.Struct("!H").pack
_HEAD: Final = struct.Struct("!HHIH").pack  # type, class, TTL, length
_TIMERS: Final = struct.Struct("!HIH").pack
_FIXED: Final = struct.Struct("!HIHH")  # time, fudge, size of the MAC


@dataclass(frozen=True, slots=True)
class Key:
    """A shared secret; `name` is the key's name on the wire, lower case."""

    name: bytes
    algorithm: str
    secret: bytes = field(repr=False)

    @property
    def algorithm_name(self) -> bytes:
        return _NAMES[self.algorithm]


@dataclass(frozen=True, slots=True)
class Record:
    """The TSIG record of a message; `start` is its offset, names are on the wire and lower case, times Unix seconds."""

    start: int
    name: bytes
    algorithm: bytes
    time: int
    fudge: int
    mac: bytes
    original_id: int
    error: int
    other: bytes


class Refused(Exception):
    """A request that is not what it claims; `error` is the TSIG error, `key` signs the answer where it can (5.2.3)."""

    def __init__(self, error: int, key: Key | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.key = key


def check(wire: bytes, record: Record, key: Key | None, now: int, request_mac: bytes = b"") -> Key:
    """The key that signed the message. Raises Refused with BADKEY, BADSIG or BADTIME (RFC 8945 5.2).

    `request_mac` is that of the request, where the message is an answer to one of ours.
    """
    if key is None or record.algorithm != key.algorithm_name:
        raise Refused(BADKEY)
    unsigned = (
        struct.pack("!H", record.original_id)
        + wire[2:10]
        + struct.pack("!H", struct.unpack_from("!H", wire, 10)[0] - 1)
        + wire[12 : record.start]
    )
    digest = _hmac(key, request_mac)
    digest.update(unsigned)
    digest.update(_variables(key, record.time, record.fudge, record.error, record.other))
    if not hmac.compare_digest(digest.digest(), record.mac):  # a truncated one is not the whole: refused as well
        raise Refused(BADSIG)
    if abs(now - record.time) > record.fudge:
        raise Refused(BADTIME, key)
    return key


class Signer:
    """Signs the messages of one exchange in their order: the first over the request's MAC and all variables, each later
    one over the MAC before it and the time alone (RFC 8945 5.3.1)."""

    def __init__(self, key: Key, request_mac: bytes = b"") -> None:
        self._key = key
        self._begin = hmac.new(key.secret, digestmod=ALGORITHMS[key.algorithm]).copy
        self._mac = request_mac
        self._first = True

    @property
    def mac(self) -> bytes:
        """Of the last message that was signed."""
        return self._mac

    def sign(self, message: bytes | bytearray, now: int, error: int = NOERROR, other: bytes = b"") -> bytes:
        """The message with its TSIG record."""
        return _with(message, self.record(message, now, error, other))

    def record(
        self, message: bytes | bytearray | memoryview, now: int, error: int = NOERROR, other: bytes = b""
    ) -> bytes:
        """The TSIG record for a message that is not counted in its header yet (RFC 8945 5.1)."""
        digest = self._begin()
        if self._mac:
            digest.update(_U16(len(self._mac)) + self._mac)
        digest.update(message)
        if self._first:
            digest.update(_variables(self._key, now, FUDGE, error, other))
            self._first = False
        else:
            digest.update(_TIMERS(now >> 32, now & 0xFFFFFFFF, FUDGE))
        self._mac = digest.digest()
        return _record(message, self._key.name, self._key.algorithm_name, now, self._mac, error, other)


def unsigned_error(message: bytes, record: Record, now: int, error: int) -> bytes:
    """An answer that says why it is not signed: BADKEY or BADSIG, with an empty MAC (RFC 8945 5.2.1, 5.2.2)."""
    return _with(message, _record(message, record.name, record.algorithm, now, b"", error, b""))


def _hmac(key: Key, mac: bytes) -> hmac.HMAC:
    digest = hmac.new(key.secret, digestmod=ALGORITHMS[key.algorithm])
    if mac:
        digest.update(struct.pack("!H", len(mac)) + mac)
    return digest


def _variables(key: Key, time: int, fudge: int, error: int, other: bytes) -> bytes:
    return (
        key.name
        + struct.pack("!HI", ANY, 0)
        + key.algorithm_name
        + struct.pack("!HIHHH", time >> 32, time & 0xFFFFFFFF, fudge, error, len(other))
        + other
    )


def _with(message: bytes | bytearray, record: bytes) -> bytes:
    return b"".join((message[:10], _U16((message[10] << 8 | message[11]) + 1), message[12:], record))


def _record(
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
            _HEAD(TSIG, ANY, 0, len(algorithm) + _FIXED.size + len(mac) + 6 + len(other)),
            algorithm,
            _FIXED.pack(now >> 32, now & 0xFFFFFFFF, FUDGE, len(mac)),
            mac,
            message[:2],
            _U16(error),
            _U16(len(other)),
            other,
        )
    )

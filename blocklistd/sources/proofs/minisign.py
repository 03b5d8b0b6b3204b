"""Does a body prove its origin, and is it the newest that this origin said? Pure: no clock, and no file but the given.

minisign's format: an Ed25519 signature of the body (of its BLAKE2b-512 when prehashed, of the body itself in the legacy
form), and a second one, over the first and the trusted comment, which usually holds the time of signing.
"""

from __future__ import annotations

import base64
import hashlib
import io
import mmap
import re
from collections.abc import Container
from contextlib import closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import minisign

from blocklistd.errors import StaleError, VerifyError
from blocklistd.model import Sha256
from blocklistd.times import rfc3339

KEY_ID: Final = slice(2, 10)  # of the decoded second line, after the algorithm, in signatures and public keys alike
SIGNATURE: Final = slice(10, 74)
TIMESTAMP: Final = re.compile(r"timestamp:([0-9]{1,11})")  # Unix seconds; more digits are another unit, or no time


@dataclass(frozen=True, slots=True)
class Proof:
    """What a verified signature is remembered by; both None for the method `none`.

    `signature` is the SHA-256 of the two signatures proper: whitespace, the untrusted comment and the slack bits of
    base64 do not make another one. `signed_at` is in Unix seconds, None where the trusted comment says none.
    """

    signature: Sha256 | None
    signed_at: int | None


def verify_minisign(body: BinaryIO, signature: bytes, key: minisign.PublicKey) -> Proof:
    """Checks the whole of `body`, from its start, against the bytes of a .minisig file. Raises VerifyError."""
    try:
        parsed = minisign.Signature.from_bytes(signature)
    except minisign.Error:
        raise VerifyError("what was served as signature is none: expected the four lines of a .minisig file") from None
    _, first, _, second = signature.splitlines()
    proper = base64.b64decode(first)
    found, expected = _key_id(proper), _key_id(base64.b64decode(key.to_base64()))
    if found != expected:
        raise VerifyError(f"signed by key {found}, expected key {expected}: did the hotline change its key?")
    body.flush()
    body.seek(0)
    try:
        with nullcontext(body) if parsed.is_prehashed() else closing(_Whole(body)) as data:
            key.verify(data, parsed)
    except minisign.Error:
        raise VerifyError(
            "the signature is of another body, or the body (or the signature's trusted comment) was changed"
        ) from None
    # Ed25519 signatures are not malleable here: the library refuses an S of L or more (RFC 8032 section 5.1.7), so
    # nobody but the key's owner makes another digest. The algorithm's two bytes are signed by nobody: left out.
    digest = hashlib.sha256(proper[SIGNATURE] + base64.b64decode(second)).hexdigest()
    return Proof(Sha256(digest), _timestamp(parsed.trusted_comment))


def check_replay(
    proof: Proof, *, last_signature: Sha256 | None, last_signed_at: int | None, superseded: Container[Sha256]
) -> None:
    """Raises StaleError for what was said before something newer was accepted.

    The last accepted signature may come again. So may an old body with a new signature: taking a change back is the
    hotline's right. A signature without a time is refused only when it was accepted, and superseded, before; and where
    a hotline signs without any time, an old body signed again has its old signature, and is refused.
    """
    if proof.signature is None or proof.signature == last_signature:
        return
    if proof.signature in superseded:
        raise StaleError("this signature was accepted before, and a newer one after it: an old body is served again")
    if proof.signed_at is not None and last_signed_at is not None and proof.signed_at < last_signed_at:
        raise StaleError(
            f"signed at {_written(proof.signed_at)}, expected no earlier than the last accepted one, "
            f"{_written(last_signed_at)}: an old body is served again"
        )


class _Whole:
    """A body whose read() is all of it, mapped rather than read: a legacy signature is checked in one call.

    A mapping of a file counts neither as the job's data (RLIMIT_DATA) nor as its own memory.
    """

    def __init__(self, body: BinaryIO) -> None:
        self._body = body
        self._map: mmap.mmap | None = None

    def read(self, size: int = -1, /) -> Any:
        try:
            self._map = mmap.mmap(self._body.fileno(), 0, access=mmap.ACCESS_READ)
        except (io.UnsupportedOperation, ValueError):  # no file behind it; an empty one
            return self._body.read()
        return self._map

    def close(self) -> None:
        if self._map is not None:
            self._map.close()


def _key_id(proper: bytes) -> str:
    """As minisign writes it in a public key's comment: a little-endian number in hex, without leading zeros."""
    return f"{int.from_bytes(proper[KEY_ID], 'little'):X}"


def _timestamp(comment: str) -> int | None:
    for part in comment.split("\t"):
        if match := TIMESTAMP.fullmatch(part):
            return int(match[1])
    return None


def _written(seconds: int) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))

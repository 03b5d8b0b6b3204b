"""minisign: a signature beside the body. Pure: no clock, and no file but the given.

Its format: an Ed25519 signature of the body (of its BLAKE2b-512 when prehashed, of the body itself in the legacy
form), and a second one, over the first and the trusted comment, which usually holds the time of signing. Everything
that `minisign -V` accepts is accepted: lines end in LF or CR LF, comments are any bytes, what follows the last line is
ignored, and the first line of a public key may be anything.
"""

from __future__ import annotations

import base64
import hashlib
import io
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from blocklistd.errors import VerifyError
from blocklistd.model import Sha256
from blocklistd.sources.proofs.proof import Claim, Proof, Proven

if TYPE_CHECKING:
    import minisign

ALGORITHM: Final = slice(0, 2)  # of the decoded second line, in signatures and public keys alike
KEY_ID: Final = slice(2, 10)
SIGNATURE: Final = slice(10, 74)
PUBLIC: Final = slice(10, 42)
PREHASHED: Final = {b"ED": True, b"Ed": False}
TIMESTAMP: Final = re.compile(r"timestamp:([0-9]{1,11})")  # Unix seconds; more digits are another unit, or no time


@dataclass(frozen=True, slots=True)
class Signature:
    """The lines of a .minisig file, decoded: the signature of the body, and that of it and the trusted comment."""

    first: bytes
    comment: bytes
    second: bytes

    @classmethod
    def parse(cls, text: bytes) -> Signature:
        """Parses a .minisig file. Raises ValueError where it is none."""
        untrusted, first, trusted, second = _lines(text, 4)
        if not (untrusted.startswith(b"untrusted comment: ") and trusted.startswith(b"trusted comment: ")):
            raise ValueError("no comments")
        found = cls(_decoded(first, 74), trusted.removeprefix(b"trusted comment: "), _decoded(second, 64))
        if found.first[ALGORITHM] not in PREHASHED:
            raise ValueError("another algorithm")
        return found


def verify_minisign(body: BinaryIO, signature: bytes, key: minisign.PublicKey) -> Proven:
    """Checks the whole of `body`, from its start, against the bytes of a .minisig file. Raises VerifyError."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        parsed = Signature.parse(signature)
    except ValueError:
        raise VerifyError("what was served as signature is none: expected the four lines of a .minisig file") from None
    proper, expected_by = parsed.first, base64.b64decode(key.to_base64())
    found, expected = _key_id(proper), _key_id(expected_by)
    if found != expected:
        raise VerifyError(f"signed by key {found}, expected key {expected}: did the hotline change its key?")
    verify = Ed25519PublicKey.from_public_bytes(expected_by[PUBLIC]).verify
    body.flush()
    body.seek(0)
    try:
        if PREHASHED[proper[ALGORITHM]]:
            digest = hashlib.file_digest(body, hashlib.blake2b)  # type: ignore[arg-type]  # it has readinto
            verify(proper[SIGNATURE], digest.digest())
        else:
            with _whole(body) as data:
                verify(proper[SIGNATURE], data)
        verify(parsed.second, proper[SIGNATURE] + parsed.comment)
    except InvalidSignature:
        raise VerifyError(
            "the signature is of another body, or the body (or the signature's trusted comment) was changed"
        ) from None
    # Ed25519 signatures are not malleable here: the library refuses an S of L or more (RFC 8032 section 5.1.7), so
    # nobody but the key's owner makes another digest. The algorithm's two bytes are signed by nobody: left out.
    remembered = hashlib.sha256(proper[SIGNATURE] + parsed.second).hexdigest()
    return Proven(Sha256(remembered), _timestamp(parsed.comment.decode("latin-1")))


@contextmanager
def _whole(body: BinaryIO) -> Iterator[Any]:
    """The whole body, mapped into memory rather than read: a legacy signature is checked in one call.

    A mapping of a file counts neither as the job's data (RLIMIT_DATA) nor as its own memory.
    """
    try:
        mapped = mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ)
    except (io.UnsupportedOperation, ValueError):  # no file behind it; an empty one
        yield body.read()
        return
    with mapped:
        yield mapped


def _lines(text: bytes, count: int) -> list[bytes]:
    """The first lines, without their ends. Raises ValueError where there are fewer."""
    lines = [line.rstrip(b"\r") for line in text.split(b"\n", count)[:count]]
    if len(lines) < count:
        raise ValueError("too few lines")
    return lines


def _decoded(line: bytes, length: int) -> bytes:
    """Decodes base64. Raises ValueError unless that gives `length` bytes."""
    found = base64.b64decode(line, validate=True)
    if len(found) != length:
        raise ValueError("another length")
    return found


def _key_id(proper: bytes) -> str:
    """As minisign writes it in a public key's comment: a little-endian number in hex, without leading zeros."""
    return f"{int.from_bytes(proper[KEY_ID], 'little'):X}"


def _timestamp(comment: str) -> int | None:
    for part in comment.split("\t"):
        if match := TIMESTAMP.fullmatch(part):
            return int(match[1])
    return None


def public_key(text: bytes) -> str:
    """The base64 of a minisign public key: of the second line of a .pub file, or of a file that has this line alone.
    Raises VerifyError where it is none."""
    import minisign

    for line in text.split(b"\n", 2)[1::-1]:  # the second, the first
        try:
            return minisign.PublicKey.from_base64(line.strip()).to_base64().decode()
        except (minisign.Error, ValueError):
            continue
    raise VerifyError(
        "not a minisign public key: expected the two lines of a .pub file, or its second line alone (56 characters)"
    )


def _verify(body: BinaryIO, claim: Claim) -> Proven:
    import minisign

    assert claim.key is not None
    assert claim.signature is not None
    return verify_minisign(body, claim.signature, minisign.PublicKey.from_base64(claim.key))


PROOF: Final = Proof(
    _verify,
    key="a file with a minisign public key (a .pub file, or its second line alone)",
    read_key=public_key,
    needs_signature=True,
    imports=("minisign", "cryptography.hazmat.primitives.asymmetric.ed25519"),
)
"""The signature is fetched beside the body."""

"""The method `minisign`: a minisign signature in a file beside the body. Pure: no clock, and only the given files.

A .minisig file has an Ed25519 signature (RFC 8032) of the body (of its BLAKE2b-512 if prehashed, of the body itself in
the legacy form), and a second signature, of the first signature and the trusted comment, which usually contains the
time of signing. Everything that `minisign -V` accepts is accepted: lines end in LF or CR LF, comments are any bytes,
bytes after the last line are ignored, and the first line of a public key is any text.
"""

from __future__ import annotations

import base64
import hashlib
import io
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from blocklistd.errors import VerifyError
from blocklistd.model import Sha256
from blocklistd.sources.proofs.proof import Claim, Proof, Proven, text_fingerprint

if TYPE_CHECKING:
    import minisign

# parts of the decoded second line; the first two are the same in signatures and in public keys
ALGORITHM: Final = slice(0, 2)
KEY_ID: Final = slice(2, 10)
SIGNATURE: Final = slice(10, 74)
PUBLIC: Final = slice(10, 42)
PREHASHED: Final = {b"ED": True, b"Ed": False}  # by the algorithm
TIMESTAMP: Final = re.compile(r"timestamp:([0-9]{1,11})")  # Unix seconds; more digits are another unit, or no time


@dataclass(frozen=True, slots=True)
class Signature:
    """The decoded lines of a .minisig file.

    `first`: algorithm, key id and the signature of the body, 74 bytes. `comment`: the trusted comment, without its
    label. `second`: the signature of the first signature and the comment, 64 bytes.
    """

    first: bytes
    comment: bytes
    second: bytes

    @classmethod
    def parse(cls, text: bytes) -> Signature:
        """Parse a .minisig file. Raises ValueError if the text has another form."""
        untrusted, first, trusted, second = _lines(text, 4)
        if not (untrusted.startswith(b"untrusted comment: ") and trusted.startswith(b"trusted comment: ")):
            raise ValueError("no comments")
        found = cls(_decoded(first, 74), trusted.removeprefix(b"trusted comment: "), _decoded(second, 64))
        if found.first[ALGORITHM] not in PREHASHED:
            raise ValueError("another algorithm")
        return found


def verify_minisign(body: BinaryIO, signature: bytes, key: minisign.PublicKey) -> Proven:
    """Verify the complete `body` against the bytes of a .minisig file. Raises VerifyError.

    The result has a digest of both signatures, and the time of the trusted comment.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        parsed = Signature.parse(signature)
    except ValueError:
        raise VerifyError(
            "not a minisign signature: expected the four lines of a .minisig file, check `verify.signature`"
        ) from None
    first, public = parsed.first, base64.b64decode(key.to_base64())
    found, expected = _key_id(first), _key_id(public)
    if found != expected:
        raise VerifyError(
            f"signed by key {found}, expected key {expected}:"
            " ask the hotline whether it has a new key, then replace `verify.key`"
        )
    verify = Ed25519PublicKey.from_public_bytes(public[PUBLIC]).verify
    body.flush()
    body.seek(0)
    try:
        if PREHASHED[first[ALGORITHM]]:
            digest = hashlib.file_digest(body, hashlib.blake2b)  # type: ignore[arg-type]  # it has readinto
            verify(first[SIGNATURE], digest.digest())
        else:
            with _mapped(body) as data:
                verify(first[SIGNATURE], data)
        verify(parsed.second, first[SIGNATURE] + parsed.comment)
    except InvalidSignature:
        raise VerifyError(
            "the signature does not fit the body or its trusted comment: check `verify.signature`, or ask the hotline"
        ) from None
    # Ed25519 signatures are not malleable here: the library refuses an S of L or more (RFC 8032 section 5.1.7), so only
    # the owner of the key can make another digest. The two bytes of the algorithm are not signed: they are excluded.
    remembered = hashlib.sha256(first[SIGNATURE] + parsed.second).hexdigest()
    return Proven(Sha256(remembered), _timestamp(parsed.comment.decode("latin-1")))


@contextmanager
def _mapped(body: BinaryIO) -> Iterator[Any]:
    """The complete body, mapped into memory instead of read: a legacy signature is verified in one call.

    A mapped file counts neither towards RLIMIT_DATA nor as private memory of the job.
    """
    try:
        mapped = mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ)
    except (io.UnsupportedOperation, ValueError):  # it is no file, or an empty one
        yield body.read()
        return
    with mapped:
        yield mapped


def _lines(text: bytes, count: int) -> list[bytes]:
    """The first `count` lines, without their ends. Raises ValueError if there are fewer."""
    lines = [line.rstrip(b"\r") for line in text.split(b"\n", count)[:count]]
    if len(lines) < count:
        raise ValueError("too few lines")
    return lines


def _decoded(line: bytes, length: int) -> bytes:
    """Decode base64. Raises ValueError unless the result has `length` bytes."""
    found = base64.b64decode(line, validate=True)
    if len(found) != length:
        raise ValueError("another length")
    return found


def _key_id(decoded: bytes) -> str:
    """The key id as minisign writes it into comments: a little-endian number in hex, without leading zeros."""
    return f"{int.from_bytes(decoded[KEY_ID], 'little'):X}"


def _timestamp(comment: str) -> int | None:
    """The time of signing in a trusted comment, in Unix seconds; None if it has none."""
    for part in comment.split("\t"):
        if match := TIMESTAMP.fullmatch(part):
            return int(match[1])
    return None


def public_key(text: bytes) -> str:
    """The base64 of a minisign public key, from a .pub file, or from a file that has only its second line. Raises
    VerifyError for any other file."""
    import minisign

    for line in text.split(b"\n", 2)[1::-1]:  # the second line, then the first
        try:
            return minisign.PublicKey.from_base64(line.strip()).to_base64().decode()
        except (minisign.Error, ValueError):
            continue
    raise VerifyError(
        "not a minisign public key: expected the two lines of a .pub file, or its second line alone (56 characters)"
    )


def _verify(body: BinaryIO, claim: Claim) -> Proven:
    """Verify with the keys that have the key id of the signature: ids are not unique."""
    import minisign

    assert claim.signature is not None
    keys = {key: _key_id(base64.b64decode(key)) for key in claim.keys}
    named = list(keys)[:1]  # for a file that is no signature
    if len(keys) > 1:
        with suppress(ValueError):
            found = _key_id(Signature.parse(claim.signature).first)
            named = [key for key in keys if keys[key] == found]
            if not named:
                raise VerifyError(
                    f"signed by key {found}, expected one of the keys {', '.join(keys.values())}:"
                    " ask the hotline whether it has a new key, then add it to `verify.key`"
                )
    for last, key in zip([*[False] * (len(named) - 1), True], named, strict=True):
        try:
            proven = verify_minisign(body, claim.signature, minisign.PublicKey.from_base64(key))
            return replace(proven, key=text_fingerprint(key))
        except VerifyError:
            if last:
                raise
    raise AssertionError("there is a key")


PROOF: Final = Proof(
    _verify,
    key="a file with a minisign public key (a .pub file, or its second line alone)",
    read_key=public_key,
    several_keys=True,
    needs_signature=True,
    signature_ending=".minisig",
    imports=("minisign", "cryptography.hazmat.primitives.asymmetric.ed25519"),
)
"""The signature is fetched beside the body."""

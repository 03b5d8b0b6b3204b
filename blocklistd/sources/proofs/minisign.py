"""minisign: a signature beside the body. Pure: no clock, and no file but the given.

Its format: an Ed25519 signature of the body (of its BLAKE2b-512 when prehashed, of the body itself in the legacy
form), and a second one, over the first and the trusted comment, which usually holds the time of signing.
"""

from __future__ import annotations

import base64
import hashlib
import io
import mmap
import re
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from blocklistd.errors import VerifyError
from blocklistd.model import Sha256
from blocklistd.sources.proofs.proof import Claim, Proof, Proven

if TYPE_CHECKING:
    import minisign

KEY_ID: Final = slice(2, 10)  # of the decoded second line, after the algorithm, in signatures and public keys alike
SIGNATURE: Final = slice(10, 74)
TIMESTAMP: Final = re.compile(r"timestamp:([0-9]{1,11})")  # Unix seconds; more digits are another unit, or no time


def verify_minisign(body: BinaryIO, signature: bytes, key: minisign.PublicKey) -> Proven:
    """Checks the whole of `body`, from its start, against the bytes of a .minisig file. Raises VerifyError."""
    import minisign

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
    return Proven(Sha256(digest), _timestamp(parsed.trusted_comment))


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


def public_key(text: bytes) -> str:
    """The base64 of a minisign public key file; raises VerifyError where it is none."""
    import minisign

    try:
        return base64.b64encode(base64.b64decode(minisign.PublicKey.from_bytes(text).to_base64())).decode()
    except (minisign.Error, ValueError) as error:
        raise VerifyError(f"not a minisign public key ({error}): expected the two lines of a .pub file") from None


def _verify(body: BinaryIO, claim: Claim) -> Proven:
    import minisign

    assert claim.key is not None
    assert claim.signature is not None
    return verify_minisign(body, claim.signature, minisign.PublicKey.from_base64(claim.key))


PROOF: Final = Proof(
    _verify,
    key="a file with a minisign public key",
    read_key=public_key,
    needs_signature=True,
    imports=("minisign",),
)
"""The signature is fetched beside the body."""

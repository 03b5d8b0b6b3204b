"""The method `openpgp`: signatures of OpenPGP (RFC 9580), in a file beside the body or in the body itself.

The library pysequoia verifies each signature over the bytes of the list, and judges the certificate: revocations,
expiry, the usage of its keys, weak algorithms (docs/adr/0015-openpgp.md). It does not report the time of a signature:
each signature is verified by itself, and its time is read from it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from blocklistd.errors import VerifyError
from blocklistd.limits import MAX_OPENPGP_BYTES
from blocklistd.model import Sha256
from blocklistd.sources.proofs import openpgp_message as message
from blocklistd.sources.proofs.openpgp_packets import CUT_SHORT, MANY_PACKETS
from blocklistd.sources.proofs.proof import Claim, Proof, Proven

if TYPE_CHECKING:
    import pysequoia

T = TypeVar("T")

NO_SIGNATURE: Final = (
    "not an OpenPGP signature: expected the result of `gpg --detach-sign` or `sq sign --detached`, check"
    " `verify.signature`"
)
OTHER_KEY: Final = (
    "signed by the OpenPGP key {}, which is not in `verify.key`: ask the hotline whether it has a new key, then add it"
)
TEXT_MODE: Final = "the signature is one of a text: ask the hotline to sign without `--textmode`"
WEAK: Final = "the signature uses {}, which is no longer secure: ask the hotline to sign with SHA-256 or SHA-512"
REVOKED: Final = "the hotline has revoked its OpenPGP key: ask the hotline for its new key"
EXPIRED: Final = (
    "the OpenPGP key has expired: ask the hotline for its key with a later expiry, and replace `verify.key`"
)
INVALID: Final = (
    "the OpenPGP signature does not fit the body, or its key was not allowed to sign at that time: check"
    " `verify.signature` and `verify.key`, or ask the hotline"
)
TOO_LARGE: Final = (
    f"more than {MAX_OPENPGP_BYTES} bytes are signed by OpenPGP: ask the hotline to sign a compressed file"
)
WEAK_HASHES: Final = {1: "MD5", 2: "SHA1", 3: "RIPEMD160"}  # by the number of RFC 9580 section 9.5


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate: `fingerprint` of its primary key, and the fingerprints and key ids of all its keys, in hex."""

    cert: pysequoia.Cert
    fingerprint: str
    handles: frozenset[str]

    @property
    def sha256(self) -> Sha256:
        """The SHA-256 of the fingerprint."""
        return Sha256(hashlib.sha256(self.fingerprint.encode()).hexdigest())

    def invalid_at(self, now: datetime) -> str:
        """Why the certificate verifies nothing at the time `now`; empty if it may verify."""
        if self.cert.is_revoked:
            return REVOKED
        expires = self.cert.expiration
        return EXPIRED if expires is not None and expires <= now else ""

    @classmethod
    def read(cls, text: bytes) -> Certificate:
        """Read a file with one certificate, armored or binary. Raises VerifyError."""
        import pysequoia
        from pysequoia.packet import PacketPile, Tag

        certs = attempt(lambda: pysequoia.Cert.split_bytes(text))
        packets = list(attempt(lambda: PacketPile.from_bytes(text)) or ())
        is_secret = any(packet.tag in (Tag.SecretKey, Tag.SecretSubkey) for packet in packets)
        if certs is None or len(certs) != 1 or is_secret:
            raise VerifyError("not one OpenPGP public key: expected the result of `gpg --armor --export KEY`")
        handles = {handle for packet in packets for handle in (packet.fingerprint, packet.key_id) if handle}
        return cls(certs[0], certs[0].fingerprint, frozenset(handles))


def attempt(function: Callable[[], T]) -> T | None:
    """The result of a function of the library; None if it fails. Its errors are RuntimeError, and PanicException, which
    is no Exception; their texts are not for people."""
    try:
        return function()
    except (MemoryError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        return None


def read_key(text: bytes) -> str:
    """The base64 of the certificate in a file. Raises VerifyError for any other file."""
    return base64.b64encode(bytes(Certificate.read(text).cert)).decode()


def key_warning(key: str, now: datetime) -> str:
    """Why the certificate verifies nothing at the time `now`; empty if it may verify."""
    return Certificate.read(base64.b64decode(key)).invalid_at(now)


def fingerprint(key: str) -> Sha256:
    """The SHA-256 of the fingerprint of the primary key: a later expiry or another subkey make no other key."""
    return Certificate.read(base64.b64decode(key)).sha256


def verify(body: BinaryIO, claim: Claim) -> Proven:
    """Verify the complete `body` against a detached signature, or those that were inside its encryption. Without any,
    the body must be a signed message, whose content is written to `claim.content`. Raises VerifyError."""
    certificates = [Certificate.read(base64.b64decode(key)) for key in claim.keys]
    if claim.signature is not None:
        signatures = message.detached_signatures(claim.signature)
        if not signatures:
            raise VerifyError(NO_SIGNATURE)
        return verify_content(body, message.SignedContent(signatures, message.BINARY), certificates, claim.now)
    if claim.inner_signatures:
        inner = message.SignedContent(list(claim.inner_signatures), message.BINARY)
        return verify_content(body, inner, certificates, claim.now)
    found = message.extract(body, claim.content, claim.bound)
    return verify_content(claim.content, found, certificates, claim.now)


def verify_content(
    content: BinaryIO, signed: message.SignedContent, certificates: Sequence[Certificate], now: datetime
) -> Proven:
    """Verify the complete `content`: one valid signature by one of the certificates is enough, and the first valid one
    counts. Raises VerifyError."""
    import pysequoia

    parsed = [(packet, attempt(partial(pysequoia.Sig.from_bytes, packet))) for packet in signed.signatures]
    ours = [
        (packet, signature, certificate)
        for packet, signature in parsed
        for certificate in certificates
        if signature is not None and _issuer(signature) in certificate.handles
    ]
    if not ours:
        issuer = next((_issuer(signature) for _, signature in parsed if signature is not None), "")
        raise VerifyError(OTHER_KEY.format(issuer.upper()) if issuer else NO_SIGNATURE)
    content.flush()
    content.seek(0)
    data = content.read(MAX_OPENPGP_BYTES + 1)
    if len(data) > MAX_OPENPGP_BYTES:
        raise VerifyError(TOO_LARGE)
    reason = ""
    for packet, signature, certificate in ours:
        if why := _unusable(packet, certificate, signed.kind, now):
            reason = reason or why
            continue
        result = attempt(
            lambda signature=signature, certificate=certificate: pysequoia.verify(  # type: ignore[misc]
                bytes=data, store=lambda issuers: [certificate.cert], signature=signature
            )
        )
        if result is not None and [one.certificate for one in result.valid_sigs] == [certificate.fingerprint]:
            created = signature.created
            assert created is not None  # a signature without a time is not valid
            return Proven(_digest(packet, data, certificate), int(created.timestamp()), certificate.sha256)
    raise VerifyError(reason or INVALID)


def _issuer(signature: pysequoia.Sig) -> str:
    """The fingerprint, or else the key id, of the key that the signature names; empty if it names none."""
    return attempt(lambda: signature.issuer_fingerprint or signature.issuer_key_id) or ""


def _unusable(packet: bytes, certificate: Certificate, kind: int, now: datetime) -> str | None:
    """Why the signature does not count, whether or not it is valid; None if it does. The library accepts a signature
    that was made before its key expired or was revoked; but a thief of the key can backdate a signature."""
    if why := certificate.invalid_at(now):
        return why
    hashed = _hashed_part(packet)
    if hashed[1] != kind:
        return TEXT_MODE if hashed[1] == message.TEXT else INVALID
    weak = WEAK_HASHES.get(hashed[3]) if len(hashed) > 3 else None
    return WEAK.format(weak) if weak else None


def _hashed_part(packet: bytes) -> bytes:
    """The part of a signature that is signed with the content: version, type, algorithms, hashed subpackets (RFC 9580
    section 5.2.3). Empty fields for another version."""
    body = packet[6:]
    width = {4: 2, 6: 4}.get(body[0] if body else 0, 0)
    end = 4 + width + int.from_bytes(body[4 : 4 + width])
    return body[:end] if width and end <= len(body) else bytes([0, 255])


def _digest(packet: bytes, data: bytes, certificate: Certificate) -> Sha256:
    """A digest of the signed statement. The rest of a signature can be changed without its key: its unhashed
    subpackets, and the numbers of an ECDSA signature."""
    parts = (certificate.fingerprint.encode(), _hashed_part(packet), hashlib.sha256(data).digest())
    return Sha256(hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest())


PROOF: Final = Proof(
    verify,
    key="a file with one OpenPGP public key (`gpg --armor --export KEY`)",
    read_key=read_key,
    fingerprint=fingerprint,
    key_warning=key_warning,
    several_keys=True,
    needs_signature=True,
    signature_ending=".asc",
    may_be_inline=True,
    reasons=(
        *(NO_SIGNATURE, OTHER_KEY.format("KEY"), TEXT_MODE, REVOKED, EXPIRED, INVALID, TOO_LARGE),
        *(WEAK.format(name) for name in WEAK_HASHES.values()),
        *(
            message.MALFORMED,
            CUT_SHORT,
            MANY_PACKETS,
            message.ENCRYPTED,
            message.TWO_BLOCKS,
            message.LONG_LINE,
            message.LONE_CR,
        ),
        *(message.TOO_LARGE.format("N"), message.MANY_SIGNATURES),
    ),
    imports=("pysequoia", "pysequoia.packet"),
)
"""The signature is fetched beside the body, unless `verify.signature` is `inline`."""

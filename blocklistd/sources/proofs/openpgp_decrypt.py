"""Decrypts OpenPGP messages that are encrypted to us (RFC 9580), to a file, in bounded memory.

The library pysequoia decrypts too, but it gives the content only in memory and without the signatures around it
(docs/adr/0015-openpgp.md). Here the primitives are those of `cryptography`: RSA, ECDH with Curve25519 or a NIST curve,
and AES. The supported messages are those that GnuPG 2.2, 2.4 and sq make for such keys: integrity-protected data of
version 1.

The integrity is checked at the end of the message: until `decrypt` returns, nothing of its output may be used.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from blocklistd.errors import VerifyError
from blocklistd.sources.proofs import openpgp_message as message
from blocklistd.sources.proofs import openpgp_packets as packets

NOT_ENCRYPTED: Final = (
    "not an encrypted OpenPGP message, and `decrypt` is set: ask the hotline to encrypt, or remove `decrypt`"
)
OTHER_RECIPIENT: Final = (
    "encrypted to the OpenPGP keys {}, none of which is in `decrypt`: give the hotline your present public key"
)
NO_RECIPIENT: Final = (
    "encrypted with a passphrase, not to an OpenPGP key: give the hotline the public key that belongs to `decrypt`"
)
UNPROTECTED: Final = "encrypted without integrity protection, which is not secure: ask the hotline for a newer program"
UNSUPPORTED: Final = (
    "encrypted with an algorithm that is not supported: ask the hotline for AES with an MDC (`gpg --rfc4880 --encrypt`)"
)
CORRUPT: Final = "the encrypted OpenPGP message is corrupt: its integrity check failed; ask the hotline"

PASSPHRASE: Final = "has a passphrase: remove it with `gpg --edit-key KEY passwd`, then export it again"
NO_SECRET: Final = "has no secret key that decrypts: expected the result of `gpg --armor --export-secret-keys KEY`"

REASONS: Final = (
    *(NOT_ENCRYPTED, OTHER_RECIPIENT.format("KEYS"), NO_RECIPIENT, UNPROTECTED, UNSUPPORTED, CORRUPT),
    *(message.MALFORMED, packets.CUT_SHORT, packets.MANY_PACKETS, message.ENCRYPTED, message.MANY_SIGNATURES),
    message.TOO_LARGE.format("N"),
)
"""The messages of the errors of `decrypt`."""
IMPORTS: Final = (
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.asymmetric.padding",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "cryptography.hazmat.primitives.asymmetric.x25519",
    "cryptography.hazmat.primitives.ciphers.algorithms",
    "cryptography.hazmat.decrepit.ciphers.modes",
    "cryptography.hazmat.primitives.keywrap",
    "pysequoia.packet",
)
"""Modules that `decrypt` imports."""

_PKESK, _SKESK, _UNPROTECTED, _PROTECTED, _AEAD = 1, 3, 9, 18, 20
_RSA, _ECDH = (1, 2), 18
_AES: Final = {7: 16, 8: 24, 9: 32}  # bytes of a key, by the algorithm of RFC 9580 section 9.3
_HASHES: Final = {8: "sha256", 9: "sha384", 10: "sha512"}
_CURVE25519: Final = bytes.fromhex("2b060104019755010501")
_NIST: Final = {"2a8648ce3d030107": "SECP256R1", "2b81040022": "SECP384R1", "2b81040023": "SECP521R1"}
_MDC: Final = 22  # bytes of the packet with the integrity check
_MOST_RECIPIENTS: Final = 100


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key that decrypts. `fields`: the rest of its packet after the algorithm (RFC 9580 section 5.5.2)."""

    key_id: str
    fingerprint: bytes
    algorithm: int
    fields: bytes


def read_secret(text: bytes) -> str:
    """The base64 of the secret keys in a file, armored or binary. Raises VerifyError, with a phrase about the file, if
    none of them can be used."""
    from pysequoia.packet import PacketPile

    from blocklistd.sources.proofs.openpgp import attempt

    keys = b"".join(map(bytes, attempt(lambda: PacketPile.from_bytes(text)) or ()))
    try:
        if not _secret_keys(keys):
            raise VerifyError(NO_SECRET)
    except (IndexError, ValueError):
        raise VerifyError(NO_SECRET) from None
    return base64.b64encode(keys).decode()


def _secret_keys(keys: bytes) -> list[SecretKey]:
    """The keys that can decrypt and have no passphrase. Raises VerifyError if all of them have one."""
    from pysequoia.packet import PacketPile, Tag

    found, is_locked = [], False
    for packet in PacketPile.from_bytes(keys) if keys else ():
        if packet.tag not in (Tag.SecretKey, Tag.SecretSubkey):
            continue
        body = packet.body
        if body[0] != 4 or body[5] not in (*_RSA, _ECDH):
            continue
        fields = _Fields(body[6:])
        for _ in range(2) if body[5] in _RSA else ():
            fields.mpi()
        if body[5] == _ECDH:
            _, _, _ = fields.counted(), fields.mpi(), fields.counted()
        if fields.take(1) == b"\0":
            assert packet.fingerprint is not None
            found.append(SecretKey(str(packet.key_id), bytes.fromhex(packet.fingerprint), body[5], body[6:]))
        else:
            is_locked = True
    if not found and is_locked:
        raise VerifyError(PASSPHRASE)
    return found


def decrypt(body: BinaryIO, secret: str, out: BinaryIO, bound: int) -> list[bytes]:
    """Decrypt a message, armored or binary, and write its content to `out`, at most `bound` bytes. Returns the packets
    of the signatures inside. Raises VerifyError."""
    keys = _secret_keys(base64.b64decode(secret))
    body.seek(0)
    try:
        found = message.packets_of(body)
    except VerifyError:
        raise VerifyError(NOT_ENCRYPTED) from None
    session_keys: list[tuple[int, bytes]] = []
    recipients: list[str] = []
    for tag, data in found:
        if tag in (_PKESK, _SKESK):
            packet = packets.limited(data)
            if tag == _PKESK and packet and packet[0] == 3 and len(recipients) < _MOST_RECIPIENTS:
                recipients.append(packet[1:9].hex())
                session_keys += _session_keys(packet, keys)
        elif tag == _PROTECTED:
            if not session_keys:
                named = ", ".join(recipient.upper() for recipient in recipients[:5])
                raise VerifyError(OTHER_RECIPIENT.format(named) if named else NO_RECIPIENT)
            signatures = message.write_content(_plain(packets.Source(data), session_keys[0]), out, bound)
            if next(found, None) is not None:
                raise VerifyError(packets.CUT_SHORT)
            return signatures
        elif tag == _UNPROTECTED:
            raise VerifyError(UNPROTECTED)
        elif tag == _AEAD:
            raise VerifyError(UNSUPPORTED)
        elif tag not in message.IGNORED:
            break
    raise VerifyError(NOT_ENCRYPTED)


# -- the session key ---------------------------------------------------------------------------------------------------


class _Fields:
    """Reads fields of a packet. Raises IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) < count:
            raise IndexError
        self._at += count
        return found

    def mpi(self) -> bytes:
        """A multiprecision integer, big-endian (RFC 9580 section 3.2)."""
        return self.take((int.from_bytes(self.take(2)) + 7) // 8)

    def counted(self) -> bytes:
        """Bytes after an octet with their number."""
        return self.take(self.take(1)[0])


def _session_keys(packet: bytes, keys: list[SecretKey]) -> Iterator[tuple[int, bytes]]:
    """(algorithm, session key) that our keys find in a packet (RFC 9580 section 5.1.1)."""
    named, algorithm = packet[1:9].hex(), packet[9] if len(packet) > 9 else 0
    for key in keys:
        hidden = named == "0" * 16
        if (hidden or named == key.key_id) and (algorithm == key.algorithm or {algorithm, key.algorithm} <= {*_RSA}):
            try:
                data = (_by_ecdh if algorithm == _ECDH else _by_rsa)(_Fields(packet[10:]), key)
            except (IndexError, ValueError):
                continue
            size = _AES.get(data[0]) if data else None
            if size is None or len(data) != size + 3:
                if hidden:
                    continue
                raise VerifyError(CORRUPT if data and data[0] in _AES else UNSUPPORTED)
            if sum(data[1:-2]) & 0xFFFF == int.from_bytes(data[-2:]):
                yield data[0], data[1:-2]


def _by_rsa(encrypted: _Fields, key: SecretKey) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    fields = _Fields(key.fields)
    n, e = (int.from_bytes(fields.mpi()) for _ in range(2))
    fields.take(1)
    d, p, q = (int.from_bytes(fields.mpi()) for _ in range(3))
    exponents = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    private = rsa.RSAPrivateNumbers(p, q, d, *exponents, rsa.RSAPublicNumbers(e, n)).private_key(
        unsafe_skip_rsa_key_validation=True  # it is our own key, and the check takes long
    )
    return private.decrypt(encrypted.mpi().rjust((n.bit_length() + 7) // 8, b"\0"), padding.PKCS1v15())


def _by_ecdh(encrypted: _Fields, key: SecretKey) -> bytes:
    """RFC 9580 section 11.4."""
    from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

    fields = _Fields(key.fields)
    curve = fields.counted()
    fields.mpi()
    derivation = fields.counted()  # 1, hash, cipher
    fields.take(1)
    shared = _shared_secret(curve, fields.mpi(), encrypted.mpi())
    name, size = _HASHES.get(derivation[1]), _AES.get(derivation[2])
    if name is None or size is None:
        raise ValueError
    parameters = bytes([len(curve)]) + curve + bytes([_ECDH, len(derivation)]) + derivation
    parameters += b"Anonymous Sender    " + key.fingerprint
    wrapping = hashlib.new(name, b"\0\0\0\1" + shared + parameters).digest()[:size]
    try:
        padded = aes_key_unwrap(wrapping, encrypted.counted())
    except InvalidUnwrap:
        raise ValueError from None
    return padded[: len(padded) - padded[-1]]


def _shared_secret(curve: bytes, scalar: bytes, point: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec, x25519

    if curve == _CURVE25519:
        private = x25519.X25519PrivateKey.from_private_bytes(scalar.rjust(32, b"\0")[::-1])
        return private.exchange(x25519.X25519PublicKey.from_public_bytes(point[1:]))
    name = _NIST.get(curve.hex())
    if name is None:
        raise ValueError
    group: ec.EllipticCurve = getattr(ec, name)()
    public = ec.EllipticCurvePublicKey.from_encoded_point(group, point)
    return ec.derive_private_key(int.from_bytes(scalar), group).exchange(ec.ECDH(), public)


# -- the data ----------------------------------------------------------------------------------------------------------


def _plain(source: packets.Source, session_key: tuple[int, bytes]) -> Iterator[bytes]:
    """Decrypt the body of the packet with the data (RFC 9580 section 5.13.1): the packets inside. Raises VerifyError at
    the end if they were changed."""
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

    if source.exactly(1) != b"\1":
        raise VerifyError(UNSUPPORTED)
    update: Callable[[bytes], bytes] = Cipher(AES(session_key[1]), CFB(bytes(16))).decryptor().update
    digest = hashlib.sha1(usedforsecurity=False)  # RFC 9580 section 5.13.1: not for a signature
    digest.update(update(source.exactly(18)))  # random bytes
    kept = b""
    while data := source.some(packets.STEP):
        kept += update(data)
        part, kept = kept[:-_MDC], kept[-_MDC:]
        digest.update(part)
        if part:
            yield part
    digest.update(kept[:2])
    if kept[:2] != b"\xd3\x14" or kept[2:] != digest.digest():
        raise VerifyError(CORRUPT)

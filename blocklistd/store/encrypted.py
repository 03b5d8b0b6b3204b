"""Encrypts files with a secret of 32 bytes, in chunks. The format is simple, so that any program can read it:

    offset 0     8 bytes   "BLKDENC1"
    offset 8     8 bytes   the fingerprint of the secret: the first bytes of SHA-256(secret)
    offset 16    32 bytes  a salt, random for each file
    offset 48    chunks    each has 65,536 bytes of ChaCha20-Poly1305 (RFC 8439) and then its tag of 16 bytes; the last
                           chunk is shorter or as long, and is empty only if the content is

- Key of the file: HKDF-SHA256 (RFC 5869) of the secret, with the salt and the info "blocklistd evidence 1", 32 bytes.
- Nonce of a chunk: its number from 0 in 11 bytes, big-endian, then the byte 1 for the last chunk, 0 for any other. So
  chunks can't be moved, repeated or removed, at the end either (the STREAM construction of Hoang, Reyhanitabar, Rogaway
  and Vizár, as age uses it).
- Associated data of each chunk: the 48 bytes before the first one.

Order of calls of an EncryptingFile: `write` for all bytes, then `finish`. Without `finish` the file can't be read.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final, Protocol

from blocklistd.errors import StoreError

MAGIC: Final = b"BLKDENC1"
FINGERPRINT: Final = slice(8, 16)
SALT: Final = slice(16, 48)
HEADER: Final = 48
INFO: Final = b"blocklistd evidence 1"
CHUNK: Final = 64 * 1024
TAG: Final = 16
SECRET: Final = 32
SECRET_EXPECTED: Final = "32 random bytes in hex (64 digits) or base64 (44 characters), as from `openssl rand -hex 32`"


class Output(Protocol):
    """A file that is written from its beginning to its end."""

    def write(self, data: bytes, /) -> object:
        """Writes the next bytes."""

    def finish(self) -> None:
        """Writes what is still to be written. Nothing may be written after it."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """The secret of encrypted files. Its text never shows the secret."""

    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> FileKey:
        """Reads a secret in hex or base64. Raises ValueError for another text; the error does not show the text."""
        try:
            if re.fullmatch("[0-9A-Fa-f]{64}", text):
                return cls(bytes.fromhex(text))
            secret = base64.b64decode(text, validate=True)
        except ValueError:
            secret = b""
        if len(secret) != SECRET:
            raise ValueError("not a secret of 32 bytes")
        return cls(secret)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name the secret and do not reveal it."""
        return hashlib.sha256(self.secret).digest()[:8].hex()


class EncryptingFile:
    """Writes an encrypted file."""

    def __init__(self, file: BinaryIO, key: FileKey) -> None:
        self._file = file
        self._header = MAGIC + bytes.fromhex(key.fingerprint) + secrets.token_bytes(SALT.stop - SALT.start)
        self._cipher = _Cipher(key, self._header)
        self._pending = bytearray()
        file.write(self._header)

    def write(self, data: bytes, /) -> None:
        """Encrypts the next bytes. Raises OSError."""
        self._pending += data
        while len(self._pending) > CHUNK:  # not the last chunk: more bytes follow it
            self._file.write(self._cipher.encrypt(bytes(self._pending[:CHUNK]), last=False))
            del self._pending[:CHUNK]

    def finish(self) -> None:
        """Writes the last chunk. Raises OSError."""
        self._file.write(self._cipher.encrypt(bytes(self._pending), last=True))


class PlainFile:
    """Writes a file as it is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes, /) -> None:
        """Writes the next bytes. Raises OSError."""
        self._file.write(data)

    def finish(self) -> None:
        """Does nothing: each write is complete."""


def decrypted(file: BinaryIO, key: FileKey | None) -> Iterator[bytes]:
    """The content of an encrypted file, chunk by chunk. Raises StoreError if the key is another one or None, or if a
    byte of the file was changed, removed or added: chunks before it are intact."""
    header = file.read(HEADER)
    if len(header) < HEADER or not header.startswith(MAGIC):
        raise StoreError("damaged: it does not begin as an encrypted file: see `docs/operator.md` for its format")
    needed = header[FINGERPRINT].hex()
    if key is None or key.fingerprint != needed:
        raise StoreError(f"encrypted with the key {needed}: put that secret into `evidence.key` to read it")
    cipher, chunk = _Cipher(key, header), file.read(CHUNK + TAG)
    while True:
        following = file.read(CHUNK + TAG)
        yield cipher.decrypt(chunk, last=not following)
        if not following:
            return
        chunk = following


class _Cipher:
    """Encrypts or decrypts the chunks of one file, in order."""

    def __init__(self, key: FileKey, header: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derived = HKDF(SHA256(), 32, header[SALT], INFO).derive(key.secret)
        self._cipher = ChaCha20Poly1305(derived)
        self._header = header
        self._number = 0

    def _nonce(self, last: bool) -> bytes:
        nonce = self._number.to_bytes(11, "big") + bytes([last])
        self._number += 1
        return nonce

    def encrypt(self, chunk: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._nonce(last), chunk, self._header)

    def decrypt(self, chunk: bytes, *, last: bool) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(self._nonce(last), chunk, self._header)
        except InvalidTag:
            raise StoreError("damaged: a chunk does not decrypt: restore it from a backup") from None

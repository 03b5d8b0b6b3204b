"""Reads and writes keys in PEM: private keys in PKCS #8, which may be encrypted, and public keys (RFC 7468).

An encrypted key is opened with the passphrase that `ask` returns. Messages contain nothing of a key file but its path.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib import parse

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.exceptions import Error as KeyFormatError
from securesystemslib.signer import CryptoSigner, HSMSigner, Key, Signer, SSlibKey

from blocklistd.errors import SigningError

Ask = Callable[[str], str]
"""Asks for the passphrase of the key with this name."""


def read_private_key(path: Path, ask: Ask | None = None) -> CryptoSigner:
    """Reads a private key in PEM (PKCS #8). `ask` is called for the passphrase of an encrypted one; without `ask`, that
    is an error. Raises SigningError.
    """
    expected = "a private key in PEM" + ("" if ask else " without a passphrase")
    try:
        body = path.read_bytes()
        encrypted = b"ENCRYPTED" in body
        if encrypted and ask is None:
            raise SigningError(f"{path}: its key is encrypted: expected {expected}: restore the key file")
        return CryptoSigner(load_pem_private_key(body, ask(str(path)).encode() if encrypted and ask else None))
    except OSError as error:
        raise SigningError(
            f"{path}: {error.strerror}: expected the key that `keys init` wrote, readable by uid {os.geteuid()}"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm, KeyFormatError):
        if encrypted and ask:
            raise SigningError(
                f"{path}: the passphrase is wrong, or the file is damaged: run the command again"
            ) from None
        found = "another kind of key" if b"PRIVATE KEY" in body else "something else"
        raise SigningError(f"{path}: found {found}, expected {expected}: name or restore the key file") from None


def open_token(uri: str, ask: Ask) -> Signer:
    """Opens a root key on a PKCS #11 token by its signer URI, `hsm:ID?label=TOKEN`. `ask` is called for the PIN. Raises
    SigningError."""
    try:
        key = import_from_token(uri, ask)
        return Signer.from_priv_key_uri(uri, key, lambda name: ask(f"{uri} ({name})"))
    except SigningError:
        raise
    except Exception as error:  # of PKCS #11
        raise SigningError(
            f"{uri}: {type(error).__name__}: {error}: expected a key on a token that $PYKCS11LIB reaches, and what "
            f"requirements-hsm.lock installs"
        ) from None


def import_from_token(uri: str, ask: Ask) -> Key:
    """The public key that a signer URI `hsm:` names. Raises the errors of PKCS #11, and ValueError."""
    parts = parse.urlparse(uri)
    label = dict(parse.parse_qsl(parts.query)).get("label")
    return HSMSigner.import_(int(parts.path) if parts.path else None, label, ask)[1]


def read_public_key(pem: bytes, where: str) -> Key:
    """A public key in PEM. `where` names it in messages. Raises SigningError."""
    try:
        return SSlibKey.from_crypto(load_pem_public_key(pem))
    except (ValueError, UnsupportedAlgorithm, KeyFormatError) as error:
        raise SigningError(
            f"{where}: expected a public key in PEM ({type(error).__name__}): `openssl pkey -pubout` writes one"
        ) from None


def public_pem(key: Key) -> str:
    """The public key in PEM."""
    assert isinstance(key, SSlibKey)
    return key._crypto_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(signer: CryptoSigner, passphrase: str = "") -> bytes:
    """The private key in PEM (PKCS #8), encrypted if there is a passphrase."""
    encryption: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    )
    return signer._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Writes a file that does not exist yet, durably. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

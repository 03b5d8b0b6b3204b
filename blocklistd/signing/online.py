"""Opens the online key, which signs targets, snapshot and timestamp.

The online key is in one of two places: `keys.online`, and `keys.next` for the one that the next root.json names.
Without `keys.next`, the next key of a file is that file's path with `.next` at its end. root.json says which of the two
signs, so the daemon signs with the right one whenever it is killed during a rotation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from securesystemslib.signer import CryptoSigner, Key, Signature, Signer

from blocklistd.config import Config, Secret
from blocklistd.errors import ConfigError, SigningError
from blocklistd.signing.ceremony import short
from blocklistd.signing.pem import import_from_token, private_pem, read_private_key, sync_folder, write_new

_TRIAL: Final = b"blocklistd: a trial signature"
_ONE_AT_A_TIME: Final = threading.Lock()
"""A login to a PKCS #11 token is the whole process's: a second one at the same time fails (PKCS #11 5.6.8)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an online key is. `key`: of the configuration; `where`: a file, or a signer URI."""

    key: str
    where: Path | str


class OnlineSigner(Signer):
    """The online key. Signs once at a time, and returns no signature that the public key does not verify.

    `sign` may take as long as an HSM needs: call it outside of the event loop.
    """

    def __init__(self, signer: Signer, place: Place) -> None:
        self._signer = signer
        self.place = place

    @property
    def public_key(self) -> Key:
        """The public key."""
        return self._signer.public_key

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: Callable[[str], str] | None = None
    ) -> OnlineSigner:
        """Opens a signer URI, as securesystemslib's Signer does."""
        return cls(
            Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler), Place("keys.online", priv_key_uri)
        )

    def sign(self, payload: bytes) -> Signature:
        """Signs bytes. Raises SigningError."""
        try:
            with _ONE_AT_A_TIME:
                signature = self._signer.sign(payload)
            self.public_key.verify_signature(signature, payload)
        except (SigningError, ConfigError):
            raise
        except Exception as error:  # each kind of signer has its own errors
            raise _unusable(self.place, error) from error
        return signature

    def try_out(self) -> None:
        """Signs a few bytes. Raises SigningError if the signer is not that of the public key, or is not reachable."""
        self.sign(_TRIAL)


def places(config: Config) -> list[Place]:
    """Where the online key may be: that of `keys.online`, and that of the next root.json. Raises SigningError."""
    online = Place("keys.online", _locate(config.keys.online, "keys.online"))
    if config.keys.next is not None:
        return [online, Place("keys.next", _locate(config.keys.next, "keys.next"))]
    if isinstance(config.keys.online, Path):
        made = config.keys.online
        return [online, Place("keys.online", made.with_name(f"{made.name}.next"))]
    return [online]


def _locate(online: Path | Secret | str, key: str) -> Path | str:
    """The file or the signer URI. Raises SigningError for a systemd credential outside of the unit."""
    if isinstance(online, Path | str):
        return online
    try:
        where = online.path
        assert where is not None, "a credential is a file"
        return where
    except ConfigError:
        raise SigningError(
            f"{key} is the systemd credential {online.name}, and $CREDENTIALS_DIRECTORY is not set: outside the "
            f"unit, set it to the folder that holds the file"
        ) from None


def open_online(config: Config, named: Key) -> OnlineSigner:
    """Opens the online key that root.json names, in whichever place it is. Raises SigningError.

    A signer URI that is the only place is not tried: an HSM that is away stops signing, not serving.
    """
    found = places(config)
    opened, errors = [], []
    for place in found:
        if isinstance(place.where, Path) and place is not found[0] and not place.where.exists():
            continue
        try:
            signer = OnlineSigner(_open(config, place, named), place)
            if len(found) > 1 and isinstance(place.where, str):
                opened.append(signer)
                signer.try_out()
            return signer
        except SigningError as error:
            errors.append(error)
    if opened:
        return opened[-1]
    raise errors[0]


def in_its_place(config: Config, signer: OnlineSigner) -> OnlineSigner:
    """Gives the next key of a file the name of the file, once root.json names it: the old key is gone then. The signer
    of any other key is returned as it is, as is that of a key that can't be moved yet."""
    online, found = config.keys.online, signer.place
    if not isinstance(online, Path) or not isinstance(found.where, Path) or found.key != "keys.online":
        return signer
    if found.where != online:
        try:
            found.where.replace(online)
            sync_folder(online.parent)
        except OSError:  # a read-only file system: the next start moves it
            return signer
    return OnlineSigner(signer._signer, Place("keys.online", online))


def _open(config: Config, place: Place, named: Key) -> Signer:
    where = place.where
    if isinstance(where, str):
        try:
            return Signer.from_priv_key_uri(where, named, pin_of(config))
        except Exception as error:  # each kind of signer has its own errors
            raise _unusable(place, error) from error
    signer = read_private_key(where)
    if signer.public_key.keyid != named.keyid:
        raise SigningError(
            f"{where}: its key id is {short(signer.public_key.keyid)}, root.json names {short(named.keyid)}: it is "
            f"another key; restore the one that `keys init` or `keys rotate` made with this root.json"
        )
    return signer


def _unusable(place: Place, error: Exception) -> SigningError:
    needed = "; a signer URI `hsm:` needs requirements-hsm.lock, $PYKCS11LIB and keys.pin"
    more = needed if str(place.where).startswith("hsm:") else ""
    return SigningError(
        f"{place.key} {place.where}: {type(error).__name__}: {error}: check the URI and the signer{more}"
    )


def pin_of(config: Config) -> Callable[[str], str]:
    """The handler through which a signer asks for its PIN: reads `keys.pin`. It raises SigningError and ConfigError."""

    def read(name: str) -> str:
        if config.keys.pin is None:
            raise SigningError(f"the signer of the online key needs a {name}: set keys.pin to a secret")
        return config.keys.pin.read()

    return read


def public_key_of(config: Config, place: Place, given: Key | None) -> Key:
    """The public key of the next online key, which is made if it is a file that does not exist. `given`: the key of a
    signer URI that can't tell it. Raises SigningError."""
    if isinstance(place.where, Path):
        if not place.where.exists():
            return _make_key(place.where)
        return read_private_key(place.where).public_key
    if given is not None:
        return given
    if not place.where.startswith("hsm:"):
        raise SigningError(f"{place.key} {place.where}: this signer does not tell its public key: give --public-key")
    try:
        with _ONE_AT_A_TIME:
            return import_from_token(place.where, pin_of(config))
    except (SigningError, ConfigError):
        raise
    except Exception as error:  # of PKCS #11
        raise _unusable(place, error) from error


def _make_key(path: Path) -> Key:
    signer = CryptoSigner.generate_ed25519()
    try:
        write_new(path, private_pem(signer), 0o600)
    except OSError as error:
        raise SigningError(
            f"{path}: {error.strerror}: no key was made: make the folder writable for the daemon's user"
        ) from error
    return signer.public_key

"""Makes and loads the keys and the root of trust (TUF 4.3).

One root.json serves all lists. It names the root keys, which are kept off the host, and the online key, which signs
targets, snapshot and timestamp; only the daemon reads it. On the disk:

    STATE_DIR/root/N.root.json       each version N of root.json
    keys.online in the config        the online key: a file, a systemd credential, or a signer URI
    ROOT_OUT/root-N.pem, root.json   made by `init`, for the root keys' holders and for subscribers

Order of calls: `init` once, then `load_trust` at each start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocklistd.errors import ConfigError, SigningError
from blocklistd.limits import ROOT_ALARM_DAYS
from blocklistd.store.store import Store

if TYPE_CHECKING:
    from securesystemslib.signer import Signer
    from tuf.api.metadata import Metadata, Root

    from blocklistd.config import Config

ONLINE_ROLES: Final = ("targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class InitReport:
    """The files that `keys init` wrote, and when root.json expires."""

    online: Path
    root_keys: tuple[Path, ...]
    root: Path
    expires: datetime


@dataclass(frozen=True, slots=True)
class Trust:
    """The roots of trust. `roots`: content of each root.json by version, newest last. `online`: the signer with the
    online key. `expires`: of the newest root.json."""

    roots: dict[int, bytes]
    online: Signer
    expires: datetime

    def alarm(self, now: datetime) -> str | None:
        """The text of the alarm if root.json has expired or expires within ROOT_ALARM_DAYS, else None."""
        left = self.expires - now
        if left <= timedelta():
            return "root.json has expired: subscribers refuse new metadata until it is renewed with the root keys"
        if left < timedelta(days=ROOT_ALARM_DAYS):
            return f"root.json expires in {left.days} days: renew it with the root keys"
        return None


def roots_dir(state_dir: Path) -> Path:
    """The folder of the versions of root.json."""
    return state_dir / "root"


def no_root(folder: Path, but: str = "") -> SigningError:
    """The error of a folder without a root.json. `but`: why this can't be right."""
    return SigningError(
        f"{folder} holds no root.json{but}: for a new publisher run `blocklistd keys init --root-out DIR` first; else "
        f"check that `state_dir` is right and its disk is mounted"
    )


def init(config: Config, root_out: Path, root_keys: int, threshold: int, now: datetime) -> InitReport:
    """Makes the online key, the root keys and version 1 of root.json, signed by all root keys. Overwrites nothing.

    `root_out`: folder for the root keys and root.json. `root_keys`: how many. `threshold`: how many of them must sign a
    root.json (TUF 4.3). Raises SigningError if a file exists or can't be written; the files made so far are removed.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Root

    where = _online_key_location(config)
    if not isinstance(where, Path):
        raise SigningError(
            "keys.online is a signer URI: `keys init` makes keys in files; set keys.online to {file: PATH}"
        )
    if not 1 <= threshold <= root_keys:
        raise SigningError(
            f"--threshold {threshold} of --root-keys {root_keys}: expected a threshold from 1 to the number of keys"
        )
    copy = roots_dir(config.state_dir) / "1.root.json"
    names = [root_out / f"root-{number}.pem" for number in range(1, root_keys + 1)]
    for path in (where, copy, root_out / "root.json", *names):
        if os.path.exists(path):  # also False without permission to look: then writing raises the error
            raise SigningError(f"{path} exists: keys are made once, and nothing is overwritten: choose other places")
    online, holders = CryptoSigner.generate_ed25519(), [CryptoSigner.generate_ed25519() for _ in names]
    expires = (now + config.keys.root_expires).replace(microsecond=0)
    root = Root(expires=expires)
    root.roles["root"].threshold = threshold
    for holder in holders:
        root.add_key(holder.public_key, "root")
    for role in ONLINE_ROLES:
        root.add_key(online.public_key, role)
    signed = Metadata(root)
    for holder in holders:
        signed.sign(holder, append=True)
    body = signed.to_bytes()

    def private(signer: CryptoSigner) -> bytes:
        return signer._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    files = {path: (private(key), 0o600) for path, key in zip(names, holders, strict=True)}
    files[where] = (private(online), 0o600)
    files |= {root_out / "root.json": (body, 0o644), copy: (body, 0o600)}
    Store(config.state_dir).prepare()
    of_daemon = [copy.parent, copy]
    if isinstance(config.keys.online, Path):  # a credential stays root's: systemd passes it to the daemon
        of_daemon += [where] if where.parent.exists() else [where.parent, where]
    _write_all(files)
    _give_to_owner(config, of_daemon)
    return InitReport(where, tuple(names), root_out / "root.json", expires)


def _online_key_location(config: Config) -> Path | str:
    """The online key's file, or its signer URI. Raises SigningError for a systemd credential outside of the unit."""
    online = config.keys.online
    if isinstance(online, Path | str):
        return online
    try:
        where = online.path
        assert where is not None, "a credential is a file"
        return where
    except ConfigError:
        raise SigningError(
            f"keys.online is the systemd credential {online.name}, and $CREDENTIALS_DIRECTORY is not set: outside the "
            f"unit, set it to the folder that holds the file"
        ) from None


def _write_all(files: dict[Path, tuple[bytes, int]]) -> None:
    """Writes all files, each with its content and mode, or none."""
    written = []
    try:
        for path, (content, mode) in files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            written.append(path)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise SigningError(
            f"{error.filename or path}: {error.strerror}: no key was made; make the folder writable, then run it again"
        ) from error


def _give_to_owner(config: Config, paths: list[Path]) -> None:
    """If root runs this, makes the owner of the state_dir, the daemon's user, own the files that the daemon reads."""
    owner = config.state_dir.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


def load_trust(config: Config) -> Trust:
    """Loads every root.json of the state_dir and the online key that the newest one names.

    Raises SigningError if one is missing, can't be read, or is not the key in root.json.
    """
    from tuf.api.metadata import Metadata

    folder = roots_dir(config.state_dir)
    try:
        found = {int(path.name.partition(".")[0]): path.read_bytes() for path in folder.glob("*.root.json")}
    except (OSError, ValueError) as error:
        raise SigningError(f"{folder}: {error}: expected N.root.json files") from error
    if not found:
        raise no_root(folder)
    newest = found[max(found)]
    try:
        root: Metadata[Root] = Metadata.from_bytes(newest)
        root.verify_delegate("root", root)
    except Exception as error:  # python-tuf has a different family of errors for each step
        raise SigningError(f"{folder}/{max(found)}.root.json: {error}: restore it from a copy of root.json") from error
    return Trust(dict(sorted(found.items())), _online_signer(config, root.signed), root.signed.expires)


def _online_signer(config: Config, root: Root) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.exceptions import Error as KeyFormatError
    from securesystemslib.signer import CryptoSigner, Signer

    named = root.keys[root.roles["timestamp"].keyids[0]]
    where = _online_key_location(config)
    if not isinstance(where, Path):
        try:
            return Signer.from_priv_key_uri(where, named)
        except Exception as error:  # each kind of signer has its own errors
            raise SigningError(
                f"keys.online {where}: {type(error).__name__}: {error}: check the URI and the signer"
            ) from error
    try:
        signer = CryptoSigner(load_pem_private_key(where.read_bytes(), None))
    except OSError as error:
        raise SigningError(
            f"{where}: {error.strerror}: expected the online key that `keys init` wrote, readable by uid {os.geteuid()}"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm, KeyFormatError) as error:
        raise SigningError(
            f"{where}: expected a private key in PEM without a password ({type(error).__name__}): restore the key file"
        ) from None
    if signer.public_key.keyid != named.keyid:
        raise SigningError(
            f"{where}: its key id is {signer.public_key.keyid[:16]}…, root.json names {named.keyid[:16]}…: it is "
            f"another key; restore the one that `keys init` wrote with this root.json"
        )
    return signer

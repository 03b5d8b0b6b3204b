"""Makes the first keys and the first root.json (TUF 4.3).

One root.json serves all lists. It names the root keys, which are kept off the host, and the online key, which signs
targets, snapshot and timestamp; only the daemon reads it. On the disk:

    STATE_DIR/root/1.root.json       the first version of root.json (trust.py)
    keys.online in the config        the online key: a file, a systemd credential, or a signer URI (online.py)
    ROOT_OUT/root-N.pem, root.json   for the root keys' holders and for subscribers
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blocklistd.errors import SigningError
from blocklistd.signing.trust import roots_dir
from blocklistd.store.store import Store

if TYPE_CHECKING:
    from securesystemslib.signer import Key

    from blocklistd.config import Config


@dataclass(frozen=True, slots=True)
class InitReport:
    """The files that `keys init` wrote, and when root.json expires."""

    online: Path | str
    root_keys: tuple[Path, ...]
    root: Path
    expires: datetime


def init(
    config: Config, root_out: Path, root_keys: int, threshold: int, now: datetime, passphrase: str = ""
) -> InitReport:
    """Makes the online key, the root keys and version 1 of root.json, signed by all root keys. Overwrites nothing.

    `root_out`: folder for the root keys and root.json. `root_keys`: how many. `threshold`: how many of them must sign a
    root.json (TUF 4.3). `passphrase`: encrypts the root keys; empty: they are not encrypted. A signer URI has its
    online key already. Raises SigningError if a file exists or can't be written; the files made so far are removed.
    """
    from securesystemslib.signer import CryptoSigner
    from tuf.api.metadata import Metadata, Root

    from blocklistd.signing.ceremony import replace_online_key
    from blocklistd.signing.online import places, public_key_of
    from blocklistd.signing.pem import private_pem

    online = places(config)[0]
    if not 1 <= threshold <= root_keys:
        raise SigningError(
            f"--threshold {threshold} of --root-keys {root_keys}: expected a threshold from 1 to the number of keys"
        )
    copy = roots_dir(config.state_dir) / "1.root.json"
    names = root_key_files(root_out, root_keys)
    require_absent(copy, root_out / "root.json", *names, *([online.where] if isinstance(online.where, Path) else []))
    holders = [CryptoSigner.generate_ed25519() for _ in names]
    files = {path: (private_pem(key, passphrase), 0o600) for path, key in zip(names, holders, strict=True)}
    if isinstance(online.where, Path):
        made = CryptoSigner.generate_ed25519()
        files[online.where] = (private_pem(made), 0o600)
        key: Key = made.public_key
    else:
        key = public_key_of(config, online, None)
    expires = (now + config.keys.root_expires).replace(microsecond=0)
    root = Root(expires=expires)
    root.roles["root"].threshold = threshold
    for holder in holders:
        root.add_key(holder.public_key, "root")
    replace_online_key(root, key)
    signed = Metadata(root)
    for holder in holders:
        signed.sign(holder, append=True)
    body = signed.to_bytes()
    files |= {root_out / "root.json": (body, 0o644), copy: (body, 0o600)}
    Store(config.state_dir).prepare()
    of_daemon = [copy.parent, copy]
    if isinstance(config.keys.online, Path):  # a credential stays root's: systemd passes it to the daemon
        where = config.keys.online
        of_daemon += [where] if where.parent.exists() else [where.parent, where]
    write_all(files)
    _give_to_owner(config, of_daemon)
    return InitReport(online.where, tuple(names), root_out / "root.json", expires)


def root_key_files(folder: Path, count: int) -> list[Path]:
    """The files of new root keys in a folder."""
    return [folder / f"root-{number}.pem" for number in range(1, count + 1)]


def require_absent(*paths: Path) -> None:
    """Raises SigningError if one of these files exists."""
    for path in paths:
        if os.path.exists(path):  # also False without permission to look: then writing raises the error
            raise SigningError(
                f"{path} exists, and is not overwritten: `blocklistd keys rotate` replaces keys; "
                "for those of another publisher, choose other places"
            )


def write_all(files: dict[Path, tuple[bytes, int]]) -> None:
    """Writes all files, each with its content and mode, or none. Raises SigningError."""
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

"""The roots of trust on the disk, and the online key that the newest one names.

    STATE_DIR/root/N.root.json       each version N of root.json, from the first: clients walk up from theirs (TUF 5.3)
    STATE_DIR/root/N.root.json.new   a next root whose line of the audit may not be written yet

A next root is adopted in this order: `stage` its file; commit its line of the audit; `install` the file. A start calls
`finish_staged`, which installs the file if its line exists and removes it otherwise. So a daemon that is killed has
both or neither.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import orjson

from blocklistd.errors import SigningError, store_errors
from blocklistd.limits import ROOT_ALARM_DAYS

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root

    from blocklistd.config import Config
    from blocklistd.signing.online import OnlineSigner

RENEW: Final = "renew it with `blocklistd keys renew root`"


@dataclass(frozen=True, slots=True)
class Trust:
    """The roots of trust. `roots`: content of each root.json by version, newest last. `online_ids`: the id of the
    online key in each. `newest`: the newest, parsed. `online`: the signer with the online key. `broken`: why clients of
    the first root can't follow to the newest; None if they can."""

    roots: dict[int, bytes]
    online_ids: dict[int, str]
    newest: Metadata[Root]
    online: OnlineSigner
    broken: str | None

    @property
    def version(self) -> int:
        """The version of the newest root.json."""
        return self.newest.signed.version

    @property
    def expires(self) -> datetime:
        """When the newest root.json expires."""
        return self.newest.signed.expires

    def roots_of(self, signer: str) -> dict[int, bytes]:
        """The roots up to the newest that names the online key with this id. They are served beside its signatures, so
        that no client gets a root that refuses them. Empty if no root names it."""
        named = [version for version, key_id in self.online_ids.items() if key_id == signer]
        return {version: body for version, body in self.roots.items() if named and version <= max(named)}

    def alarm(self, now: datetime) -> str | None:
        """The text of the alarm if root.json has expired or expires within ROOT_ALARM_DAYS, or if older roots don't
        lead to it; else None."""
        return expiry_alarm(self.expires, now) or self.broken


def expiry_alarm(expires: datetime, now: datetime) -> str | None:
    """The text of the alarm if root.json has expired or expires within ROOT_ALARM_DAYS; else None."""
    left = expires - now
    if left <= timedelta():
        return f"root.json has expired: subscribers refuse new metadata: {RENEW}"
    if left < timedelta(days=ROOT_ALARM_DAYS):
        return f"root.json expires in {left.days} days: {RENEW}"
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


def load_trust(config: Config) -> Trust:
    """Loads every root.json of the state_dir and the online key that the newest one names.

    Raises SigningError if one is missing, can't be read, or is not the key in root.json.
    """
    from blocklistd.signing.ceremony import online_key_id, parse_root
    from blocklistd.signing.online import in_its_place, open_online

    folder = roots_dir(config.state_dir)
    try:
        found = {int(path.name.partition(".")[0]): path.read_bytes() for path in folder.glob("*.root.json")}
    except (OSError, ValueError) as error:
        raise SigningError(f"{folder}: {error}: expected N.root.json files") from error
    if not found:
        raise no_root(folder)
    bodies = dict(sorted(found.items()))
    parsed: dict[int, Metadata[Root]] = {}
    for version, body in bodies.items():
        with suppress(orjson.JSONDecodeError, SigningError):  # of an older one: clients of roots before it are stuck
            parsed[version] = parse_root(orjson.loads(body), f"{folder}/{version}.root.json")
    last = max(bodies)
    newest = parsed.get(last)
    try:
        if newest is None or newest.signed.version != last:
            raise ValueError(f"expected version {last} of root.json")
        newest.verify_delegate("root", newest)
    except Exception as error:  # python-tuf has a different family of errors for each step
        raise SigningError(f"{folder}/{last}.root.json: {error}: restore it from a copy of root.json") from error
    named = newest.signed.keys[online_key_id(newest.signed)]
    online_ids = {version: online_key_id(root.signed) for version, root in parsed.items()}
    signer = in_its_place(config, open_online(config, named))
    return Trust(bodies, online_ids, newest, signer, _broken(folder, parsed, last))


def _broken(folder: Path, roots: dict[int, Metadata[Root]], newest: int) -> str | None:
    for version in range(newest, 1, -1):
        new, old = roots.get(version), roots.get(version - 1)
        try:
            if old is None or new is None:
                raise ValueError("missing or damaged")
            old.verify_delegate("root", new)
        except Exception as error:  # as above
            where = folder / f"{version if old is not None else version - 1}.root.json"
            return f"{where}: {error}: clients of older roots can't follow: restore it from a copy"
    return None


def stage(folder: Path, version: int, body: bytes) -> None:
    """Writes a next root durably, under its temporary name. Raises StoreError."""
    from blocklistd.signing.pem import write_new

    staged = folder / f"{version}.root.json.new"
    with store_errors(staged):
        staged.unlink(missing_ok=True)
        write_new(staged, body, 0o600)


def install(folder: Path, version: int) -> None:
    """Gives a staged root its name, durably. Raises StoreError."""
    from blocklistd.signing.pem import sync_folder

    staged = folder / f"{version}.root.json.new"
    with store_errors(staged):
        staged.rename(staged.with_suffix(""))
        sync_folder(folder)


def finish_staged(folder: Path, is_audited: Callable[[int, str], bool]) -> None:
    """Finishes what a killed daemon has staged. `is_audited`: whether the audit has a line for this version and SHA-256
    of its file. Raises StoreError."""
    for staged in folder.glob("*.root.json.new"):
        version = int(staged.name.partition(".")[0])
        with store_errors(staged):
            digest = hashlib.sha256(staged.read_bytes()).hexdigest()
        if is_audited(version, digest):
            install(folder, version)
        else:
            with store_errors(staged):
                staged.unlink()

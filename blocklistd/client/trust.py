"""What the publisher signed: the list's current version, by TUF from one trusted root (python-tuf's ngclient).

An answer is verified in a copy of the trusted metadata. The copy takes their place once the list that was asked for is
the one that is signed. python-tuf keeps what it has verified: if a proxy leads to another list once, whose numbers are
higher than ours, all later answers of ours would be refused as older.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.ngclient import Updater

from blocklistd.client.feed import Feed, TufFetcher, clock
from blocklistd.errors import SyncError


@dataclass(frozen=True, slots=True)
class Signed:
    """A version as it was signed; `length` in bytes. Nothing else is believed."""

    list: str
    session: str
    version: int
    entries: int
    length: int
    sha256: str


def signed_version(feed: Feed, list_name: str, root: bytes, metadata: Path) -> Signed | None:
    """The newest version that can be verified; None before the list's first. Raises SyncError.

    The trusted metadata in `metadata` only ever moves forward: an older one than was accepted is refused, for ever.
    """
    try:
        staging = _staging(metadata)
        updater = _updater(feed, root, staging)
        updater.refresh()
        target = updater.get_targetinfo(f"{list_name}.ndjson")
        if target is None:
            _refuse_foreign(updater, list_name, feed)
            signed = None
        else:
            signed = _read(target.custom, list_name, target.length, target.hashes, feed)
        _adopt(staging, metadata)
    except ExpiredMetadataError as error:
        raise SyncError(
            f"{feed.base}: the newest metadata has expired ({error}), by the clock of this host: {clock()}: what is "
            f"here stays in place; if the clock is right, call the publisher"
        ) from None
    except DownloadHTTPError as error:
        raise feed.refusal(error.status_code) from None
    except DownloadError as error:
        raise SyncError(str(error.__cause__ or f"{feed.base}: {error}")) from None
    except RepositoryError as error:
        raise SyncError(f"{feed.base}: the metadata can't be verified: {error}: what is here stays in place") from None
    except (OSError, ValueError) as error:
        raise SyncError(f"{metadata}: {error}") from None
    return signed


def _staging(metadata: Path) -> Path:
    """Copies the trusted metadata to a folder beside them. Puts them back first if a sync was killed between the two
    renames of `_adopt`."""
    staging, before = _beside(metadata)
    if before.exists() and not metadata.exists():
        before.rename(metadata)
    for left in (staging, before):
        shutil.rmtree(left, ignore_errors=True)
    metadata.parent.mkdir(parents=True, exist_ok=True)
    if metadata.exists():
        shutil.copytree(metadata, staging, symlinks=True)
    else:
        staging.mkdir()
    return staging


def _adopt(staging: Path, metadata: Path) -> None:
    """The copy takes the place of the trusted metadata, which are at one of two places at any moment."""
    _, before = _beside(metadata)
    if metadata.exists():
        metadata.rename(before)
    staging.rename(metadata)
    shutil.rmtree(before, ignore_errors=True)


def _beside(metadata: Path) -> tuple[Path, Path]:
    return metadata.with_name(f"{metadata.name}.new"), metadata.with_name(f"{metadata.name}.old")


def _updater(feed: Feed, root: bytes, metadata: Path) -> Updater:
    try:
        return Updater(str(metadata), f"{feed.base}/metadata/", fetcher=TufFetcher(feed), bootstrap=root)
    except RepositoryError as error:
        raise SyncError(
            f"the trusted root can't be verified: {error}: expected the root.json that the publisher gave you"
        ) from None


def _refuse_foreign(updater: Updater, list_name: str, feed: Feed) -> None:
    """No target of ours is no version yet, unless there is somebody else's."""
    targets = updater._trusted_set.targets.targets
    if targets:
        raise SyncError(f"{feed.base}: the metadata there is signed for another list than {list_name}: refused")


def _read(custom: Any, list_name: str, length: int, hashes: dict[str, str], feed: Feed) -> Signed:
    try:
        signed = Signed(
            str(custom["list"]),
            str(custom["session"]),
            int(custom["version"]),
            int(custom["entries"]),
            length,
            hashes["sha256"],
        )
    except (KeyError, TypeError, ValueError):
        raise SyncError(f"{feed.base}: the signed target does not say its list, session and version") from None
    if signed.list != list_name:
        raise SyncError(f"{feed.base}: the version there is signed for another list than {list_name}: refused")
    return signed

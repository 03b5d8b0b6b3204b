"""Finds the newest signed version of a list: TUF metadata from one trusted root, verified by python-tuf's ngclient.

On the disk, beside each other:
    metadata        the trusted metadata
    metadata.new    a copy, in which new metadata is verified; takes the place of `metadata` once the signed list is the
                    requested one, is deleted at the next sync otherwise
    metadata.old    the previous metadata, between the two renames of `_adopt`; if a sync is killed there, the next one
                    renames it back
The copy is needed because python-tuf keeps all that it has verified. If a proxy once returns another list's metadata
with higher version numbers, python-tuf would refuse all later metadata of the requested list as older.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.ngclient import Updater

from blocklistd.client.failures import host_time
from blocklistd.client.feed import FeedClient, TufFetcher
from blocklistd.errors import SyncError


@dataclass(frozen=True, slots=True)
class SignedVersion:
    """The signed description of a version. `length` (bytes) and `sha256` (hex) are those of its snapshot."""

    list: str
    session: str
    version: int
    entries: int
    length: int
    sha256: str


def signed_version(feed: FeedClient, list_name: str, root: bytes, metadata: Path) -> SignedVersion | None:
    """Fetches and verifies the metadata (TUF 5, the client's workflow). None if the list has no version yet.

    `root` is the trusted root.json, `metadata` the folder of the trusted metadata, which is updated. Raises SyncError
    for metadata that is expired, older than that in the folder, not verifiable, or of another list.
    """
    try:
        staging = _staging(metadata)
        updater = _refreshed(feed, root, staging)
        target = updater.get_targetinfo(f"{list_name}.ndjson")
        if target is None:
            _check_no_targets(updater, list_name, feed)
            signed = None
        else:
            signed = _describe(target.custom, list_name, target.length, target.hashes, feed)
        _adopt(staging, metadata)
    except ExpiredMetadataError as error:
        raise SyncError(
            f"{feed.base}: the newest metadata has expired ({error}), by the clock of this host: {host_time()}: the "
            f"local version stays in place; if the clock is right, call the publisher"
        ) from None
    except DownloadHTTPError as error:
        raise feed.status_error(error.status_code) from None
    except DownloadError as error:
        raise SyncError(str(error.__cause__ or f"{feed.base}: {error}")) from None
    except RepositoryError as error:
        raise SyncError(
            f"{feed.base}: the metadata can't be verified: {error}: the local version stays in place; if the address "
            f"and the trusted root are right, call the publisher"
        ) from None
    except (OSError, ValueError) as error:
        raise SyncError(f"{metadata}: {error}: check the space and the permissions there") from None
    return signed


def _refreshed(feed: FeedClient, root: bytes, staging: Path) -> Updater:
    """Fetches and verifies the metadata in a folder.

    If the online key changes after this client has asked for the next root and before it asks for the timestamp, this
    is signed by a key that the trusted root does not have. So it tries once more, from the next root on.
    """
    updater = _updater(feed, root, staging)
    try:
        updater.refresh()
    except UnsignedMetadataError:
        updater = _updater(feed, root, staging)
        updater.refresh()
    return updater


def _staging(metadata: Path) -> Path:
    """Copies the trusted metadata to a folder beside it, and returns that folder.

    Renames the trusted metadata back first if a sync was killed between the two renames of `_adopt`.
    """
    staging, before = _beside(metadata)
    if before.exists() and not metadata.exists():
        before.rename(metadata)
    for leftover in (staging, before):
        shutil.rmtree(leftover, ignore_errors=True)
    metadata.parent.mkdir(parents=True, exist_ok=True)
    if metadata.exists():
        shutil.copytree(metadata, staging, symlinks=True)
        for path in staging.glob("*.json"):
            if path.is_dir() and not path.is_symlink():  # python-tuf could not replace it
                shutil.rmtree(path)
    else:
        staging.mkdir()
    return staging


def _adopt(staging: Path, metadata: Path) -> None:
    """Replaces the trusted metadata by the copy. At any moment it is complete, as `metadata` or `metadata.old`."""
    _, before = _beside(metadata)
    if metadata.exists():
        metadata.rename(before)
    staging.rename(metadata)
    shutil.rmtree(before, ignore_errors=True)


def _beside(metadata: Path) -> tuple[Path, Path]:
    """The paths of the copy and of the previous metadata."""
    return metadata.with_name(f"{metadata.name}.new"), metadata.with_name(f"{metadata.name}.old")


def _updater(feed: FeedClient, root: bytes, metadata: Path) -> Updater:
    try:
        return Updater(str(metadata), f"{feed.base}/metadata/", fetcher=TufFetcher(feed), bootstrap=root)
    except RepositoryError as error:
        raise SyncError(
            f"--root: the trusted root can't be verified: {error}: expected the root.json that the publisher gave you"
        ) from None


def _check_no_targets(updater: Updater, list_name: str, feed: FeedClient) -> None:
    """Raises SyncError if the targets metadata has a target: it is another list's. Else the list has no version yet."""
    targets = updater._trusted_set.targets.targets
    if targets:
        raise SyncError(
            f"{feed.base}: the metadata is signed for another list than {list_name}: the local version stays in "
            f"place; check the address"
        )


def _describe(custom: Any, list_name: str, length: int, hashes: dict[str, str], feed: FeedClient) -> SignedVersion:
    """The signed description, from the fields of the target. Raises SyncError."""
    try:
        signed = SignedVersion(
            str(custom["list"]),
            str(custom["session"]),
            int(custom["version"]),
            int(custom["entries"]),
            length,
            hashes["sha256"],
        )
    except (KeyError, TypeError, ValueError):
        raise SyncError(
            f"{feed.base}: the signed target does not contain its list, session and version: call the publisher"
        ) from None
    if signed.list != list_name:
        raise SyncError(
            f"{feed.base}: the version is signed for another list than {list_name}: the local version stays in "
            f"place; check the address"
        )
    return signed

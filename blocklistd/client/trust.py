"""What the publisher signed: the list's current version, by TUF from one trusted root (python-tuf's ngclient)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.ngclient import Updater

from blocklistd.client.feed import Feed, TufFetcher
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

    The trusted metadata in `metadata` only ever moves forward: an older one than was seen is refused, for ever.
    """
    try:
        metadata.mkdir(mode=0o700, parents=True, exist_ok=True)
        updater = Updater(str(metadata), f"{feed.base}/metadata/", fetcher=TufFetcher(feed), bootstrap=root)
        updater.refresh()
        target = updater.get_targetinfo(f"{list_name}.ndjson")
    except ExpiredMetadataError as error:
        raise SyncError(
            f"{feed.base}: all that can be had is expired ({error}): what is here stays in place; call the publisher"
        ) from None
    except DownloadHTTPError as error:
        raise feed.refusal(error.status_code) from None
    except DownloadError as error:
        raise SyncError(str(error.__cause__ or f"{feed.base}: {error}")) from None
    except RepositoryError as error:
        raise SyncError(f"{feed.base}: the metadata can't be verified: {error}: what is here stays in place") from None
    except (OSError, ValueError) as error:
        raise SyncError(f"{metadata}: {error}") from None
    if target is None:
        _refuse_foreign(updater, list_name, feed)
        return None
    return _read(target.custom, list_name, target.length, target.hashes, feed)


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

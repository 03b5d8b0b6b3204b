"""What is live, in memory: for each list one frozen view, made whole, then put in place of the last by one assignment.

A request reads one view from its first to its last byte, so a version that is published meanwhile never mixes into it;
an answer that has not changed is bytes that stand ready.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson

from blocklistd.errors import StoreError
from blocklistd.model import ListId, Sha256, Version, VersionInfo
from blocklistd.signing.roles import newest
from blocklistd.store.metadata import SignedRole
from blocklistd.times import rfc3339


@dataclass(frozen=True, slots=True)
class Document:
    """A small answer that stands ready: its bytes and its strong ETag (RFC 9110 8.8.3)."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> Document:
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


@dataclass(frozen=True, slots=True)
class ListView:
    """A list as it is served. `metadata` holds the signed files by name, `targets` the snapshots that are kept."""

    id: ListId
    session: str
    live: VersionInfo | None
    oldest_diff: Version
    status: Document
    metadata: Mapping[str, Document]
    targets: Mapping[Sha256, VersionInfo]
    expires: datetime

    @property
    def version(self) -> Version:
        return self.live.version if self.live else Version(0)


def view(
    list_id: ListId,
    session: str,
    kept: Iterable[VersionInfo],
    oldest_diff: Version,
    roles: Iterable[SignedRole],
    roots: Mapping[int, bytes],
    canonicaliser: int,
) -> ListView:
    """The view of a list whose newest kept version is signed; raises StoreError if it is not."""
    snapshots = sorted(kept, key=lambda version: -version.version)
    live = snapshots[0] if snapshots else None
    roles = list(roles)
    signed = newest(roles)
    if "targets" not in signed or signed["targets"].target != (live.version if live else 0):
        raise StoreError(f"list {list_id}: version {live.version if live else 0} is not signed, and so is not served")
    expires = signed["targets"].expires
    status = {
        "list": list_id,
        "session": session,
        "version": live.version if live else 0,
        "entries": live.entries if live else 0,
        "length": live.length if live else 0,
        "sha256": live.sha256 if live else None,
        "published": rfc3339(live.time) if live else None,
        "expires": rfc3339(expires),
        "oldest_diff": oldest_diff,
        "canonicaliser": live.canonicaliser if live else canonicaliser,
    }
    metadata = {f"{number}.root.json": Document.of(body) for number, body in roots.items()}
    for role in roles:
        if role.role != "timestamp":
            metadata[f"{role.version}.{role.role}.json"] = Document.of(role.body)
    metadata["timestamp.json"] = Document.of(signed["timestamp"].body)
    return ListView(
        id=list_id,
        session=session,
        live=live,
        oldest_diff=oldest_diff,
        status=Document.of(orjson.dumps(status)),
        metadata=metadata,
        targets={version.sha256: version for version in snapshots},
        expires=expires,
    )


class Catalogue:
    """The views of all lists, and who waits for a change of one."""

    def __init__(self) -> None:
        self._views: dict[ListId, ListView] = {}
        self._configured: frozenset[str] = frozenset()
        self._waiting: dict[ListId, asyncio.Event] = {}
        self._closed = False
        self.waiting = 0
        """Long polls under way."""

    def __iter__(self) -> Iterator[ListView]:
        return iter(tuple(self._views.values()))  # also for a thread, while the loop adds one

    def get(self, list_id: str) -> ListView | None:
        return self._views.get(ListId(list_id))

    def configure(self, lists: Iterable[str]) -> None:
        """Sets the names of all configured lists, whether they can be served or not."""
        self._configured = frozenset(lists)

    def is_missing(self, list_id: str) -> bool:
        """Whether the list is configured and can't be served."""
        return list_id in self._configured and ListId(list_id) not in self._views

    def publish(self, new: ListView) -> None:
        """Flips the pointer, then wakes those who wait, if the version is another."""
        old = self._views.get(new.id)
        self._views[new.id] = new
        if old is None or (old.session, old.version) != (new.session, new.version):
            self._wake(new.id)

    def withdraw(self, list_id: ListId) -> None:
        """The list is no longer configured."""
        self._views.pop(list_id, None)
        self._wake(list_id)

    def _wake(self, list_id: ListId) -> None:
        self._waiting.pop(list_id, asyncio.Event()).set()

    async def changed(self, seen: ListView, seconds: float) -> None:
        """Returns when the list's version is no longer that of `seen`, at shutdown, or after so many seconds."""
        current = self._views.get(seen.id)
        if self._closed or current is None or (current.session, current.version) != (seen.session, seen.version):
            return
        event = self._waiting.setdefault(seen.id, asyncio.Event())
        self.waiting += 1
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Lets everyone who waits go: the daemon stops."""
        self._closed = True
        for list_id in list(self._waiting):
            self._wake(list_id)

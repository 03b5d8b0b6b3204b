"""The live lists, in memory: one frozen view for each list, and the requests that wait for the next view.

States of a list: unknown; missing (`configure` named it, and it has no view: it can't be served); live (`publish` has
set a view). `publish` replaces the view by one assignment, `withdraw` removes it, and both wake the waiting requests.
`close` wakes all requests and makes later waits return at once. A request uses one view from its first to its last
byte, so it never mixes two versions. Small answers are prepared with the view.

A *change* of any list has a number, from 1, which counts within this process. A Watch follows the lists of one
subscriber by the number of the last change that it has taken. It needs no queue: of several changes of a list only the
newest matters, and the list's view is shared. Order of calls: `watch`, then `take` and `wait` in turns, `unwatch`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import orjson

from blocklistd.change import VersionInfo
from blocklistd.errors import StoreError
from blocklistd.model import ListId, Sha256, Version
from blocklistd.signing.roles import newest
from blocklistd.store.metadata import SignedRole
from blocklistd.times import rfc3339


@dataclass(frozen=True, slots=True)
class Document:
    """A prepared answer: its body and its strong ETag, with quotes (RFC 9110 8.8.3)."""

    body: bytes
    etag: str

    @classmethod
    def of(cls, body: bytes) -> Document:
        """A document whose ETag is the beginning of the body's SHA-256."""
        return cls(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


@dataclass(frozen=True, slots=True)
class ListView:
    """A list as it is served.

    `live`: the newest version, None before the first. `oldest_diff`: the oldest version from which diffs are served.
    `status`: the answer to a status request. `metadata`: the TUF metadata by file name. `targets`: the kept snapshots
    by SHA-256. `expires`: when the targets metadata expires.
    """

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
        """The number of the live version; 0 before the first."""
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
    """Makes the view of a list.

    `kept`: the kept versions. `roles`: the signed metadata. `roots`: the root metadata by version. `canonicaliser`:
    the number for the status of a list without a version. Raises StoreError if the newest version is not signed.
    """
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


class ListChange(NamedTuple):
    """A change of a list, and the list's view since then."""

    number: int
    view: ListView


class Watch:
    """The changes of some lists. `taken`: the number of the last change that was taken."""

    __slots__ = ("_live_lists", "_woken", "lists", "taken")

    def __init__(self, live_lists: LiveLists, lists: frozenset[ListId], taken: int) -> None:
        self.lists = lists
        self.taken = taken
        self._live_lists = live_lists
        self._woken = asyncio.Event()

    def take(self, most: int) -> list[ListChange]:
        """The oldest changes that were not taken, at most so many, the latest one of each list."""
        self._woken.clear()
        found = sorted(change for name in self.lists if (change := self._live_lists.change(name)) > self.taken)[:most]
        if not found:
            return []
        self.taken = found[-1]
        of_list = {self._live_lists.change(name): name for name in self.lists}
        views = ((number, self._live_lists.get(of_list[number])) for number in found)
        return [ListChange(number, view) for number, view in views if view is not None]

    def wake(self) -> None:
        """Ends `wait`, or the next one."""
        self._woken.set()

    async def wait(self, seconds: float) -> None:
        """Waits for a change that was not taken, at most `seconds`, or until `wake`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()


class LiveLists:
    """The views of all lists by id, and an event for each list that a request waits for."""

    def __init__(self) -> None:
        self._views: dict[ListId, ListView] = {}
        self._changes: dict[ListId, int] = {}
        """The number of each list's latest change."""
        self.changes = 0
        """The number of the latest change."""
        self._watches: set[Watch] = set()
        self._configured: frozenset[str] = frozenset()
        self._waiting: dict[ListId, asyncio.Event] = {}
        self.closed = False
        self.waiting = 0
        """The number of long polls under way."""

    def __iter__(self) -> Iterator[ListView]:
        """The views of all live lists. May be called in any thread."""
        return iter(tuple(self._views.values()))  # a copy: the loop may add a view meanwhile

    def get(self, list_id: str) -> ListView | None:
        """The list's view; None if the list is not live."""
        return self._views.get(ListId(list_id))

    def configure(self, lists: Iterable[str]) -> None:
        """Sets the ids of all configured lists, served or not."""
        self._configured = frozenset(lists)

    def is_missing(self, list_id: str) -> bool:
        """Whether the list is configured and can't be served."""
        return list_id in self._configured and ListId(list_id) not in self._views

    def publish(self, new: ListView) -> None:
        """Replaces the list's view, then wakes the waiting requests if the version has changed."""
        old = self._views.get(new.id)
        self._views[new.id] = new
        if old is None or (old.session, old.version) != (new.session, new.version):
            self.changes += 1
            self._changes[new.id] = self.changes
            self._wake(new.id)

    def withdraw(self, list_id: ListId) -> None:
        """Removes the view of a list that is no longer configured, and wakes the waiting requests."""
        self._views.pop(list_id, None)
        self._wake(list_id)

    def _wake(self, list_id: ListId) -> None:
        self._waiting.pop(list_id, asyncio.Event()).set()
        for watch in self._watches:
            if list_id in watch.lists:
                watch.wake()

    def change(self, list_id: ListId) -> int:
        """The number of the list's latest change; 0 if there was none."""
        return self._changes.get(list_id, 0)

    def watch(self, lists: frozenset[ListId], taken: int) -> Watch:
        """Begins to watch lists. `taken`: the last change that the client knows; 0: none."""
        found = Watch(self, lists, taken)
        self._watches.add(found)
        return found

    def unwatch(self, watch: Watch) -> None:
        """Ends a watch."""
        self._watches.discard(watch)

    @property
    def watching(self) -> int:
        """The number of watches."""
        return len(self._watches)

    async def changed(self, seen: ListView, seconds: float) -> None:
        """Waits until the list's version differs from that of `seen`, at most `seconds`, or until `close`."""
        current = self._views.get(seen.id)
        if self.closed or current is None or (current.session, current.version) != (seen.session, seen.version):
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
        """Ends all waits, because the daemon stops."""
        self.closed = True
        for list_id in list(self._waiting):
            self._wake(list_id)
        for watch in self._watches:
            watch.wake()

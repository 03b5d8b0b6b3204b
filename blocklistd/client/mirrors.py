"""A feed and its mirrors: which is asked, and which one's answer is taken.

The publisher's own address is asked first for everything: only it is never stale, and a mirror matters only if the
publisher can't answer. Then all mirrors are asked for the metadata. Each answer is verified against the newest that was
verified before, so that an older one is refused, and the newest wins, whatever the order of the mirrors. The bytes of
snapshots and diffs are compared with the signed SHA-256, so a hostile mirror can only cost time, which is bounded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocklistd.client.feed import FeedClient
from blocklistd.client.options import Options
from blocklistd.client.trust import SignedVersion, signed_version
from blocklistd.errors import SyncError

Emit = Callable[[str], None]
"""Prints a line for the user."""


class Mirrors:
    """The feeds of one list: the publisher's, then the mirrors in the order of the options. `close` at the end."""

    def __init__(self, options: Options, stop: threading.Event) -> None:
        self.publisher = FeedClient(options.url, options.list, options.access(), stop)
        access = options.mirror_access() if options.mirrors else None
        others = [FeedClient(url, options.list, access, stop) for url in options.mirrors] if access else []
        self.feeds: tuple[FeedClient, ...] = (self.publisher, *others)
        self._stop = stop

    def close(self) -> None:
        """Closes all connections."""
        for feed in self.feeds:
            feed.close()

    @property
    def received(self) -> int:
        """The size in bytes of all bodies that were received."""
        return sum(feed.received for feed in self.feeds)

    def newest(self, list_name: str, root: bytes, metadata: Path, emit: Emit) -> NewestVersion:
        """The newest signed version that a feed has, as `trust.signed_version`. Raises the publisher's SyncError if no
        feed has one."""
        try:
            return NewestVersion(signed_version(self.publisher, list_name, root, metadata), self.feeds)
        except SyncError as error:
            if len(self.feeds) == 1 or self._stop.is_set():
                raise
            failure = error
        emit(f"{failure}; asking the mirrors")
        found: NewestVersion | None = None
        for feed in self.feeds[1:]:
            try:
                signed = signed_version(feed, list_name, root, metadata)
            except SyncError as error:
                if self._stop.is_set():
                    raise
                emit(f"mirror {error}")
            else:
                others = (other for other in self.feeds if other is not feed)
                found = NewestVersion(signed, (feed, *others))
        if found is None:
            raise failure
        return found


@dataclass(frozen=True, slots=True)
class NewestVersion:
    """`signed`: the version, None if the list has none yet. `feeds`: all feeds, the one that has it first."""

    signed: SignedVersion | None
    feeds: Sequence[FeedClient]

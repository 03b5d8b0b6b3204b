"""Finds whether a text is listed: in a live version, in the offer of a source, or in a held candidate.

Used only for the free text of operators, which must not name an entry; never for a subscriber's request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, select

from blocklistd.errors import StoreError
from blocklistd.lines.delta import ENTRIES, offset_of_change
from blocklistd.lines.keys import Buffer
from blocklistd.lines.snapshot import find
from blocklistd.model import Sha256
from blocklistd.store.asserted import open_assertion
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import version_rows
from blocklistd.store.schema import candidates, lists, sources


def files_to_search(connection: Connection) -> tuple[set[Sha256], set[Sha256]]:
    """The sealed files with the listed, offered and held entries: those with lines (snapshots and offers), and those
    with deltas (held candidates)."""
    snapshots = {
        version.sha256
        for list_id in connection.execute(select(lists.c.id)).scalars()
        for version in version_rows(connection, list_id, newest=1)
    }
    offered = set(connection.execute(select(sources.c.offered).where(sources.c.offered.is_not(None))).scalars())
    held = set(connection.execute(select(candidates.c.delta).where(candidates.c.state == "held")).scalars())
    return snapshots | offered, held


def is_listed(files: SealedFiles, beginnings: Collection[bytes], where: tuple[set[Sha256], set[Sha256]]) -> bool:
    """Whether a line in the files begins with one of `beginnings` (kinds.mentions). `where`: from `files_to_search`.

    Raises StoreError if a file is missing or damaged.
    """
    lines, deltas = where
    for digest in lines:
        with _readable(files, digest), open_assertion(files, digest) as (_, patch):
            if any(find(patch.base, beginning) is not None for beginning in beginnings):
                return True
            if any(line.startswith(tuple(beginnings)) for line in patch.adds.values()):
                return True
    for digest in deltas:
        with _readable(files, digest), files.map(digest) as delta:
            if any(_item_begins(delta, beginning) for beginning in beginnings):
                return True
    return False


@contextmanager
def _readable(files: SealedFiles, digest: Sha256) -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise StoreError(f"{files.path(digest)}: the sealed file is damaged: see `blocklistd status`") from None


def _item_begins(delta: Buffer, beginning: bytes) -> bool:
    boundary = beginning.removesuffix(b'"')  # the keys by which a delta is sorted have no closing quote
    start = offset_of_change(ENTRIES, delta, boundary)
    line = delta[start : delta.find(b"\n", start)] if start < len(delta) else b""
    return bool(line) and ENTRIES.item(line).startswith(beginning)

"""Since when the sources of a list without a `lifetime` assert its entries, for `entry explain`.

They are kept while versions are counted (counting.py), after these are public, so that no commit waits for them. Those
of a list with a `lifetime` decide what the list has: its commits keep them (aging.py).

- A source that is new in the list: all its entries since then.
- An entry that a source adds later: since that version's time. One that it drops is forgotten.
- Where counting begins with a version that is not the first, the time of that version's entries is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from blocklistd.compose.lifetimes import lines_by_key
from blocklistd.lines.keys import Buffer
from blocklistd.model import SourceId
from blocklistd.store.ages import UNKNOWN, Ages, age_line, open_ages, update
from blocklistd.store.asserted import is_intact
from blocklistd.store.figures import CountedAges
from blocklistd.store.files import Draft, SealedFiles
from blocklistd.store.verified import Verified


class AssertedAges:
    """The ages of the sources with the next version. `before`: with the version before; None: they are not kept.
    `sources`: those of the next version. `when`: its time. `fresh`: the sources that the version before did not have;
    of the others without ages it is not known since when they assert their entries.

    Give every part of the change to `add_few` or to `add_part`; then `after` has the result. A context manager that
    closes its files.
    """

    def __init__(
        self,
        files: SealedFiles,
        verified: Verified,
        before: Mapping[SourceId, CountedAges] | None,
        sources: Collection[SourceId],
        when: datetime,
        *,
        fresh: Collection[SourceId],
    ) -> None:
        self._files = files
        self._when = when
        self._stack = ExitStack()
        self._drafts: dict[SourceId, Draft] = {}
        self._empty: set[SourceId] = set()
        self._ages: dict[SourceId, Ages] = {}
        self.after: dict[SourceId, CountedAges] = {}
        for source in sources if before is not None else ():
            known = before.get(source) if before else None
            if known is not None and known.file is not None and not is_intact(files, verified, known.file):
                known = CountedAges(None, None)
            self.after[source] = known or CountedAges(None, when if source in fresh else None)
            if known is not None:
                opened = open_ages(files, known.file, known.since or UNKNOWN)
                self._ages[source] = self._stack.enter_context(opened)

    def __enter__(self) -> AssertedAges:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add_few(self, asserted: Mapping[str, tuple[Collection[bytes], Collection[bytes]]]) -> None:
        """A small change: for each source, which of the touched keys it asserted before, and asserts after."""
        for source, ages in self._ages.items():
            before, after = map(set, asserted.get(source, ((), ())))
            if before != after:
                file = update(self._files, ages, before - after, after - before, self._when)
                self.after[source] = CountedAges(file, self.after[source].since)

    def begin(self) -> list[Buffer]:
        """Begins a large change. Returns the sorted lines of each source's exceptions."""
        self._drafts = {source: self._stack.enter_context(self._files.create()) for source in self._ages}
        self._empty = set(self._ages)
        return [ages.exceptions.read_all() for ages in self._ages.values()]

    def add_part(
        self, exceptions: list[bytes], asserted: Mapping[str, tuple[Collection[bytes], Collection[bytes]]]
    ) -> None:
        """A part of a large change: its lines of `begin`, and the keys of each source as in `add_few`."""
        for source, lines in zip(self._ages, exceptions, strict=True):
            before, after = asserted.get(source, ((), ()))
            kept, keys = lines_by_key(lines), set(after)
            made = [line for key, line in kept.items() if key in keys]
            made += [age_line(key, self._when) for key in keys.difference(before)]
            if made:
                self._empty.discard(source)
                self._drafts[source].write(b"".join(line + b"\n" for line in sorted(made)))

    def end(self) -> None:
        """Ends a large change: seals the new exceptions."""
        self._stack.close()
        for source, draft in self._drafts.items():
            file = None if source in self._empty else draft.sealed
            self.after[source] = CountedAges(file, self.after[source].since)

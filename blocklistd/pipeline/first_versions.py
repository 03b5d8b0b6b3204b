"""Which running pulls the first version of a list waits for, and who brings that version.

Without the wait, sources that are pulled at the same time would make a version each, each composed in full; and the
guards would hold all but the first one as large changes. Once entries have been offered to the list, it waits for no
pull that begins later: so pulls that fail again and again do not keep it from its first version.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from blocklistd.model import Act, ListId, SourceId

_NEVER: Final = float("inf")


class FirstVersions:
    """Keeps, in memory, which pulls run since when, and the offers to lists that have no version yet."""

    def __init__(self) -> None:
        self._pulls: dict[SourceId, float] = {}
        self._offered: dict[ListId, float] = {}
        self._acts: dict[ListId, Act] = {}

    @contextmanager
    def pull(self, source: SourceId) -> Iterator[None]:
        """A context in which the source is pulled. One pull of a source runs at a time."""
        self._pulls[source] = time.monotonic()
        try:
            yield
        finally:
            del self._pulls[source]

    def pulled_now(self, list_id: ListId) -> set[SourceId]:
        """The sources whose running pulls began before the first offer to the list."""
        offered = self._offered.get(list_id, _NEVER)
        return {source for source, began in self._pulls.items() if began <= offered}

    def offer(self, list_id: ListId, act: Act | None) -> Act | None:
        """Notes that entries are offered to a list without a version. Returns the act of the last person who has
        brought some of them: where the list waited, another pull brings these entries."""
        self._offered.setdefault(list_id, time.monotonic())
        if act is not None and act.uid is not None:
            self._acts[list_id] = act
        return self._acts.get(list_id, act)

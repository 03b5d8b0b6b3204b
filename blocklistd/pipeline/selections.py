"""The guards of zones that select entries by category. They run in the commit job.

The guards `max_added` and `max_removed` of the list, and their daily sums, apply to the entries that each zone selects
as they do to the list: an entry whose category changes leaves a zone although the list keeps it.

The cost is that of the change, unless it moves entries: then the deltas of the last 24 h are read, and the live
snapshot if more than `min_change` entries have joined or left.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Protocol

from blocklistd.change import Change, Reason
from blocklistd.compose.guard import WINDOW, Figures, Limits, judge_movement
from blocklistd.compose.selection import Movement, Selection, movements, selected
from blocklistd.errors import StoreError
from blocklistd.lines.snapshot import lines
from blocklistd.model import Sha256
from blocklistd.pipeline.composing import Composed
from blocklistd.store.automatic import automatic_deltas
from blocklistd.store.database import Database
from blocklistd.store.files import SealedFiles
from blocklistd.store.lists import ListState


class SelectingLimits(Limits, Protocol):
    """The guards of a list, and the selections of its zones."""

    @property
    def selections(self) -> tuple[Selection, ...]:
        """Those of the zones that have `categories`."""


def selection_reasons(
    database: Database,
    files: SealedFiles,
    state: ListState,
    limits: SelectingLimits,
    change: Change,
    composed: Composed,
    now: datetime,
) -> tuple[Reason, ...]:
    """The reasons to hold the change, each with the zone in its figure. None for a first version, which can't be
    compared, nor for a correction that shortens the list. Raises StoreError."""
    selections = limits.selections
    if state.live is None or composed.delta is None or not selections or change.places:
        return ()
    with database.read() as connection:
        deltas = automatic_deltas(connection, state.id, now - WINDOW)
    moved = _moved(files, composed.delta, selections)
    if not any(found.joined or found.left for found in moved):
        return ()
    day = [Movement() for _ in selections]
    if limits.daily is not None:
        for digest in deltas:
            with suppress(StoreError):  # a lost delta is not counted
                for total, found in zip(day, _moved(files, digest, selections), strict=True):
                    total.joined += found.joined
                    total.left += found.left
    reasons: list[Reason] = []
    for selection, found, earlier in zip(selections, moved, day, strict=True):
        if max(found.joined + earlier.joined, found.left + earlier.left) <= limits.min_change:
            continue
        with files.map(state.live.sha256) as live:
            count = selected(live, selection)
        figures = Figures(count, found.joined, found.left, 0, 0, earlier.joined, earlier.left)
        reasons += judge_movement(selection.zone, figures, limits)
    return tuple(reasons)


def _moved(files: SealedFiles, delta: Sha256, selections: tuple[Selection, ...]) -> list[Movement]:
    with files.map(delta) as content:
        return movements(lines(content), selections)

"""Counts, by rule, the entries of its sources that a list withholds.

The count is the sum of two:

- asserted entries that the rules of the list withhold. Each version counts them (compose.withheld).
- records that no list can have (model.WITHHELD). Intake counts them in its report on each source's newest body.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from blocklistd.change import Candidate
from blocklistd.model import ListId, SourceId
from blocklistd.store.candidates import held
from blocklistd.store.pulls import SourceState, source_states
from blocklistd.store.schema import lists

Counts = dict[str, int]
"""The number of withheld entries by rule."""


def of_lists(connection: Connection, sources: Mapping[ListId, Iterable[SourceId]]) -> dict[ListId, Counts]:
    """The counts of the live version of each list. `sources`: the sources of each list."""
    taken = {name: list(found) for name, found in sources.items()}
    states = source_states(connection, {source for found in taken.values() for source in found})
    rows = connection.execute(select(lists.c.id, lists.c.withheld).where(lists.c.id.in_(list(taken))))
    counted = {row.id: row.withheld for row in rows}
    return {name: _sum(counted.get(name), (states[source] for source in found)) for name, found in taken.items()}


def of_candidate(connection: Connection, candidate: Candidate) -> Counts:
    """The counts of the version that a candidate leads to. The count of intake is included for each source that still
    offers the entries from which the candidate was composed."""
    offered = candidate.change.sources
    states = source_states(connection, offered)
    return _sum(candidate.withheld, (states[name] for name, used in offered.items() if states[name].offered == used))


def of_pull(
    connection: Connection, source: SourceId, sources: Mapping[ListId, Iterable[SourceId]]
) -> dict[ListId, Counts]:
    """The counts of each list of a source after its pull: of the candidate that the pull caused, else of the live
    version. `sources`: the sources of each of these lists."""
    found = of_lists(connection, sources)
    for name in sources:
        for case in held(connection, name):
            if case.candidate.change.source == source:
                found[name] = of_candidate(connection, case.candidate)
    return found


def _sum(by_list: Mapping[str, int] | None, states: Iterable[SourceState]) -> Counts:
    total = Counter(by_list or {})
    for state in states:
        total.update(state.report.withheld if state.report else {})
    return dict(sorted(total.items()))

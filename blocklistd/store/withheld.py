"""Counts, by rule, the entries of its sources that a list withholds.

The count is a sum of two. Each version counts the asserted entries that the list's rules withhold (compose.withheld).
Intake counts the records that no list can hold (model.WITHHELD), in the report on each source's newest body.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from blocklistd.model import Candidate, ListId, SourceId
from blocklistd.store.candidates import held
from blocklistd.store.pulls import SourceState, source_states
from blocklistd.store.schema import lists

Counts = dict[str, int]
"""Withheld entries by rule."""


def of_lists(connection: Connection, sources: Mapping[ListId, Iterable[SourceId]]) -> dict[ListId, Counts]:
    """What the live version of each list withholds. `sources`: the sources that each list takes."""
    taken = {name: list(found) for name, found in sources.items()}
    states = source_states(connection, {source for found in taken.values() for source in found})
    rows = connection.execute(select(lists.c.id, lists.c.withheld).where(lists.c.id.in_(list(taken))))
    counted = {row.id: row.withheld for row in rows}
    return {name: _sum(counted.get(name), (states[source] for source in found)) for name, found in taken.items()}


def of_candidate(connection: Connection, candidate: Candidate) -> Counts:
    """What the version would withhold that the candidate leads to. The count of intake is included for a source that
    still offers the body which the candidate was made from."""
    offered = candidate.change.sources
    states = source_states(connection, offered)
    return _sum(candidate.withheld, (states[name] for name, said in offered.items() if states[name].offered == said))


def of_pull(
    connection: Connection, source: SourceId, sources: Mapping[ListId, Iterable[SourceId]]
) -> dict[ListId, Counts]:
    """What each list of a source withholds after its pull: in the candidate that the pull caused, else in the live
    version."""
    found = of_lists(connection, sources)
    for name in sources:
        for case in held(connection, name):
            if case.candidate.change.cause == source:
                found[name] = of_candidate(connection, case.candidate)
    return found


def _sum(by_list: Mapping[str, int] | None, states: Iterable[SourceState]) -> Counts:
    total = Counter(by_list or {})
    for state in states:
        total.update(state.report.withheld if state.report else {})
    return dict(sorted(total.items()))

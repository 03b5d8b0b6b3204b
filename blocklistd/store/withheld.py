"""What a list leaves out of what its sources say, counted by rule: nothing vanishes unsaid.

Two counts add up. A version counts the asserted entries that the list's own rules keep out (compose.withheld). Intake
counts the records that no list can have (model.WITHHELD); they come with the report of each source's newest body.
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
"""By rule."""


def of_lists(connection: Connection, sources: Mapping[ListId, Iterable[SourceId]]) -> dict[ListId, Counts]:
    """Of the live version of each list, given the sources that it takes."""
    taken = {name: list(found) for name, found in sources.items()}
    states = source_states(connection, {source for found in taken.values() for source in found})
    rows = connection.execute(select(lists.c.id, lists.c.withheld).where(lists.c.id.in_(list(taken))))
    counted = {row.id: row.withheld for row in rows}
    return {name: _sum(counted.get(name), (states[source] for source in found)) for name, found in taken.items()}


def of_candidate(connection: Connection, candidate: Candidate) -> Counts:
    """Of the version that the candidate leads to; what intake counts, as long as the source says what was offered."""
    offered = candidate.change.sources
    states = source_states(connection, offered)
    return _sum(candidate.withheld, (states[name] for name, said in offered.items() if states[name].offered == said))


def of_pull(
    connection: Connection, source: SourceId, sources: Mapping[ListId, Iterable[SourceId]]
) -> dict[ListId, Counts]:
    """Of the lists of a source, after its pull: of what is held of it, else of the live version."""
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

"""The law of statistics: for any sequence of versions, the figures of each day are those of a plain recount of the
lists and of what the sources assert; whatever is killed between a version and its counting."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from blocklistd.compose.figures import ALL, NONE
from blocklistd.pipeline import counting
from blocklistd.pipeline.composing import FEW
from blocklistd.pipeline.counting import count_versions
from blocklistd.store import figures
from blocklistd.store.schema import daily_figures
from tests.examples import examples
from tests.versions_of import LIST, NOW, Versions

NAMES = [f"n{number}.example" for number in range(6)]
Listed = dict[str, str]
"""The category of each name."""
listed = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["A", "B", ""]), min_size=1)
steps = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]), listed, st.integers(0, 2), st.sampled_from(["", "count", "killed", "large"])
    ),
    min_size=1,
    max_size=8,
)


class Killed(Exception):
    pass


def recount(history: list[tuple[str, Listed, dict[str, set[str]]]]) -> dict[tuple[str, str, str], list[int]]:
    """(added, removed, live) by day, source and category, of (day, live entries, names that each source asserts)."""
    found: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    before: Listed = {}
    asserted_before: dict[str, set[str]] = {}
    for day, live, asserted in history:
        for source in (ALL, "a", "b"):
            old = {n: c for n, c in before.items() if not source or n in asserted_before.get(source, ())}
            new = {n: c for n, c in live.items() if not source or n in asserted.get(source, ())}
            for category in (ALL, "A", "B", NONE):
                row = found[day, source, category]
                row[0] += sum(category in (ALL, new[name]) for name in new.keys() - old.keys())
                row[1] += sum(category in (ALL, old[name]) for name in old.keys() - new.keys())
                row[2] = sum(category in (ALL, of) for of in new.values())
        before, asserted_before = live, asserted
    return {name: row for name, row in found.items() if any(row) or name[1:] == (ALL, ALL)}


@settings(max_examples=examples(40), deadline=None)
@given(steps=steps)
def test_the_figures_are_those_of_a_plain_recount(
    steps: list[tuple[str, Listed, int, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        versions = Versions(Path(folder), "a", "b")
        history: list[tuple[str, Listed, dict[str, set[str]]]] = []
        asserted: dict[str, set[str]] = {}
        now = NOW
        for source, names, days, then in steps:
            now += timedelta(days=days)
            lines = [json.dumps({"v": name} | ({"c": of} if of else {})) for name, of in names.items()]
            asserted = asserted | {source: set(names)}
            sealed = versions.seal(lines, "ndjson", value="/v", category="/c")
            if versions.publish(sealed, source, now) is not None:
                entries = [json.loads(line) for line in versions.live.splitlines()]
                live = {entry["value"]: entry.get("category", NONE) for entry in entries}
                history.append((now.date().isoformat(), live, asserted))
            few = -1 if then == "large" else FEW
            with mock.patch.object(counting, "FEW", few):
                if then == "killed":  # in the transaction of the first version that is not counted
                    with mock.patch.object(figures, "_row", side_effect=Killed), contextlib.suppress(Killed):
                        count_versions(versions.store, LIST, {}, now)
                elif then:
                    count_versions(versions.store, LIST, {}, now)
        count_versions(versions.store, LIST, {}, now)
        with versions.database.read() as connection:
            rows = connection.execute(select(daily_figures)).all()
        versions.close()
        found = {(row.day, row.source, row.category): [row.added, row.removed, row.live] for row in rows}
        assert found == recount(history)

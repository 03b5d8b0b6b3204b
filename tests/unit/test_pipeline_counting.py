"""Versions are counted once each, by source and category, whatever is lost or killed meanwhile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import null, select, update

from blocklistd.change import ChangeKind
from blocklistd.compose.figures import ALL, NONE, OTHER, Categories, Counts, Part, Tally, add_part, aligned_parts
from blocklistd.errors import StoreError
from blocklistd.limits import MAX_CATEGORIES
from blocklistd.model import Entry, Version
from blocklistd.pipeline.counting import count_versions
from blocklistd.store import figures, upkeep
from blocklistd.store.entries import asserted_since, find_entry
from blocklistd.store.schema import daily_figures, lists, source_ages
from blocklistd.store.schema import versions as versions_table
from tests.versions_of import LIST, NOW, Versions

DAY = timedelta(days=1)


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    made = Versions(tmp_path, "a", "b")
    yield made
    made.close()


def publish(versions: Versions, source: str, now: datetime = NOW, **categories: str) -> Version | None:
    """The source asserts these names of .example, each with its category; "" for none."""
    listed = [json.dumps({"v": f"{n}.example"} | ({"c": c} if c else {})) for n, c in categories.items()]
    return versions.publish(versions.seal(listed, "ndjson", value="/v", category="/c"), source, now)


def count(versions: Versions, now: datetime = NOW) -> list[Version]:
    return list(count_versions(versions.store, LIST, {}, now)["lost"])


def of(versions: Versions, source: str = ALL, category: str = ALL) -> dict[str, tuple[int, int, int]]:
    """For each day: added, removed, live."""
    table = daily_figures.c
    with versions.database.read() as connection:
        rows = connection.execute(
            select(daily_figures).where(table.source == source, table.category == category).order_by(table.day)
        )
        return {row.day[5:]: (row.added, row.removed, row.live) for row in rows}


def test_the_days_of_a_list_by_source_and_category(versions: Versions) -> None:
    publish(versions, "a", one="A", two="A", three="")
    count(versions)
    assert of(versions) == {"11-20": (3, 0, 3)}, "the first version's entries are added"
    publish(versions, "b", two="B", four="B")
    publish(versions, "a", NOW + DAY, two="A", three="C")
    publish(versions, "a", NOW + DAY, two="A", three="C", five="")
    assert count(versions) == []
    assert count(versions) == [], "nothing is counted twice"
    assert of(versions) == {"11-20": (4, 0, 4), "11-21": (1, 1, 4)}
    assert of(versions, "a") == {"11-20": (3, 0, 3), "11-21": (1, 1, 3)}
    assert of(versions, "b") == {"11-20": (2, 0, 2), "11-21": (0, 0, 2)}, "two is an entry of both"
    assert of(versions, category=NONE) == {"11-20": (1, 0, 1), "11-21": (1, 0, 1)}
    assert of(versions, category="C") == {"11-21": (0, 0, 1)}, "an entry with a new category is live there, not added"
    assert of(versions, "b", "A") == {"11-20": (1, 0, 1), "11-21": (0, 0, 1)}, "the list's category, not the source's"
    with versions.database.read() as connection:
        row = connection.execute(select(lists)).one()
        kept = connection.execute(select(versions_table).where(versions_table.c.sources.is_not(None))).all()
    assert (row.counted, row.categories) == (4, {NONE: 1, "A": 1, "B": 1, "C": 1})
    assert [found.version for found in kept] == [4]


def test_an_entry_that_one_of_two_sources_withdraws_leaves_that_source(versions: Versions) -> None:
    publish(versions, "a", one="A", two="A")
    publish(versions, "b", two="A", three="A")
    publish(versions, "a", one="A", four="A")
    count(versions)
    assert of(versions) == {"11-20": (4, 0, 4)}
    assert of(versions, "a") == {"11-20": (3, 1, 2)}
    assert of(versions, "b") == {"11-20": (2, 0, 2)}


def test_expired_entries_are_counted_as_such(versions: Versions) -> None:
    end = "2026-11-21T00:00:00Z"
    listed = [json.dumps({"v": "one.example", "e": end}), json.dumps({"v": "two.example"})]
    versions.publish(versions.seal(listed, "ndjson", value="/v", expires="/e"), "a", NOW)
    versions.expire(NOW + DAY)
    count(versions)
    with versions.database.read() as connection:
        found = figures.figures_of_period(connection, LIST, "2026-11-21", "2026-11-21")
    assert found[ALL, ALL] == Counts(0, 1, 1, 1, 0, Counter({1: 1}))
    assert found["a", NONE] == Counts(0, 1, 1, 1, 0, Counter({1: 1}))


@pytest.mark.parametrize("kind", [ChangeKind.CORRECTION, ChangeKind.ROLLBACK])
def test_entries_that_a_person_took_out_are_counted_as_corrected(kind: ChangeKind) -> None:
    tally: Tally = {}
    part = Part({b"one": "A", b"two": "A"}, {b"one": "A"}, {"a": ({b"two"}, {b"two"}), "b": ({b"one"}, {b"one"})})
    add_part(tally, part, kind, lambda key: 4)
    gone = Counts(removed=1, live=-1, corrected=1, lives=Counter({4: 1}))
    assert tally == {(ALL, "A"): gone, ("a", "A"): gone}


def test_the_files_of_an_uncounted_version_are_kept_and_its_pruned_delta_is_made_of_snapshots(
    versions: Versions,
) -> None:
    publish(versions, "a", one="A")
    count(versions)
    for number in range(12):  # more than KEPT_SNAPSHOTS
        publish(versions, "a", NOW + number * DAY, one="A", **{f"n{number}": "B"})
    with versions.database.write() as connection:
        upkeep.prune(connection, LIST, Version(13))
    upkeep.sweep(versions.store, versions.database, young=-10)
    assert count(versions) == []
    assert list(of(versions).values()) == [(2, 0, 2), *[(1, 1, 2)] * 11]
    assert upkeep.sweep(versions.store, versions.database, young=-10) > 0, "counted versions are not kept"


def test_a_lost_version_is_counted_with_the_next_one_and_named(versions: Versions) -> None:
    publish(versions, "a", one="A")
    count(versions)
    publish(versions, "a", NOW + DAY, one="A", two="A")
    middle = versions.state.live
    assert middle is not None
    publish(versions, "a", NOW + 2 * DAY, one="A", two="A", three="A")
    versions.store.sealed.path(middle.sha256).unlink()
    assert count(versions) == [2]
    assert of(versions) == {"11-20": (1, 0, 1), "11-22": (2, 0, 3)}


def test_a_version_whose_files_are_lost_stays_to_be_counted(versions: Versions) -> None:
    publish(versions, "a", one="A")
    live = versions.state.live
    assert live is not None
    versions.store.sealed.path(live.sha256).unlink()
    with pytest.raises(StoreError, match="version 1 are damaged"):
        count(versions)
    assert of(versions) == {}


def test_after_the_loss_of_the_counted_version_counting_begins_again(versions: Versions) -> None:
    publish(versions, "a", one="A", two="A")
    count(versions)
    first = versions.state.live
    assert first is not None
    publish(versions, "a", NOW + DAY, one="A")
    versions.store.sealed.path(first.sha256).unlink()
    assert count(versions, NOW + DAY) == [2]
    assert of(versions) == {"11-20": (2, 0, 2), "11-21": (0, 0, 1)}
    assert of(versions, "a", "A") == {"11-20": (2, 0, 2), "11-21": (0, 0, 1)}


def test_a_list_of_an_earlier_version_begins_with_its_live_entries(versions: Versions) -> None:
    publish(versions, "a", one="A", two="A")
    publish(versions, "a", one="A", two="A", three="B")
    with versions.database.write() as connection:
        connection.execute(update(versions_table).values(sources=null()))
    count(versions, NOW + 3 * DAY)
    assert of(versions) == {"11-23": (0, 0, 3)}
    assert of(versions, "a", "B") == {"11-23": (0, 0, 1)}
    publish(versions, "a", NOW + 3 * DAY, one="A")
    count(versions, NOW + 3 * DAY)
    assert of(versions) == {"11-23": (0, 2, 1)}
    with versions.database.read() as connection:
        lives = set(map(str, connection.execute(select(daily_figures.c.lives)).scalars()))
    assert lives == {"{}"}, "it is not known since when they were live"


def test_categories_are_bounded_and_harmless() -> None:
    names = Categories([])
    long = json.dumps("x" * 500).encode()
    assert names[long] == "x" * 64
    assert names[b'"a\\u0000b\\nc"'] == "a b c"
    assert names[b'"  "'] == names[b""] == NONE
    for number in range(MAX_CATEGORIES):
        names[b'"c%d"' % number]
    assert names[b'"another"'] == OTHER
    assert len(names.known) <= MAX_CATEGORIES + 1
    assert Categories(names.known)[b'"another"'] == OTHER, "also after a restart"


def test_a_large_change_gives_the_figures_of_a_small_one(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    def figures_of() -> Tally:
        with versions.database.read() as connection:
            return figures.figures_of_period(connection, LIST, "2026-01-01", "2026-12-31")

    publish(versions, "a", one="A", two="A")
    publish(versions, "b", two="B", four="B")
    publish(versions, "a", two="C", three="C")
    with versions.database.read() as connection:
        work = figures.to_count(connection, LIST)
    count(versions)
    few = figures_of()
    monkeypatch.setattr("blocklistd.pipeline.counting.FEW", -1)
    with versions.database.write() as connection:
        connection.execute(daily_figures.delete())
        connection.execute(update(lists).values(counted=null(), categories=null()))
        for one in work.pending:
            here = versions_table.c.version == one.version
            connection.execute(update(versions_table).where(here).values(sources=one.sources))
    count(versions)
    assert figures_of() == few
    assert few[ALL, ALL].live == 3


@pytest.mark.parametrize("few", [2000, -1])
def test_the_days_that_removed_entries_were_live(versions: Versions, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr("blocklistd.pipeline.counting.FEW", few)
    publish(versions, "a", one="A", two="A")
    publish(versions, "a", NOW + 2 * DAY, one="A", two="A", three="B", four="")
    publish(versions, "a", NOW + 5 * DAY, one="A", four="")
    count(versions)
    publish(versions, "a", NOW + 9 * DAY, two="A")
    publish(versions, "a", NOW + 20 * DAY, three="B")
    count(versions)
    with versions.database.read() as connection:
        rows = connection.execute(select(daily_figures).where(daily_figures.c.source == "a")).all()
        ages = connection.execute(select(lists.c.ages)).scalar_one()
    found = {(row.day[5:], row.category): row.lives for row in rows if row.lives}
    assert found == {
        ("11-25", ALL): {"5": 1, "3": 1},
        ("11-25", "A"): {"5": 1},
        ("11-25", "B"): {"3": 1},
        ("11-29", ALL): {"9": 1, "7": 1},
        ("11-29", "A"): {"9": 1},
        ("11-29", NONE): {"7": 1},
        ("12-10", ALL): {"11": 1},
        ("12-10", "A"): {"11": 1},
    }
    assert upkeep.sweep(versions.store, versions.database, young=-10) > 0
    assert versions.store.sealed.path(ages).exists()
    versions.store.sealed.path(ages).unlink()
    publish(versions, "a", NOW + 30 * DAY, one="A")
    count(versions)
    assert of(versions)["12-20"] == (1, 1, 1), "without its ages it is counted, and its life is not known"


@pytest.mark.parametrize("few", [2000, -1])
def test_since_when_sources_assert_their_entries(versions: Versions, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Asked after each version is counted, in a list without a lifetime."""
    monkeypatch.setattr("blocklistd.pipeline.counting.FEW", few)

    def since(name: str) -> dict[str, int]:
        """For each source that asserts it, the days after NOW."""
        files = versions.store.sealed
        with versions.database.read() as connection:
            (entry, *_) = [
                one for one in find_entry(files, connection, LIST, f"{name}.example") if one.type == "domain"
            ]
            found = asserted_since(files, connection, versions.state, entry, entry.accepted)
        return {source: (time - NOW).days for source, time in found.items()}

    publish(versions, "a", one="A", two="A")
    count(versions)
    assert (since("one"), since("two")) == ({"a": 0}, {"a": 0})
    publish(versions, "b", NOW + DAY, two="B", three="B")
    publish(versions, "a", NOW + 2 * DAY, one="A", two="A", three="A")
    count(versions)
    assert (since("one"), since("two"), since("three")) == ({"a": 0}, {"a": 0, "b": 1}, {"a": 2, "b": 1})
    publish(versions, "a", NOW + 3 * DAY, three="A")
    publish(versions, "a", NOW + 4 * DAY, one="A", three="A")
    count(versions)
    assert (since("one"), since("two"), since("three")) == ({"a": 4}, {"b": 1}, {"a": 2, "b": 1})
    upkeep.sweep(versions.store, versions.database, young=-10)
    assert since("one") == {"a": 4}, "its file is named"
    with versions.database.read() as connection:
        digest = connection.execute(select(source_ages.c.ages).where(source_ages.c.source == "a")).scalar_one()
    versions.store.sealed.path(digest).unlink()
    assert since("one") == {}, "it is lost: the time is not known"
    publish(versions, "a", NOW + 5 * DAY, one="A", three="A", four="A")
    count(versions)
    assert (since("one"), since("four"), since("three")) == ({}, {"a": 5}, {"b": 1})


def test_parts_have_the_same_keys_in_each_file() -> None:
    def lines(*names: int) -> bytes:
        return b"".join(sorted(Entry("domain", f"n{n}.example").line() + b"\n" for n in names))

    one, two = lines(*range(0, 100, 2)), lines(*range(0, 100, 3))
    parts = list(aligned_parts([one, two, b""], 300))
    assert len(parts) > 3
    assert [b"".join(file) for file in zip(*parts, strict=True)] == [one, two, b""]
    for part in parts:
        assert set(part[0].splitlines()).isdisjoint(
            line for other in parts if other is not part for line in other[1].splitlines()
        )

"""The versions of an entry, against the snapshots of all versions."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from blocklistd.model import Entry, Version
from blocklistd.store.entry_versions import EntryVersions, change_of, versions_of_entry
from blocklistd.store.schema import versions
from tests.versions_of import LIST, Versions

STEPS = (("a", "b"), ("a",), ("a", "b", "b!c"), ("b", "b!c"), ("b", "z"), ("a", "b"))


@pytest.fixture
def made(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    for names in STEPS:
        made.publish(made.seal(f"{name.replace('!', '-')}.example" for name in names))
    return made


def found(made: Versions, name: str) -> EntryVersions:
    key = Entry("domain", f"{name}.example").line()[:-1]
    with made.database.read() as connection:
        live = key in b"\n".join(line[: len(key)] for line in made.live.splitlines())
        return versions_of_entry(made.store.sealed, connection, LIST, key, is_live=live)


def shown(made: Versions, name: str) -> list[tuple[int | None, int | None]]:
    return [(one.added_in, one.removed_in) for one in found(made, name).intervals]


def test_the_intervals_are_those_of_the_snapshots(made: Versions) -> None:
    assert shown(made, "a") == [(1, 4), (6, None)]
    assert shown(made, "b") == [(1, 2), (3, None)]
    assert shown(made, "b-c") == [(3, 5)]
    assert shown(made, "z") == [(5, 6)]
    assert shown(made, "never") == []
    assert found(made, "a").known_from is None
    assert all(one.since is not None for one in found(made, "a").intervals)
    made.close()


def test_before_a_delta_that_is_not_kept_nothing_is_known(made: Versions) -> None:
    with made.database.write() as connection:
        connection.execute(update(versions).where(versions.c.version == 3).values(delta=None))
    assert shown(made, "b") == [(None, None)]
    assert shown(made, "a") == [(None, 4), (6, None)]
    assert shown(made, "z") == [(5, 6)]
    assert found(made, "z").known_from == Version(3)
    made.close()


def test_a_lost_file_is_as_a_delta_that_is_not_kept(made: Versions) -> None:
    with made.database.read() as connection:
        rows = dict(connection.execute(versions.select().with_only_columns(versions.c.version, versions.c.delta)).all())
    made.store.sealed.path(rows[5]).unlink()
    assert shown(made, "b") == [(None, None)]
    assert found(made, "b").known_from == Version(5)
    made.close()


def test_a_changed_entry_is_neither_added_nor_removed(tmp_path: Path) -> None:
    made = Versions(tmp_path)
    for ref in ("1", "2"):
        body = [f'{{"v":"a.example","r":"{ref}"}}', '{"v":"b.example"}']
        made.publish(made.seal(body, "ndjson", value="/v", ref="/r"))
    live = made.state.live
    assert live is not None
    assert live.delta is not None
    assert change_of(made.store.sealed, live.delta, Entry("domain", "a.example").line()[:-1]) == "changed"
    assert shown(made, "a") == [(1, None)]
    made.close()

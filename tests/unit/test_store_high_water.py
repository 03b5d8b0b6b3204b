"""The high-water file: the highest numbers that were ever served, outside the database; they only rise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete

from blocklistd.errors import BehindError, RefusedError, StoreError
from blocklistd.model import Version
from blocklistd.store.audit import NONE, Head
from blocklistd.store.high_water import HighestNumbers, HighWater, suspected_loss
from blocklistd.store.lists import list_state
from blocklistd.store.numbers import note_high_water, numbers, set_state_lost, start_above, start_above_number
from blocklistd.store.schema import versions as table
from blocklistd.telemetry import ActiveAlarms
from tests.versions_of import LIST, NOW, Versions

ROLES = {"targets": 3, "snapshot": 4, "timestamp": 9}


def show(file: HighWater, version: int, *, replaces: bool = True, **roles: int) -> None:
    file.record_list(LIST, "s", Version(version), ROLES | roles, replaces=replaces)


def test_numbers_are_in_the_file_before_they_are_served(tmp_path: Path) -> None:
    file = HighWater(tmp_path / "high-water")
    file.open()
    show(file, 2)
    file.record_zone("rpz.example", 7, replaces=True)
    assert json.loads((tmp_path / "high-water").read_bytes()) == {
        "lists": {LIST: {"session": "s", "version": 2, **ROLES}},
        "zones": {"rpz.example": 7},
    }
    again = HighWater(tmp_path / "high-water")
    again.open()
    assert again.highest_numbers == file.highest_numbers
    assert again.highest_numbers.highest == 9
    assert [path.name for path in tmp_path.iterdir()] == ["high-water"]


def test_a_lower_number_is_refused(tmp_path: Path) -> None:
    file = HighWater(tmp_path / "high-water")
    show(file, 2)
    file.record_zone("rpz.example", 7, replaces=False)
    with pytest.raises(BehindError, match="version 1 is behind 2"):
        show(file, 1, replaces=False)
    with pytest.raises(BehindError, match="timestamp 8 is behind 9"):
        show(file, 2, timestamp=8, replaces=False)
    with pytest.raises(BehindError, match="serial 6 is behind 7"):
        file.record_zone("rpz.example", 6, replaces=False)


def test_roles_of_a_new_session_are_kept_before_its_first_version(tmp_path: Path) -> None:
    """After start-above with a new database, a list is signed before its first pull makes a version."""
    file = HighWater(tmp_path / "high-water")
    show(file, 2)
    new = dict.fromkeys(ROLES, 101)
    for timestamp in (101, 102):
        file.record_list(LIST, "new", Version(0), new | {"timestamp": timestamp}, replaces=False)
        kept = {"session": "s", "version": 2, **new, "timestamp": timestamp}
        assert json.loads((tmp_path / "high-water").read_bytes())["lists"] == {LIST: kept}
    with pytest.raises(BehindError, match="timestamp 101 is behind 102"):
        file.record_list(LIST, "new", Version(0), new, replaces=False)
    with pytest.raises(BehindError, match="version 0 is behind 2"):
        file.record_list(LIST, "s", Version(0), new | {"timestamp": 103}, replaces=False)
    file.record_list(LIST, "new", Version(101), new | {"timestamp": 103}, replaces=True)
    assert file.highest_numbers.lists[LIST] == {"session": "new", "version": 101, **new, "timestamp": 103}


def test_only_new_versions_are_refused_while_the_file_can_not_be_written(tmp_path: Path) -> None:
    alarms = ActiveAlarms()
    file = HighWater(tmp_path / "missing" / "high-water", alarms)
    file.open()
    show(file, 2, replaces=False)
    assert "can't be written" in alarms.texts()[0]
    show(file, 2, timestamp=10, replaces=False)
    with pytest.raises(StoreError, match="missing/high-water"):
        show(file, 3, timestamp=11)
    assert file.highest_numbers.lists[LIST]["version"] == 2
    (tmp_path / "missing").mkdir()
    show(file, 3, timestamp=11)
    assert alarms.texts() == []


def test_new_versions_are_refused_at_a_start_while_the_file_can_not_be_written(tmp_path: Path) -> None:
    before = HighWater(tmp_path / "high-water")
    show(before, 2)
    before.record_zone("rpz.example", 7, replaces=False)
    (tmp_path / ".high-water.new").mkdir()
    file = HighWater(tmp_path / "high-water")
    file.open()
    with pytest.raises(StoreError):
        show(file, 3, replaces=False)
    with pytest.raises(StoreError):
        file.record_zone("rpz.example", 8, replaces=False)
    show(file, 2, timestamp=10, replaces=False)
    file.record_zone("rpz.example", 7, replaces=False)
    assert json.loads((tmp_path / "high-water").read_bytes()) == {
        "lists": {LIST: {"session": "s", "version": 2, **ROLES}},
        "zones": {"rpz.example": 7},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"lists":{},"zones":{"z":"7"}}',
        b'{"lists":{"l":{"version":true}},"zones":{}}',
        b'{"lists":{"l":{"version":-5}},"zones":{}}',
        b"\xff",
    ],
)
def test_a_damaged_file_is_renamed_and_a_new_one_begun(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "high-water").write_bytes(body)
    alarms = ActiveAlarms()
    file = HighWater(tmp_path / "high-water", alarms)
    file.open()
    assert file.highest_numbers == HighestNumbers()
    assert (tmp_path / "high-water.damaged").read_bytes() == body
    assert len(alarms.texts()) == 1


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    made = Versions(tmp_path)
    for number in range(3):
        made.publish(made.seal([f"n{number}.example"]))
    return made


def reported(versions: Versions, highest_numbers: HighestNumbers) -> str | None:
    with versions.database.read() as connection:
        return suspected_loss(connection, highest_numbers)


def test_a_database_older_than_the_served_numbers_is_reported(versions: Versions) -> None:
    assert reported(versions, HighestNumbers()) is None
    assert reported(versions, HighestNumbers({LIST: {"session": "s", "version": 3}}, {})) is None
    for highest_numbers in (
        HighestNumbers({LIST: {"session": "s", "version": 4}}, {}),
        HighestNumbers({LIST: {"session": "s", "version": 3, "timestamp": 1}}, {}),
        HighestNumbers({"another": {"session": "s", "version": 1}}, {}),
        HighestNumbers({}, {"rpz.example": 1}),
    ):
        assert "the database is older than the numbers that were served" in (reported(versions, highest_numbers) or "")
        assert "start-above N" in (reported(versions, highest_numbers) or "")
    with versions.database.read() as connection:
        assert suspected_loss(connection, HighestNumbers(), NONE) is None
        found = suspected_loss(connection, HighestNumbers(), Head(7, "ab" * 32))
    assert "the audit has line 3, and had 7" in (found or "")
    with versions.database.write() as connection:
        set_state_lost(connection)
    assert "the database is missing" in (reported(versions, HighestNumbers()) or "")
    versions.close()


@pytest.mark.parametrize("body", [None, b'{"lists":{},"zones":{}}'])
def test_a_missing_high_water_file_is_reported(versions: Versions, tmp_path: Path, body: bytes | None) -> None:
    path = tmp_path / "disk" / "high-water"
    path.parent.mkdir()
    if body is not None:
        path.write_bytes(body)

    def opened() -> HighWater:
        file = HighWater(path)
        file.open()
        return file

    def found(file: HighWater) -> str | None:
        with versions.database.read() as connection:
            return suspected_loss(connection, file.highest_numbers, None, file.missing)

    first = opened()
    assert first.missing == path
    assert first.written is None
    assert found(first) is None, "a first start, or one after an upgrade"
    show(first, 3)
    assert first.written == path
    with versions.database.write() as connection:
        note_high_water(connection, str(first.written))
    assert opened().missing is None
    path.unlink()
    text = found(opened())
    assert text is not None
    assert f"{path} is missing" in text
    assert "start-above N" in text
    with versions.database.write() as connection:
        start_above(connection, 1000, 0, NOW, "me")
    assert found(opened()) is None
    versions.close()


def test_start_above_begins_a_session_with_all_numbers_above(versions: Versions) -> None:
    highest_numbers = HighestNumbers({LIST: {"session": "s", "version": 40}}, {"rpz.example": 17})
    before, entries = versions.state, versions.live
    with versions.database.write() as connection:
        start_above(connection, 1000, highest_numbers.highest, NOW, "me")
    assert reported(versions, highest_numbers) is None
    state = versions.state
    assert state.version == 1001
    assert state.session != before.session
    assert versions.live == entries
    with versions.database.read() as connection:
        assert start_above_number(connection) == 1000
        assert numbers(connection).highest == 1001
    assert versions.publish(versions.seal(["another.example"])) == 1002
    versions.close()


def test_the_first_version_after_start_above_exceeds_the_number(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    with versions.database.write() as connection:
        set_state_lost(connection)
        start_above(connection, 1000, 0, NOW, "me")
    assert reported(versions, HighestNumbers()) is None
    assert versions.publish(versions.seal(["a.example"])) == 1001
    versions.close()


@pytest.mark.parametrize(("number", "known"), [(2, 0), (39, 40)])
def test_start_above_refuses_a_number_that_is_too_low(versions: Versions, number: int, known: int) -> None:
    def begin(connection: Connection) -> None:
        start_above(connection, number, known, NOW, "me")

    with pytest.raises(RefusedError, match="at least"), versions.database.write() as connection:
        begin(connection)
    assert versions.state.version == 3
    versions.close()


@pytest.mark.parametrize(
    ("shown", "most"), [([], 2**31 - 2), ([2], 2**31), ([9, 2], 2**31), ([2**32 + 5], 2**32 + 2**31 + 3)]
)
def test_start_above_refuses_a_number_too_high_for_secondaries(tmp_path: Path, shown: list[int], most: int) -> None:
    """Without the database, serials are known from the high-water file; without both, a zone may have had serial 0."""
    versions = Versions(tmp_path)
    with pytest.raises(RefusedError, match=f"at most {most}:"), versions.database.write() as connection:
        start_above(connection, most + 1, max(shown, default=0), NOW, "me", shown)
    with versions.database.write() as connection:
        start_above(connection, most, 0, NOW, "me", shown)
    versions.close()


def test_a_list_without_rows_has_no_numbers(versions: Versions) -> None:
    with versions.database.write() as connection:
        connection.execute(delete(table))
        assert list_state(connection, LIST).live is None
        assert numbers(connection).lists == {LIST: {}}
    versions.close()

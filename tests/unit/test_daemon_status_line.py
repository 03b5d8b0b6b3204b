"""The line for `systemctl status`: versions, what is held, alarms; one short line."""

from __future__ import annotations

from blocklistd.daemon.status_line import LENGTH, LISTS, status_line
from blocklistd.model import ListId


def test_it_names_versions_held_candidates_and_alarms() -> None:
    versions = {ListId("national"): 42, ListId("europe"): 7, ListId("new"): 0}
    assert status_line(versions, {}, 0) == "serving national 42, europe 7, new without a version"
    held = {ListId("national"): 2, ListId("europe"): 1}
    assert status_line(versions, held, 1).endswith(
        "; held: 2 of national, 1 of europe; 1 alarm: run `blocklistd status`"
    )
    assert status_line({}, {}, 3) == "serving no list; 3 alarms: run `blocklistd status`"


def test_it_stays_short() -> None:
    versions = {ListId(f"{'x' * 29}-{number:02}"): 10**9 for number in range(30)}
    line = status_line(versions, dict.fromkeys(versions, 100_000), 5)
    assert len(line) <= LENGTH
    assert f"{30 - LISTS} more" in line
    assert "\n" not in line

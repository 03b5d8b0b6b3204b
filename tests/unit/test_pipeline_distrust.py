"""The offer that is restored when a key is distrusted: whatever happens, only a person releases the change it makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.errors import DistrustedError
from blocklistd.model import Act, Outcome, Sha256, SourceId
from blocklistd.store.distrust import (
    AcceptedBody,
    DistrustedKey,
    Restored,
    distrust,
    distrusted_keys,
    is_distrusted,
    refuse_distrusted,
    restore_offer,
)
from blocklistd.store.pulls import accept_body
from tests.unit.test_pipeline_release import FIFTY, HUNDRED, Scene
from tests.versions_of import LIST, NOW, report

KEY, OTHER = Sha256("a" * 64), Sha256("b" * 64)
FIRST = SourceId("first")
FORGED = ("forged0.example", "forged1.example")
HOUR = timedelta(hours=1)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.versions.close()


def restore(scene: Scene, *names: str) -> None:
    """The transaction of the command, without the offer to the lists that follows: as if the daemon was killed."""
    made = replace(report(scene.versions.seal(sorted(names))), key=KEY)
    restored = Restored(KEY, "2026-11-20T11:00:00Z", "2026-11-20T10:00:00Z")
    with scene.versions.database.write() as connection:
        restore_offer(connection, FIRST, made, scene.sources["first"].settings, restored, NOW)


def guards(scene: Scene) -> list[list[str]]:
    return [[reason.guard for reason in case.candidate.reasons] for case in scene.held]


async def published(scene: Scene, *names: str) -> None:
    scene.store_offer("second", *FIFTY)
    assert (await scene.pull("first", *names)).outcome is Outcome.PUBLISHED


async def test_a_start_after_a_kill_holds_the_change(scene: Scene) -> None:
    await published(scene, *HUNDRED, *FORGED)
    restore(scene, *HUNDRED)
    assert scene.held == []
    for _ in range(2):  # starts and reloads
        await scene.configure()
        assert guards(scene) == [["distrust"]]
        assert scene.version == 1
    (case,) = scene.held
    assert (case.candidate.added, case.candidate.removed) == (0, 2)
    await scene.approve(case.candidate.id)
    assert scene.live == {*HUNDRED, *FIFTY}
    await scene.configure()
    assert (scene.version, scene.held) == (2, [])


async def test_another_source_goes_on_while_the_change_is_held(scene: Scene) -> None:
    await published(scene, *HUNDRED, *FORGED)
    restore(scene, *HUNDRED)
    held = await scene.releases.offer(LIST, FIRST)
    assert held.outcome is Outcome.HELD
    assert (await scene.pull("second", *FIFTY, "another.example")).outcome is Outcome.PUBLISHED
    assert scene.live == {*HUNDRED, *FORGED, *FIFTY, "another.example"}, "the forged ones stay until it is decided"
    assert (await scene.releases.offer(LIST, FIRST)).outcome is Outcome.HELD, "a pull that is answered 304"
    assert guards(scene) == [["distrust"]]
    (case,) = scene.held
    await scene.approve(case.candidate.id)
    assert scene.live == {*HUNDRED, *FIFTY, "another.example"}


async def test_entries_that_another_source_asserts_stay(scene: Scene) -> None:
    scene.store_offer("second", *FIFTY, *FORGED)
    await scene.pull("first", *HUNDRED, *FORGED)
    restore(scene, *HUNDRED)
    assert (await scene.releases.offer(LIST, FIRST)).outcome is Outcome.UNCHANGED
    assert scene.live == {*HUNDRED, *FIFTY, *FORGED}


async def test_a_held_body_of_the_key_can_not_be_approved_any_more(scene: Scene) -> None:
    await published(scene, *HUNDRED)
    held = await scene.pull("first", *HUNDRED, *(f"forged{number}.example" for number in range(90)))
    assert held.outcome is Outcome.HELD
    restore(scene, *HUNDRED)
    assert scene.case(held.candidate).state == "superseded"
    assert (await scene.releases.offer(LIST, FIRST)).outcome is Outcome.UNCHANGED


async def test_a_held_first_version_with_such_entries_is_held_again_without_them(scene: Scene) -> None:
    await scene.configure(release="review")
    scene.store_offer("first", *HUNDRED, *FORGED)
    held = await scene.pull("second", *FIFTY)
    assert held.outcome is Outcome.HELD
    restore(scene, *HUNDRED)
    assert scene.case(held.candidate).state == "superseded"
    found = await scene.releases.offer(LIST, FIRST)
    assert guards(scene) == [["distrust", "release"]]
    await scene.approve(found.candidate)
    assert scene.live == {*HUNDRED, *FIFTY}


async def test_the_next_accepted_body_is_judged_by_the_guards_alone(scene: Scene) -> None:
    await published(scene, *HUNDRED, *FORGED)
    restore(scene, *HUNDRED)
    await scene.releases.offer(LIST, FIRST)
    assert (await scene.pull("first", *HUNDRED, "new.example")).outcome is Outcome.PUBLISHED
    assert scene.live == {*HUNDRED, *FIFTY, "new.example"}
    assert scene.held == []


async def test_a_removal_above_a_limit_stays_held_when_a_trusted_key_repeats_it(scene: Scene) -> None:
    forged = [f"forged{number}.example" for number in range(30)]
    await published(scene, *HUNDRED, *forged)
    restore(scene, *HUNDRED)
    await scene.releases.offer(LIST, FIRST)
    assert guards(scene) == [["distrust", "max_removed"]]
    assert (await scene.pull("first", *HUNDRED)).outcome is Outcome.HELD
    assert guards(scene) == [["max_removed"]]


def test_a_distrusted_key_stays_so_with_the_earliest_time(scene: Scene) -> None:
    act = Act("source distrust", "alice", 1000)
    with scene.versions.database.write() as connection:
        for since in (NOW - HOUR, NOW - 2 * HOUR, NOW):
            distrust(connection, FIRST, KEY, since, act, "stolen", NOW)
        accept_body(connection, FIRST, report(Sha256("0" * 64)), "settings")
    with scene.versions.database.read() as connection:
        found = distrusted_keys(connection, FIRST)
        assert distrusted_keys(connection, SourceId("second")) == {}
    assert found == {KEY: DistrustedKey(KEY, NOW - 2 * HOUR, NOW, "alice", "stolen")}
    with pytest.raises(DistrustedError, match="signed by the key aaaaaaaaaaaaaaaa, which is distrusted since 2026"):
        refuse_distrusted(found, KEY)
    refuse_distrusted(found, OTHER)
    refuse_distrusted(found, None)


@pytest.mark.parametrize(
    ("signature", "key", "minutes", "distrusted"),
    [
        (Sha256("1" * 64), KEY, 0, True),
        (Sha256("1" * 64), KEY, -1, False),
        (Sha256("1" * 64), OTHER, 10, False),
        (Sha256("1" * 64), None, 10, True),
        (None, KEY, 10, False),
    ],
)
def test_bodies_that_the_key_signed_since_then_are_distrusted(
    signature: Sha256 | None, key: Sha256 | None, minutes: int, distrusted: bool
) -> None:
    made = replace(report(Sha256("0" * 64)), signature=signature, key=key)
    body = AcceptedBody(NOW + timedelta(minutes=minutes), made, Outcome.PUBLISHED)
    assert is_distrusted(body, [DistrustedKey(KEY, NOW, NOW, "alice", "stolen")]) == distrusted

"""A feed and its mirrors: a mirror that is stale or hostile never wins over one that is better."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.errors import SyncError
from tests.sim.feed import TOKEN, Answer, FeedSimulator, on
from tests.unit.test_client_sync import Scene


class Mirrored(Scene):
    """A publisher, and mirrors that hold copies of what it had when they were filled."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.mirrors = [FeedSimulator() for _ in range(2)]
        (folder / "mirror-token").write_text(TOKEN)

    def fill(self, number: int) -> None:
        mirror = self.mirrors[number]
        mirror.metadata, mirror.snapshots = dict(self.feed.metadata), dict(self.feed.snapshots)
        mirror.version, mirror.session = self.feed.version, self.feed.session

    def sync_with_mirrors(self, *numbers: int) -> object:
        urls = tuple(self.mirrors[number].url for number in numbers)
        return self.sync(mirrors=urls, mirror_token_file=self.folder / "mirror-token").version

    def go_down(self) -> None:
        self.feed.change = lambda path, answer: Answer(503)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Mirrored]:
    scene = Mirrored(tmp_path)
    scene.feed.publish("a.example")
    yield scene
    for server in (scene.feed, *scene.mirrors):
        server.close()


def test_the_publisher_is_asked_first_and_alone_if_it_answers(scene: Mirrored) -> None:
    scene.fill(0)
    scene.feed.publish("b.example")
    assert scene.sync_with_mirrors(0) == 2
    assert not scene.mirrors[0].paths
    assert not scene.said


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_newest_of_the_mirrors_wins_whatever_their_order(scene: Mirrored, order: tuple[int, int]) -> None:
    scene.fill(0)
    scene.feed.publish("a.example", "b.example")
    scene.fill(1)
    scene.go_down()
    assert scene.sync_with_mirrors(*order) == 2
    assert scene.here == scene.feed.live
    assert "answered 503" in scene.said[0]
    assert scene.said[0].endswith("asking the mirrors")


def test_a_mirror_that_is_older_than_the_copy_changes_nothing(scene: Mirrored) -> None:
    scene.fill(0)
    scene.feed.publish("a.example", "b.example")
    scene.sync()
    before = scene.here
    scene.go_down()
    with pytest.raises(SyncError, match="answered 503"):
        scene.sync_with_mirrors(0)
    assert scene.here == before
    assert scene.said[1].startswith("mirror http")
    assert "can't be verified" in scene.said[1]


def test_a_hostile_mirror_costs_time_only(scene: Mirrored) -> None:
    """It has the newest metadata, which is public, and other bytes; the next one has both."""
    for number in (1, 0):
        scene.fill(number)
    scene.mirrors[0].change = on("/targets/", body=b"evil\n" * 1000, headers={})
    scene.go_down()
    assert scene.sync_with_mirrors(0, 1) == 1
    assert scene.here == scene.feed.live


def test_expired_and_foreign_mirrors_are_passed_over(scene: Mirrored) -> None:
    scene.fill(1)
    stranger = scene.mirrors[0]
    stranger.expires = timedelta(days=300)
    for _ in range(9):
        stranger.publish("evil.example")
    scene.feed.expires = timedelta(seconds=-1)
    scene.feed.sign()
    assert scene.sync_with_mirrors(0, 1) == 1
    assert "expired" in scene.said[0]
    assert "can't be verified" in scene.said[1]


def test_without_any_answer_the_publishers_error_counts(scene: Mirrored) -> None:
    scene.go_down()
    for mirror in scene.mirrors:
        mirror.change = lambda path, answer: Answer(404)
    with pytest.raises(SyncError, match="answered 503"):
        scene.sync_with_mirrors(0, 1)
    assert len(scene.said) == 3


def test_a_diff_that_only_a_mirror_has_is_taken_from_it(scene: Mirrored) -> None:
    scene.sync()
    scene.feed.publish("a.example", "b.example")
    scene.fill(0)
    scene.feed.change = on("/diffs/", status=503, body=b"")
    scene.sync_with_mirrors(0)
    assert "/diffs/1-2" in scene.mirrors[0].paths
    assert scene.here == scene.feed.live


def test_a_watch_goes_on_with_mirrors_while_the_publisher_is_away(
    scene: Mirrored, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blocklistd.client import watch as module

    monkeypatch.setattr(module, "CLIENT_BACKOFF_MAX", 0.5)
    mirrors = {"mirrors": (scene.mirrors[0].url,), "mirror_token_file": scene.folder / "mirror-token"}
    with scene.watching(**mirrors) as watched:
        watched.until(lambda: watched.results)
        scene.feed.publish("b.example")
        scene.fill(0)
        scene.go_down()
        watched.until(lambda: len(watched.results) == 2)
    assert watched.is_fresh, "the mirror is good enough"
    assert scene.here == scene.feed.live
    assert len(watched.said) == len(set(watched.said)), "nothing is said twice"

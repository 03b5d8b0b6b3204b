"""Downloads that are cut go on where they stopped, from any feed, and are verified as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocklistd.client import download as module
from blocklistd.errors import SyncError
from tests.sim.feed import Answer, FeedSimulator, on
from tests.unit.test_client_mirrors import Mirrored

NAMES = [f"n{number}.example" for number in range(3000)]
ENOUGH = 20_000  # bytes


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrored]:
    monkeypatch.setattr(module, "CLIENT_RESUME_MIN", 10_000)
    scene = Mirrored(tmp_path)
    scene.feed.publish(*NAMES)
    yield scene
    for server in (scene.feed, *scene.mirrors):
        server.close()


def cut(feed: FeedSimulator, after: int, times: int = 1) -> None:
    """Sends the snapshot uncompressed, and closes the connection after so many bytes, so many times."""
    left = times

    def change(path: str, answer: Answer) -> Answer:
        nonlocal left
        if "/targets/" not in path or left == 0:
            return answer
        left -= 1
        body = feed.live if answer.status == 200 else answer.body
        headers = {} if answer.status == 200 else answer.headers
        return Answer(answer.status, body, headers, cut=after)

    feed.change = change


def parts(scene: Mirrored) -> list[int]:
    return [path.stat().st_size for path in scene.dir.glob(".part-*")]


def test_a_download_goes_on_in_the_same_sync(scene: Mirrored) -> None:
    cut(scene.feed, ENOUGH, times=3)
    assert scene.sync().how == "snapshot"
    assert scene.here == scene.feed.live
    assert scene.feed.ranges == [ENOUGH, 2 * ENOUGH, 3 * ENOUGH]
    assert not parts(scene)


def test_a_download_goes_on_in_the_next_sync(scene: Mirrored) -> None:
    cut(scene.feed, 5_000, times=99)
    with pytest.raises(SyncError, match="cut short"):
        scene.sync()
    cut(scene.feed, ENOUGH)
    scene.feed.ranges.clear()
    lie = scene.feed.change
    scene.feed.change = lambda path, answer: Answer(503) if answer.status == 206 else lie(path, answer)
    with pytest.raises(SyncError, match="503"):
        scene.sync()
    assert parts(scene) == [ENOUGH]
    scene.feed.change = lambda path, answer: answer
    assert scene.sync().bytes < len(scene.feed.live) - ENOUGH + 10_000
    assert scene.here == scene.feed.live
    assert scene.feed.ranges == [ENOUGH, ENOUGH]


def test_a_download_that_was_cut_for_ever_ends(scene: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENT_RESUMES", 3)
    cut(scene.feed, ENOUGH, times=99)
    with pytest.raises(SyncError, match="cut short 3 times"):
        scene.sync()
    assert parts(scene) == [3 * ENOUGH]


def test_a_part_that_another_server_forged_is_thrown_away(scene: Mirrored) -> None:
    """A hostile mirror sends a first part of other bytes; the honest rest makes a wrong whole, and is not blamed."""
    cut(scene.feed, ENOUGH)
    lie = scene.feed.change
    scene.feed.change = lambda path, answer: Answer(503) if answer.status == 206 else lie(path, answer)
    with pytest.raises(SyncError):
        scene.sync()
    (part,) = scene.dir.glob(".part-*")
    part.write_bytes(part.read_bytes().replace(b"n1.example", b"m1.example"))
    scene.feed.change = lambda path, answer: answer
    assert scene.sync().how == "snapshot"
    assert scene.here == scene.feed.live


def test_a_download_goes_on_at_a_mirror(scene: Mirrored) -> None:
    scene.fill(0)
    cut(scene.feed, ENOUGH)
    lie = scene.feed.change
    scene.feed.change = lambda path, answer: Answer(503) if answer.status == 206 else lie(path, answer)
    assert scene.sync_with_mirrors(0) == 1
    assert scene.mirrors[0].ranges == [ENOUGH]
    assert scene.here == scene.feed.live


@pytest.mark.parametrize("lie", [{"Content-Range": "bytes 0-9/10"}, {}], ids=["other", "none"])
def test_another_range_than_the_requested_one_is_not_appended(scene: Mirrored, lie: dict[str, str]) -> None:
    cut(scene.feed, ENOUGH)
    first = scene.feed.change
    wrong = on("/targets/", headers=lie)
    scene.feed.change = lambda path, answer: first(path, wrong(path, answer) if answer.status == 206 else answer)
    assert scene.sync().how == "snapshot", "from its beginning"
    assert scene.here == scene.feed.live


def test_a_server_without_ranges_sends_it_all(scene: Mirrored) -> None:
    cut(scene.feed, ENOUGH)
    first = scene.feed.change
    scene.feed.change = lambda path, answer: (
        Answer(200, scene.feed.live) if answer.status == 206 else first(path, answer)
    )
    assert scene.sync().how == "snapshot"
    assert scene.here == scene.feed.live


def test_the_part_of_another_version_is_deleted(scene: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENT_RESUMES", 1)
    cut(scene.feed, ENOUGH, times=99)
    with pytest.raises(SyncError):
        scene.sync()
    assert len(parts(scene)) == 1
    scene.feed.change = lambda path, answer: answer
    scene.feed.publish("a.example")
    scene.sync()
    assert not parts(scene)


def test_a_complete_part_needs_no_request(scene: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sync was killed before the rename."""
    scene.dir.mkdir()
    (scene.dir / f".part-{scene.feed.sha256}").write_bytes(scene.feed.live)
    scene.sync()
    assert scene.here == scene.feed.live
    assert not [path for path in scene.feed.paths if "/targets/" in path]


def test_progress_is_reported_to_its_end(scene: Mirrored) -> None:
    from blocklistd.client.sync import sync_once

    shown: list[tuple[int, int]] = []
    cut(scene.feed, ENOUGH)
    sync_once(scene.options, scene.said.append, progress=lambda here, length: shown.append((here, length)))
    assert shown[-1] == (len(scene.feed.live), len(scene.feed.live))
    assert shown == sorted(shown)

"""Receipts of the client: one for each version and outcome, sent until the publisher has taken it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from blocklistd.client import watch as module
from blocklistd.errors import SyncError
from tests.sim.feed import Answer
from tests.unit.test_client_sync import Scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    scene.feed.publish("a.example", "b.example")
    scene.feed.receipt_status = 204
    yield scene
    scene.feed.close()


def sent(scene: Scene) -> list[tuple[object, ...]]:
    """(version, state, reason, probe) of the receipts that arrived since the last call."""
    found: list[tuple[object, ...]] = [
        (one["version"], one["state"], one["reason"], one["probe"]) for one in scene.feed.receipts
    ]
    scene.feed.receipts.clear()
    return found


def test_a_receipt_says_what_is_applied_once(scene: Scene) -> None:
    scene.sync(node="node-1")
    (receipt,) = scene.feed.receipts
    assert set(receipt) == {"session", "version", "node", "state", "reason", "applied_at", "probe"}
    assert (receipt["session"], receipt["node"]) == (scene.feed.session, "node-1")
    applied_at, verified = map(datetime.fromisoformat, (receipt["applied_at"], scene.state["verified"]))
    assert timedelta(0) <= applied_at - verified < timedelta(minutes=1)
    assert "." in receipt["applied_at"]
    assert sent(scene) == [(1, "applied", None, None)]
    scene.sync(node="node-1")
    assert sent(scene) == []
    scene.feed.publish("a.example")
    scene.sync()
    assert scene.feed.receipts[0]["node"] == socket.gethostname()
    assert sent(scene) == [(2, "applied", None, None)]


def test_a_receipt_follows_exec(scene: Scene) -> None:
    with pytest.raises(SyncError):
        scene.sync(exec="exit 7")
    assert sent(scene) == [(1, "failed", "--exec ended with 7", None)]
    with pytest.raises(SyncError):
        scene.sync(exec="exit 7")
    assert sent(scene) == [], "said already"
    scene.sync()
    assert sent(scene)[0][1] == "failed", "a sync without --exec applies nothing"
    scene.sync(exec="true")
    assert sent(scene) == [(1, "applied", None, None)]


def test_a_format_that_omits_entries_makes_it_partial(scene: Scene) -> None:
    scene.sync(format="rpz")
    assert sent(scene) == [(1, "applied", None, None)]
    scene.sync(format="hosts")
    assert sent(scene) == [(1, "partial", "2 of 2 entries can't be expressed in hosts", None)]
    scene.sync(format="hosts")
    assert sent(scene) == []


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_receipt_is_sent_again_until_it_is_taken(scene: Scene, status: int) -> None:
    scene.feed.receipt_status = status
    scene.sync()
    assert f"answered {status}" in scene.said[0]
    assert "the receipt for version 1 was not taken: the next sync sends it again" in scene.said[0]
    scene.feed.receipt_status = 204
    applied_at = scene.feed.receipts.pop()["applied_at"]
    assert scene.sync().how == "unchanged"
    (receipt,) = scene.feed.receipts
    assert receipt["applied_at"] == applied_at, "the same receipt"
    scene.feed.receipts.clear()
    scene.sync()
    assert sent(scene) == []


@pytest.mark.parametrize("status", [404, 405])
def test_a_feed_without_receipts_is_no_error(scene: Scene, status: int) -> None:
    scene.feed.receipt_status = status
    scene.sync()
    scene.sync()
    assert len(sent(scene)) == 1
    assert scene.said == []


def test_a_refused_receipt_is_not_repeated(scene: Scene) -> None:
    scene.feed.receipt_status = 409
    scene.sync()
    scene.sync()
    assert len(sent(scene)) == 1
    assert "refused the receipt for version 1 with 409" in scene.said[0]


def test_no_receipt_is_sent_if_none_is_requested(scene: Scene) -> None:
    scene.sync(receipts=False)
    assert sent(scene) == []
    assert scene.state["receipt"] is None


def test_a_watch_sends_it_again_soon(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLIENT_RECEIPT_RETRY", 0.0)
    scene.feed.receipt_status = 503
    with scene.watching() as watched:
        watched.until(lambda: watched.said)
        scene.feed.receipt_status = 204
        with scene.feed.changed:
            assert scene.feed.changed.wait_for(lambda: len(scene.feed.receipts) >= 2, timeout=20)
    assert scene.sync().how == "unchanged"


def test_a_wrong_name_of_a_node_is_an_error(scene: Scene) -> None:
    with pytest.raises(SyncError, match="--node 'a b': expected 1 to 64 letters"):
        scene.sync(node="a b")


def test_a_receipt_is_no_reason_to_wait_for_a_dead_feed(scene: Scene) -> None:
    """The version came from a mirror."""
    scene.sync()
    scene.feed.change = lambda path, answer: Answer(503)
    with pytest.raises(SyncError, match="503"):
        scene.sync()
    assert len(sent(scene)) == 1

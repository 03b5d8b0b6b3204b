"""Metadata that the client accepts: signed, for this list, not older than the metadata that it has, not expired."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.client import feed as feed_module
from blocklistd.client.connections import FeedAccess
from blocklistd.client.feed import FeedClient
from blocklistd.client.trust import SignedVersion, signed_version
from blocklistd.errors import SyncError
from tests.sim.feed import LIST, TOKEN, Answer, FeedSimulator, on


class Client:
    def __init__(self, simulator: FeedSimulator, folder: Path) -> None:
        self.simulator = simulator
        self.folder = folder

    def look(self, list_name: str = LIST, token: str = TOKEN, root: bytes | None = None) -> SignedVersion | None:
        feed = FeedClient(self.simulator.url, list_name, FeedAccess(token))
        try:
            return signed_version(feed, list_name, root or self.simulator.root, self.folder)
        finally:
            feed.close()


@pytest.fixture
def simulator() -> Iterator[FeedSimulator]:
    simulator = FeedSimulator()
    yield simulator
    simulator.close()


@pytest.fixture
def client(simulator: FeedSimulator, tmp_path: Path) -> Client:
    return Client(simulator, tmp_path / "metadata")


def test_the_signed_version_is_returned(simulator: FeedSimulator, client: Client) -> None:
    assert client.look() is None, "no version yet"
    simulator.publish("a.example", "b.example")
    expected = SignedVersion(LIST, simulator.session, 1, 2, len(simulator.live), simulator.sha256)
    assert client.look() == expected
    simulator.sign()
    assert client.look() == expected, "signing again is no new version"


def test_recorded_metadata_is_refused(simulator: FeedSimulator, client: Client) -> None:
    simulator.publish("a.example")
    recorded = dict(simulator.metadata)
    simulator.publish("b.example")
    newest = client.look()
    simulator.metadata = recorded
    with pytest.raises(SyncError, match="can't be verified"):
        client.look()
    simulator.sign()
    again = client.look()
    assert again == newest, "the publisher's counters go on"


def test_expired_metadata_is_refused(simulator: FeedSimulator, client: Client) -> None:
    simulator.expires = timedelta(seconds=-1)
    simulator.publish("a.example")
    with pytest.raises(SyncError, match=r"expired.*, by the clock of this host: 20.*the local version stays in place"):
        client.look()


def test_another_lists_metadata_is_refused(simulator: FeedSimulator, client: Client) -> None:
    simulator.signed_list = "other"
    simulator.publish("a.example")
    with pytest.raises(SyncError, match="signed for another list than national"):
        client.look()


@pytest.mark.parametrize(
    "custom", [{"list": "other"}, {"list": None}, {"session": "", "list": "other"}], ids=["other", "none", "both"]
)
def test_a_target_with_another_lists_name_is_refused(
    simulator: FeedSimulator, client: Client, custom: dict[str, object]
) -> None:
    simulator.custom = custom
    simulator.publish("a.example")
    with pytest.raises(SyncError, match="signed for another list than national"):
        client.look()


@pytest.mark.parametrize("custom", [{"version": None}, {"version": "x"}, {"entries": []}])
def test_a_target_without_its_fields_is_refused(
    simulator: FeedSimulator, client: Client, custom: dict[str, object]
) -> None:
    simulator.custom = custom
    simulator.publish("a.example")
    with pytest.raises(SyncError, match="does not contain its list, session and version"):
        client.look()


def test_metadata_of_another_root_is_refused(simulator: FeedSimulator, client: Client, tmp_path: Path) -> None:
    simulator.publish("a.example")
    stranger = FeedSimulator()
    stranger.close()
    with pytest.raises(SyncError, match="can't be verified"):
        client.look(root=stranger.root)
    for wrong in (b"nonsense", simulator.metadata["timestamp.json"]):
        with pytest.raises(SyncError, match=r"--root: the trusted root can't be verified: .*: expected the root\.json"):
            Client(simulator, tmp_path / "other").look(root=wrong)


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
def test_changed_metadata_is_refused(simulator: FeedSimulator, client: Client, name: str) -> None:
    simulator.publish("a.example")
    simulator.change = on(name, body=b'{"signatures":[],"signed":{}}')
    with pytest.raises(SyncError, match="can't be verified"):
        client.look()


def test_endless_metadata_is_refused(simulator: FeedSimulator, client: Client) -> None:
    simulator.change = on("timestamp.json", body=b" " * 1_000_000)
    with pytest.raises(SyncError, match=r"[Dd]ownload"):
        client.look()


def test_slow_metadata_is_refused(simulator: FeedSimulator, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "CLIENT_METADATA", 0.2)
    simulator.change = on("timestamp.json", slow=True)
    with pytest.raises(SyncError, match=r"did not end within 0\.2 s"):
        client.look()


@pytest.mark.parametrize("foreign", ["metadata", "custom"])
def test_one_wrong_answer_does_not_block_the_right_ones(simulator: FeedSimulator, client: Client, foreign: str) -> None:
    """A proxy returns another list's metadata once, with much higher version numbers."""
    simulator.publish("a.example")
    ours = client.look()
    right = dict(simulator.metadata)
    if foreign == "metadata":
        simulator.signed_list = "other"
    else:
        simulator.custom = {"list": "other"}
    for number in range(5):
        simulator.publish(f"{number}.example")
    with pytest.raises(SyncError, match="another list than national"):
        client.look()
    simulator.metadata = right
    assert client.look() == ours


@pytest.mark.parametrize("killed_at", [1, 2])
def test_a_sync_that_is_killed_between_renames_loses_no_metadata(
    simulator: FeedSimulator, client: Client, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator.publish("a.example")
    recorded = dict(simulator.metadata)
    client.look()
    simulator.publish("b.example")
    newest = client.look()
    steps = 0
    rename = Path.rename

    def stopped(path: Path, to: Path) -> Path:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            client.look()
    newer, simulator.metadata = simulator.metadata, recorded
    with pytest.raises(SyncError, match="can't be verified"):
        client.look()  # what was accepted is still known
    simulator.metadata = newer
    assert client.look() == newest
    assert sorted(path.name for path in client.folder.parent.glob("metadata*")) == ["metadata"]


def test_incomplete_metadata_is_refused(simulator: FeedSimulator, client: Client) -> None:
    """The answer ends while python-tuf reads it."""
    simulator.change = on("timestamp.json", cut=20)
    with pytest.raises(SyncError, match="cut short"):
        client.look()


def test_error_statuses_are_sync_errors(simulator: FeedSimulator, client: Client) -> None:
    with pytest.raises(SyncError, match="401: the token"):
        client.look(token="wrong")
    with pytest.raises(SyncError, match="404: there is no such list"):
        client.look(list_name="unknown")


def test_a_folder_that_cant_be_created_is_an_error(simulator: FeedSimulator, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SyncError, match="file"):
        Client(simulator, tmp_path / "file" / "metadata").look()


def test_a_root_that_is_published_between_two_requests_is_followed(simulator: FeedSimulator, client: Client) -> None:
    """The next root is asked for just before the online key changes, and the timestamp just after."""
    simulator.publish("a.example")
    client.look()
    asked: list[str] = []

    def rotating(path: str, answer: Answer) -> Answer:
        asked.append(path.rpartition("/")[2])
        if asked == ["2.root.json"]:
            simulator.rotate_root(online=True)
            simulator.sign()
        return answer

    simulator.change = rotating
    signed = client.look()
    assert signed is not None
    assert signed.version == 1
    assert asked[:5] == ["2.root.json", "timestamp.json", "2.root.json", "3.root.json", "timestamp.json"]


def test_metadata_that_stays_unsigned_is_asked_for_twice_only(simulator: FeedSimulator, client: Client) -> None:
    simulator.publish("a.example")
    client.look()
    simulator.paths.clear()
    simulator.change = on("timestamp.json", body=unsigned(simulator.metadata["timestamp.json"]))
    with pytest.raises(SyncError, match="can't be verified"):
        client.look()
    assert simulator.paths == ["/metadata/2.root.json", "/metadata/timestamp.json"] * 2


def unsigned(metadata: bytes) -> bytes:
    """Metadata without its signatures."""
    return json.dumps(json.loads(metadata) | {"signatures": []}).encode()

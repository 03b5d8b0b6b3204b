"""What the client believes: only what is signed, for this list, newer than what it has seen, and not expired."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from blocklistd.client import feed as feed_module
from blocklistd.client.feed import Feed
from blocklistd.client.trust import Signed, signed_version
from blocklistd.errors import SyncError
from tests.sim.feed import LIST, TOKEN, FeedSimulator, on


class Client:
    def __init__(self, simulator: FeedSimulator, folder: Path) -> None:
        self.simulator = simulator
        self.folder = folder

    def look(self, list_name: str = LIST, token: str = TOKEN, root: bytes | None = None) -> Signed | None:
        feed = Feed(self.simulator.url, list_name, token, None)
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


def test_what_is_signed(simulator: FeedSimulator, client: Client) -> None:
    assert client.look() is None, "no version yet"
    simulator.publish("a.example", "b.example")
    expected = Signed(LIST, simulator.session, 1, 2, len(simulator.live), simulator.sha256)
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


def test_expired_metadata(simulator: FeedSimulator, client: Client) -> None:
    simulator.expires = timedelta(seconds=-1)
    simulator.publish("a.example")
    with pytest.raises(SyncError, match=r"expired.*, by the clock of this host: 20.*what is here stays in"):
        client.look()


def test_another_lists_metadata_under_this_address(simulator: FeedSimulator, client: Client) -> None:
    simulator.signed_list = "other"
    simulator.publish("a.example")
    with pytest.raises(SyncError, match="signed for another list than national"):
        client.look()


@pytest.mark.parametrize(
    "custom", [{"list": "other"}, {"list": None}, {"session": "", "list": "other"}], ids=["other", "none", "both"]
)
def test_a_target_that_says_it_is_another_lists(
    simulator: FeedSimulator, client: Client, custom: dict[str, object]
) -> None:
    simulator.custom = custom
    simulator.publish("a.example")
    with pytest.raises(SyncError, match="signed for another list than national"):
        client.look()


@pytest.mark.parametrize("custom", [{"version": None}, {"version": "x"}, {"entries": []}])
def test_a_target_that_does_not_say_what_it_is(
    simulator: FeedSimulator, client: Client, custom: dict[str, object]
) -> None:
    simulator.custom = custom
    simulator.publish("a.example")
    with pytest.raises(SyncError, match="does not say its list, session and version"):
        client.look()


def test_another_root(simulator: FeedSimulator, client: Client, tmp_path: Path) -> None:
    simulator.publish("a.example")
    stranger = FeedSimulator()
    stranger.close()
    with pytest.raises(SyncError, match="can't be verified"):
        client.look(root=stranger.root)
    for wrong in (b"nonsense", simulator.metadata["timestamp.json"]):
        with pytest.raises(SyncError, match=r"the trusted root can't be verified: .*: expected the root\.json"):
            Client(simulator, tmp_path / "other").look(root=wrong)


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json"])
def test_metadata_that_were_changed_on_the_way(simulator: FeedSimulator, client: Client, name: str) -> None:
    simulator.publish("a.example")
    simulator.change = on(name, body=b'{"signatures":[],"signed":{}}')
    with pytest.raises(SyncError, match="can't be verified"):
        client.look()


def test_metadata_that_never_end(simulator: FeedSimulator, client: Client) -> None:
    simulator.change = on("timestamp.json", body=b" " * 1_000_000)
    with pytest.raises(SyncError, match=r"[Dd]ownload"):
        client.look()


def test_metadata_that_drip(simulator: FeedSimulator, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "CLIENT_METADATA", 0.2)
    simulator.change = on("timestamp.json", slow=True)
    with pytest.raises(SyncError, match=r"did not end within 0\.2 s"):
        client.look()


@pytest.mark.parametrize("foreign", ["metadata", "custom"])
def test_one_wrong_answer_does_not_shut_the_right_ones_out(
    simulator: FeedSimulator, client: Client, foreign: str
) -> None:
    """A proxy leads to another list for a moment, whose numbers are far above ours."""
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
def test_a_sync_that_is_killed_while_it_adopts_loses_nothing(
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


def test_metadata_that_are_cut_short(simulator: FeedSimulator, client: Client) -> None:
    """In the middle of python-tuf's own loop."""
    simulator.change = on("timestamp.json", cut=20)
    with pytest.raises(SyncError, match="cut short"):
        client.look()


def test_refusals(simulator: FeedSimulator, client: Client) -> None:
    with pytest.raises(SyncError, match="401: the token"):
        client.look(token="wrong")
    with pytest.raises(SyncError, match="404: there is no such list"):
        client.look(list_name="unknown")


def test_a_folder_that_can_not_be_made(simulator: FeedSimulator, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SyncError, match="file"):
        Client(simulator, tmp_path / "file" / "metadata").look()

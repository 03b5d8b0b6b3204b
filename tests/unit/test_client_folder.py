"""The subscriber's folder: complete files, replaced in a fixed order, and the state that describes them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from blocklistd.client.folder import Folder
from blocklistd.client.state import State
from blocklistd.errors import SyncError
from tests.sim.feed import LIST, snapshot_of

SNAPSHOT = snapshot_of(["a.example", "b.example"])
STATE = State(LIST, "session", 1, 2, hashlib.sha256(SNAPSHOT).hexdigest())


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, LIST)


def put(folder: Folder, snapshot: bytes = SNAPSHOT, state: State = STATE, rendering: str | None = None) -> State:
    with folder.draft() as (out, path):
        out.write(snapshot)
        out.flush()
        return folder.replace_snapshot(path, state, rendering)


def test_a_replaced_snapshot_matches_the_state(folder: Folder) -> None:
    assert folder.state() is None
    state = put(folder, rendering="plain")
    assert folder.state() == state
    assert folder.snapshot_matches(state)
    assert folder.rendering_matches(state, "plain")
    assert (folder.path / "national.plain").read_bytes() == b"a.example\nb.example\n"
    assert not list(folder.path.glob(".new-*"))


def test_the_order_is_snapshot_rendering_state(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed: list[str] = []
    rename = os.rename

    def recorded(old: Path, new: Path) -> None:
        renamed.append(new.name)
        rename(old, new)

    monkeypatch.setattr(os, "rename", recorded)
    put(folder, rendering="plain")
    assert renamed == ["national.ndjson", "national.plain", "state.json"]


@pytest.mark.parametrize("refused", ["national.ndjson", "national.plain", "state.json"])
def test_an_error_between_the_files_leaves_the_old_state(
    folder: Folder, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is written last."""
    before = put(folder, rendering="plain")
    rename = os.rename

    def refuse(old: Path, new: Path) -> None:
        if new.name == refused:
            raise OSError(28, "No space left on device")
        rename(old, new)

    monkeypatch.setattr(os, "rename", refuse)
    new = snapshot_of(["c.example"])
    with pytest.raises(SyncError, match="No space left"):
        put(folder, new, replace(STATE, version=2, sha256=hashlib.sha256(new).hexdigest()), "plain")
    assert folder.state() == before
    assert not list(folder.path.glob(".new-*"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"list":"national"}',
        orjson.dumps({"list": LIST, "session": "s", "version": "1", "entries": 1, "sha256": ""}),
        orjson.dumps({"list": LIST, "session": "s", "version": 1, "entries": 1, "sha256": "", "rendered": 5}),
    ],
)
def test_a_state_that_cant_be_parsed_is_none(folder: Folder, body: bytes) -> None:
    (folder.path / "state.json").write_bytes(body)
    assert folder.state() is None


def test_a_state_without_renderings_is_read(folder: Folder) -> None:
    (folder.path / "state.json").write_bytes(
        orjson.dumps({"list": LIST, "session": "s", "version": 1, "entries": 1, "sha256": "0" * 64, "pending": False})
    )
    state = folder.state()
    assert state is not None
    assert not folder.rendering_matches(state, "plain")


def test_another_lists_folder_is_refused(folder: Folder) -> None:
    put(folder)
    with pytest.raises(SyncError, match="holds the list national"):
        Folder(folder.path, "other").state()


def test_damaged_files_do_not_match_the_state(folder: Folder) -> None:
    state = put(folder, rendering="plain")
    for name in ("national.ndjson", "national.plain"):
        (folder.path / name).write_bytes(b"damaged\n")
    assert not folder.snapshot_matches(state)
    assert not folder.rendering_matches(state, "plain")
    for name in ("national.ndjson", "national.plain"):
        (folder.path / name).unlink()
    assert not folder.snapshot_matches(state)
    assert not folder.rendering_matches(state, "plain")


def test_a_rendering_matches_only_its_own_version(folder: Folder) -> None:
    """A file of an older version does not count as this version's."""
    put(folder, rendering="plain")
    newer = put(folder, state=replace(STATE, version=2), rendering=None)
    assert folder.rendering_matches(newer, None)
    assert folder.rendering_matches(newer, "ndjson"), "that is the snapshot itself"
    assert not folder.rendering_matches(newer, "plain")
    assert folder.rendering_matches(folder.render(newer, "plain"), "plain")


def test_a_second_sync_is_refused_while_one_has_the_lock(folder: Folder) -> None:
    with folder.locked(), pytest.raises(SyncError, match="another sync"), Folder(folder.path, LIST).locked():
        pass
    with folder.locked():
        assert (folder.path / ".lock").exists()


def test_drafts_of_a_killed_sync_are_deleted(folder: Folder) -> None:
    (folder.path / ".new-0123").write_bytes(b"half")
    with folder.locked():
        assert not list(folder.path.glob(".new-*"))


def test_a_snapshot_that_cant_be_rendered_is_an_error(folder: Folder) -> None:
    with pytest.raises(SyncError, match="can't be rendered as plain") as failed:
        put(folder, b'{"value":"a.example"}\n', rendering="plain")
    assert "a.example" not in str(failed.value)
    assert folder.state() is None


def test_the_group_may_read_all_files(tmp_path: Path) -> None:
    group = os.getgid()
    folder = Folder(tmp_path / "new", LIST, group)
    with folder.locked():
        put(folder, rendering="plain")
        (folder.metadata / "root_history").mkdir(parents=True)
        (folder.metadata / "timestamp.json").touch(0o600)
        folder.share_metadata()
    modes = {
        path.relative_to(folder.path).as_posix(): oct(path.stat().st_mode & 0o777) for path in folder.path.rglob("*")
    }
    assert modes.pop(".lock") == "0o600"
    assert {name for name, mode in modes.items() if mode == "0o750"} == {"metadata", "metadata/root_history"}
    assert {modes[name] for name in (f"{LIST}.ndjson", f"{LIST}.plain", "state.json")} == {"0o640"}
    assert modes["metadata/timestamp.json"] == "0o640"
    assert oct(folder.path.stat().st_mode & 0o777) == "0o750"
    assert {path.stat().st_gid for path in (folder.snapshot, folder.metadata)} == {group}

"""The static tree: whatever happens at whatever step, the newest timestamp.json leads to complete files."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from blocklistd.errors import DamagedError, StoreError
from blocklistd.model import ListId, Sha256
from blocklistd.store.files import Disk, SealedFiles
from blocklistd.store.public_files import POINTER, PublicFiles, PublicList
from tests.sim.disk import FaultyDisk, PowerCut

LIST = ListId("national")
GRACE = 100.0


class Scene:
    """A folder of sealed files, a tree of it, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.sealed = SealedFiles(folder / "sealed")
        self.sealed.prepare()
        self.root = folder / "public"
        self.now = 0.0

    def seal(self, content: bytes) -> Sha256:
        with self.sealed.create() as draft:
            draft.write(content)
        assert draft.sealed is not None
        return draft.sealed

    def tree(self, disk: Disk | None = None, gid: int | None = None) -> PublicFiles:
        sealed = SealedFiles(self.sealed.root, disk)
        made = PublicFiles(self.root, gid, sealed, GRACE, lambda: self.now)
        made.prepare()
        return made

    def version(self, number: int) -> PublicList:
        """A version whose pointer names each file and its SHA-256."""
        documents = {f"metadata/{number}.targets.json": b"signed %d" % number}
        snapshot = self.seal(b"entry\n" * 1000 * number)
        sealed = {f"targets/{snapshot}.national.ndjson": snapshot}
        sealed |= {f"diffs/{n}-{n + 1}": self.seal(b"diff %d" % n) for n in range(1, number)}
        roots = {"metadata/1.root.json": b"root"}
        names = {name: hashlib.sha256(content).hexdigest() for name, content in (documents | roots).items()}
        return PublicList(LIST, documents, roots, sealed, json.dumps([number, names | dict(sealed)]).encode())

    @property
    def folder(self) -> Path:
        return self.root / "v1" / "lists" / LIST

    def follow(self) -> int:
        """The version that a client finds; 0 before the first. Raises AssertionError if a file that it needs is missing
        or incomplete."""
        pointer = self.folder / POINTER
        if not pointer.exists():
            return 0
        number, names = json.loads(pointer.read_bytes())
        for name, digest in names.items():
            assert hashlib.sha256((self.folder / name).read_bytes()).hexdigest() == digest, name
        return int(number)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("power", [False, True])
def test_an_error_or_a_power_cut_at_any_step_leaves_a_tree_that_a_client_can_follow(scene: Scene, power: bool) -> None:
    first, second = scene.version(1), scene.version(2)
    counting = FaultyDisk()
    scene.tree(counting).write(first)
    steps = counting.steps["any"]
    for step in range(1, 3 * steps):
        disk = FaultyDisk({"any": step}, power=power)
        before = scene.follow()
        try:
            tree = scene.tree(disk)
            for wanted in (second, first) if before == 1 else (first, second):
                tree.write(wanted)
        except (StoreError, PowerCut):
            assert scene.follow() in (1, 2)
            disk.crash()
        assert scene.follow() in (1, 2)
        scene.tree().write(second)
        assert scene.follow() == 2
        assert not list(scene.root.rglob(".new-*"))
        for path in scene.folder.glob("*/*"):
            path.unlink()
        scene.tree().write(first)


def test_files_are_for_the_group_alone(scene: Scene) -> None:
    gid = os.getgroups()[-1] if os.getgroups() else os.getgid()
    tree = scene.tree(gid=gid)
    tree.write(scene.version(2))
    for path in (scene.root, *scene.root.rglob("*")):
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == (0o750 if path.is_dir() else 0o640), path
        assert status.st_gid == gid
    assert scene.sealed.path(scene.seal(b"diff 1")).stat().st_nlink == 1, "no second name of a sealed file"


def test_what_an_earlier_process_left_is_shared_again(scene: Scene) -> None:
    """After another `group` in the configuration, and after a kill between making a folder and sharing it."""
    scene.tree().write(scene.version(2))
    gid = next((gid for gid in os.getgroups() if gid != os.getgid()), 1 if os.geteuid() == 0 else os.getgid())
    for path in scene.root.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    scene.tree(gid=gid).write(scene.version(2))
    for path in (scene.root, *scene.root.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o750 if path.is_dir() else 0o640), path
        assert path.stat().st_gid == gid, path


def test_a_root_comes_right_before_the_timestamp_that_needs_it(scene: Scene) -> None:
    """Clients of a new root refuse what the old online key has signed: no copy of a snapshot may be in between."""
    version = scene.version(2)
    version = replace(version, roots={"metadata/2.root.json": b"next"})
    written: list[str] = []

    class Watched(Disk):
        def rename(self, old: Path, new: Path) -> None:
            written.append(new.name)
            super().rename(old, new)

    scene.tree(Watched()).write(version)
    assert written[-2:] == ["2.root.json", "timestamp.json"]


def test_old_files_stay_for_the_time_of_grace(scene: Scene) -> None:
    tree = scene.tree()
    tree.write(scene.version(1))
    old = {path for path in scene.folder.glob("*/*") if path.name in ("1.targets.json",) or "targets" in path.parts[-2]}
    scene.now = 50
    tree.write(scene.version(2))
    scene.now = 50 + GRACE - 1
    assert tree.sweep() == 0
    assert all(path.exists() for path in old)
    scene.now += 1
    assert tree.sweep() == len(old) == 2
    assert scene.follow() == 2

    tree.withdraw({LIST})
    assert scene.follow() == 2
    tree.withdraw(set())
    assert scene.follow() == 0
    assert list(scene.folder.glob("targets/*")), "for a client that has read timestamp.json"
    scene.now += GRACE
    tree.sweep()
    assert not scene.folder.exists()


def test_changed_files_are_written_again_and_others_are_not(scene: Scene) -> None:
    tree, version = scene.tree(), scene.version(2)
    tree.write(version)
    files = {path: path.stat().st_ino for path in scene.folder.glob("*/*")}
    again = scene.tree()
    again.write(version)
    assert {path: path.stat().st_ino for path in scene.folder.glob("*/*")} == files
    diff = scene.folder / "diffs" / "1-2"
    diff.write_bytes(b"of another session")
    again.write(version)
    assert scene.follow() == 2
    assert diff.read_bytes() == b"diff 1"


def test_a_missing_folder_and_a_damaged_file_are_errors(scene: Scene) -> None:
    tree, version = scene.tree(), scene.version(1)
    (digest,) = version.sealed.values()
    path = scene.sealed.path(digest)
    path.chmod(0o600)
    path.write_bytes(b"other")
    with pytest.raises(DamagedError):
        tree.write(version)
    path.unlink()
    with pytest.raises(DamagedError):
        tree.write(version)
    assert scene.follow() == 0
    for folder in sorted(scene.root.rglob("*"), reverse=True):
        folder.unlink() if folder.is_file() else folder.rmdir()
    scene.root.rmdir()
    with pytest.raises(StoreError, match="missing"):
        tree.write(version)

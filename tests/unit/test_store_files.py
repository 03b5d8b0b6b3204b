"""Sealed files: complete under their digest, or missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from blocklistd.errors import StoreError
from blocklistd.model import Sha256
from blocklistd.store.files import SealedFiles
from tests.sim.disk import FaultyDisk


@pytest.fixture
def sealed(tmp_path: Path) -> SealedFiles:
    files = SealedFiles(tmp_path)
    files.prepare()
    return files


def seal(files: SealedFiles, content: bytes) -> Sha256:
    with files.create() as draft:
        draft.write(content)
    assert draft.sealed is not None
    return draft.sealed


def test_a_file_is_named_by_its_content(sealed: SealedFiles) -> None:
    content = b"x" * 3_000_000 + b"end"
    digest = seal(sealed, content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert sealed.is_intact(digest)
    with sealed.map(digest) as buffer:
        assert buffer[:] == content


def test_no_digest_and_an_empty_file_are_empty_buffers(sealed: SealedFiles) -> None:
    with sealed.map(None) as nothing, sealed.map(seal(sealed, b"")) as empty:
        assert nothing == empty == b""


def test_a_failed_write_leaves_no_file(sealed: SealedFiles) -> None:
    def stop() -> None:
        with sealed.create() as draft:
            draft.write(b"half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        stop()
    assert not list((sealed.root / "new").iterdir())


@pytest.mark.parametrize("step", ["create", "write", "fsync", "rename", "fsync_folder"])
def test_an_error_of_the_disk_names_the_folder(tmp_path: Path, step: str) -> None:
    disk = FaultyDisk(fail_at={step: 1})
    files = SealedFiles(tmp_path, disk)
    files.prepare()
    with pytest.raises(StoreError, match=str(tmp_path)):
        seal(files, b"content")
    assert not list((tmp_path / "new").iterdir())


def test_intact_is_false_for_a_damaged_or_missing_file(sealed: SealedFiles) -> None:
    digest = seal(sealed, b"content\n")
    sealed.path(digest).write_bytes(b"CONTENT\n")
    assert not sealed.is_intact(digest)
    sealed.path(digest).unlink()
    assert not sealed.is_intact(digest)
    with pytest.raises(StoreError), sealed.map(digest):
        pass


def test_adopt_computes_the_digest(sealed: SealedFiles, tmp_path: Path) -> None:
    path = tmp_path / "from-a-job"
    path.write_bytes(b"lines\n")
    assert sealed.adopt(path) == hashlib.sha256(b"lines\n").hexdigest()
    assert not path.exists()


def test_the_sweep_keeps_named_files_and_their_renderings(sealed: SealedFiles) -> None:
    kept, unnamed = seal(sealed, b"kept"), seal(sealed, b"unnamed")
    sealed.path(kept).with_name(f"{kept}.zst").write_bytes(b"rendering")
    sealed.path(unnamed).with_name(f"{unnamed}.gz").write_bytes(b"rendering")
    (sealed.root / "new" / "unfinished").write_bytes(b"half")
    assert sealed.sweep({kept}) == 0, "a job may be about to name a new file"
    assert sealed.sweep({kept}, young=0.0) == 3
    assert sealed.is_intact(kept)
    assert sealed.path(kept).with_name(f"{kept}.zst").exists()
    assert not sealed.path(unnamed).exists()


def test_an_error_with_a_view_of_a_mapped_file_is_raised_unchanged(sealed: SealedFiles) -> None:
    digest = seal(sealed, b"content")

    def fail_with_a_view() -> None:
        with sealed.map(digest) as content:
            view = memoryview(content)
            raise KeyError(len(view))

    with pytest.raises(KeyError):
        fail_with_a_view()

"""Scratch files: what a dry run seals stays apart from the sealed files of the state, and what it reads is kept."""

from __future__ import annotations

from pathlib import Path

from blocklistd.model import Sha256
from blocklistd.store import upkeep
from blocklistd.store.files import SealedFiles
from blocklistd.store.scratch import ScratchFiles
from tests.versions_of import Versions


def seal(files: SealedFiles, content: bytes) -> Sha256:
    with files.create() as draft:
        draft.write(content)
    assert draft.sealed is not None
    return draft.sealed


def test_scratch_files_never_touch_those_of_the_state(tmp_path: Path) -> None:
    state = SealedFiles(tmp_path / "state")
    state.prepare()
    known = seal(state, b"known")
    before = state.fingerprint(known)
    scratch = ScratchFiles(tmp_path / "scratch", state)
    scratch.prepare()
    with scratch.map(known) as content:
        assert content[:] == b"known", "the files of the state are readable"
    assert seal(scratch, b"known") == known
    new = seal(scratch, b"new")
    (tmp_path / "given").write_bytes(b"adopted")
    adopted = scratch.adopt(tmp_path / "given")
    (tmp_path / "given").write_bytes(b"unsynced")
    unsynced = scratch.adopt_unsynced(tmp_path / "given")
    assert state.fingerprint(known) == before
    for digest in (new, adopted, unsynced):
        assert scratch.is_intact(digest)
        assert not state.path(digest).exists()
    assert scratch.path(known).is_relative_to(scratch.root)


def test_a_sweep_keeps_what_a_dry_run_reads(tmp_path: Path) -> None:
    versions = Versions(tmp_path)
    files, verified = versions.store.sealed, versions.verified
    read, other = seal(files, b"read"), seal(files, b"other")
    with verified.keeping([read]):
        with verified.keeping([other]):
            assert verified.kept == {read, other}
        upkeep.sweep(versions.store, versions.database, 0.0, lambda: verified.kept)
        assert (files.path(read).exists(), files.path(other).exists()) == (True, False)
    upkeep.sweep(versions.store, versions.database, 0.0, lambda: verified.kept)
    assert not files.path(read).exists()
    versions.close()

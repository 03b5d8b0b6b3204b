"""The law of backups: a file with one byte altered, cut or added is never accepted, and nothing is changed for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blocklistd.errors import StoreError
from blocklistd.store import backups
from blocklistd.store.backup_file import opened
from blocklistd.store.backup_format import BLOCK
from blocklistd.store.backups import BackupRequest
from tests.examples import examples
from tests.versions_of import NOW, Versions


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """A small backup, and the path of a file to damage."""
    folder = tmp_path_factory.mktemp("backup")
    versions = Versions(folder / "state")
    versions.publish(versions.seal(["a.example"]))
    (folder / "work").mkdir()
    request = BackupRequest(folder / "work", NOW, 0, False, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backups, "lower_priority", lambda nice: None)
        backups.copy_state(versions.store, request)
    body = b"".join(backups.archive(versions.store, backups.read_prepared(request)))
    versions.close()
    (folder / "damaged").mkdir()
    return body, folder / "damaged" / "b.tar"


def accepts(path: Path, body: bytes) -> bool:
    path.write_bytes(body)
    try:
        with opened(path) as found:
            found.check()
    except StoreError as error:
        return not str(error).startswith(f"{path}: ")
    return True


def test_the_backup_itself_is_accepted(backup: tuple[bytes, Path]) -> None:
    body, path = backup
    assert accepts(path, body)


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_no_altered_backup_is_accepted(backup: tuple[bytes, Path], data: st.DataObject) -> None:
    body, path = backup
    kind = data.draw(st.sampled_from(["cut", "flip", "begin", "add"]))
    if kind == "cut":
        damaged = body[: data.draw(st.integers(0, len(body) - 1))]
    elif kind == "add":
        damaged = body + data.draw(st.binary(min_size=1, max_size=2 * BLOCK))
    else:  # the beginning has the most fields
        at = data.draw(st.integers(0, (6 * BLOCK if kind == "begin" else len(body)) - 1))
        altered = bytearray(body)
        altered[at] ^= data.draw(st.integers(1, 255))
        damaged = bytes(altered)
    assert not accepts(path, damaged)


def test_every_block_is_covered(backup: tuple[bytes, Path]) -> None:
    """One bit of each block, at another place in each; the cuts at its ends."""
    body, path = backup
    for number in range(0, len(body) // BLOCK, 7):
        altered = bytearray(body)
        altered[number * BLOCK + number * 31 % BLOCK] ^= 1 << number % 8
        assert not accepts(path, bytes(altered)), number
        assert not accepts(path, body[: number * BLOCK]), number


def test_other_things_than_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no backup\n" * 100)
    (tmp_path / "empty").write_bytes(b"")
    for name, text in (
        ("missing", "there is no such file"),
        (".", "it is a folder"),
        ("text", "does not begin as a backup"),
        ("empty", "it has 0 bytes"),
    ):
        with pytest.raises(StoreError, match=text), opened(tmp_path / name):
            pass

"""A backup has the state of one moment, and a restore puts it back above all numbers, or changes nothing."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import tarfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import pytest

from blocklistd.errors import DamagedError, RefusedError, StoreError
from blocklistd.model import Act
from blocklistd.store import audit, backup_format, backups, upkeep
from blocklistd.store.backup_file import opened, opened_alone
from blocklistd.store.backup_format import DATABASE, known_of
from blocklistd.store.backups import KNOWN, BackupRequest
from blocklistd.store.database import NEWEST_MIGRATION, Database
from blocklistd.store.files import Disk
from blocklistd.store.numbers import numbers
from blocklistd.store.restores import STEP, RestoredState, RestoreRequest, require_readable, restore
from blocklistd.store.store import Store
from tests.versions_of import LIST, NOW, Versions

ACT = Act("restore", "root", 0)
ZERO_ROOT = b'{"signed":{"version":%d}}'


@pytest.fixture(autouse=True)
def same_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job lowers the priority of its process, which is the test here."""
    monkeypatch.setattr(backups, "lower_priority", lambda nice: None)


def publish(versions: Versions, *names: str) -> None:
    assert versions.publish(versions.seal(names)) is not None


def act(versions: Versions, name: str) -> None:
    with versions.database.write() as connection:
        audit.append(connection, Act("test", "root", 0), name, now=NOW)


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    made = Versions(tmp_path / "state")
    (tmp_path / "state" / "root").mkdir()
    (tmp_path / "state" / "root" / "1.root.json").write_bytes(ZERO_ROOT % 1)
    publish(made, "a.example")
    publish(made, "a.example", "b.example")
    act(made, "first")
    yield made
    made.close()


def back_up(
    versions: Versions, path: Path, base: Path | None = None, highest: int = 0, *, evidence: bool = False
) -> bytes:
    folder = path.parent / f"work-{path.name}"
    folder.mkdir()
    if base is not None:
        with opened_alone(base) as found:
            (folder / KNOWN).write_bytes(orjson.dumps(known_of(found.manifest, found.id)))
    request = BackupRequest(folder, NOW, highest, evidence, base is not None)
    backups.copy_state(versions.store, request)
    prepared = backups.read_prepared(request)
    body = b"".join(backups.archive(versions.store, prepared))
    assert len(body) == backups.size_of(prepared)
    path.write_bytes(body)
    return body


def put_back(
    path: Path, state_dir: Path, above: int | None = None, disk: Disk | None = None, minutes: int = 60
) -> RestoredState:
    store = Store(state_dir, disk=disk or Disk())
    with opened(path) as backup:
        require_readable(backup.manifest)
        backup.check()
        with store.locked():
            now = NOW + timedelta(minutes=minutes)
            return restore(backup, store, RestoreRequest(state_dir / "high-water", above, now, ACT))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


def test_a_backup_is_a_tar_file_with_what_the_database_names(versions: Versions, tmp_path: Path) -> None:
    body = back_up(versions, tmp_path / "b.tar")
    with versions.store.sealed.create() as draft:
        draft.write(b"not named")
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        found = {one.name: one for one in archive}
        sealed = {name for name in found if name.startswith("sealed/")}
        assert {one.mode for one in found.values()} == {0o600}
        document = orjson.loads(archive.extractfile(next(iter(found))).read())  # type: ignore[union-attr]
    with versions.database.read() as connection:
        named = upkeep.named_files(connection, versions.store.sealed)
    assert sealed == {f"sealed/{digest[:2]}/{digest}" for digest in named}
    assert sealed
    assert found.keys() - sealed == {next(iter(found)), DATABASE, "root/1.root.json"}
    assert (document["versions"], document["schema"], document["highest"]) == ({LIST: 2}, NEWEST_MIGRATION, 2)


def test_a_restored_state_goes_on_above_all_numbers(versions: Versions, tmp_path: Path) -> None:
    live, session = versions.live, versions.state.session
    back_up(versions, tmp_path / "b.tar", highest=70)
    publish(versions, "c.example")
    for name in ("second", "third"):
        act(versions, name)
    versions.close()
    state = tmp_path / "state"
    (state / "high-water").write_text('{"lists": {"national": {"session": "s", "version": 90}}, "zones": {}}')
    before = contents(state)
    done = put_back(tmp_path / "b.tar", state)
    assert (done.above, done.audit_left) == (90 + STEP, 6)
    assert {path.stat().st_mode & 0o777 for path in (state / "sealed").rglob("??/*")} == {0o600}
    assert done.aside is not None
    kept = contents(done.aside)
    assert kept == {name: body for name, body in before.items() if name != "high-water" and "sealing" not in name} | {
        name: kept[name] for name in kept if "sealing" in name
    }
    assert (state / "high-water").read_bytes() == before["high-water"]
    again = Versions(state)
    try:
        assert again.state.live is not None
        assert (again.state.live.version, again.live) == (90 + STEP + 1, live)
        assert again.state.session != session
        with again.database.read() as connection:
            assert numbers(connection).above == 90 + STEP
            assert audit.check(connection, again.database.head_file.read()) is None
            last = audit.newest(connection, 1)[0]
        assert (last.action, last.actor, last.detail["audit_left"]) == ("restore", "root", 6)
        publish(again, "d.example")
        assert again.state.live.version == 90 + STEP + 2
    finally:
        again.close()


def test_a_restore_into_an_empty_folder_keeps_nothing_aside(versions: Versions, tmp_path: Path) -> None:
    back_up(versions, tmp_path / "b.tar")
    done = put_back(tmp_path / "b.tar", tmp_path / "new", above=5000)
    assert (done.above, done.aside, done.audit_left) == (5000, None, None)
    found = contents(tmp_path / "new")
    assert "root/1.root.json" in found
    assert not any(name.startswith((".restoring", "restoring")) for name in found)


def test_an_increment_has_what_its_bases_lack(versions: Versions, tmp_path: Path) -> None:
    back_up(versions, tmp_path / "1.tar")
    publish(versions, "a.example", "b.example", "c.example")
    second = back_up(versions, tmp_path / "2.tar", tmp_path / "1.tar")
    publish(versions, "c.example")
    third = back_up(versions, tmp_path / "3.tar", tmp_path / "2.tar")
    complete = back_up(versions, tmp_path / "complete.tar")
    assert max(len(second), len(third)) < len(complete)
    with opened_alone(tmp_path / "1.tar") as one, opened_alone(tmp_path / "2.tar") as two:
        ids = {one.id, two.id}
    (tmp_path / "1.tar").rename(tmp_path / "renamed")
    with opened(tmp_path / "3.tar") as backup:
        backup.check()
        assert backup.manifest.bases == ids
    put_back(tmp_path / "3.tar", tmp_path / "of-increments")
    put_back(tmp_path / "complete.tar", tmp_path / "of-one")
    of_increments, of_one = contents(tmp_path / "of-increments"), contents(tmp_path / "of-one")
    sealed = {name for name in of_one if name.startswith("sealed/")}
    assert {name: of_increments[name] for name in of_increments if name.startswith("sealed/")} == {
        name: of_one[name] for name in sealed
    }
    (tmp_path / "renamed").unlink()
    with pytest.raises(StoreError, match="needs the backups with the ids"), opened(tmp_path / "3.tar"):
        pass


def test_a_base_that_was_altered_is_refused(versions: Versions, tmp_path: Path) -> None:
    first = bytearray(back_up(versions, tmp_path / "1.tar"))
    publish(versions, "c.example")
    back_up(versions, tmp_path / "2.tar", tmp_path / "1.tar")
    with opened(tmp_path / "2.tar") as backup:
        member = next(one for one in backup.manifest.members if one.base and one.size)
        at = backup.bases[str(member.base)].places[member.sha256]
    first[at] ^= 1
    (tmp_path / "1.tar").write_bytes(first)
    with opened(tmp_path / "2.tar") as backup, pytest.raises(StoreError, match=r"1\.tar: .* was altered"):
        backup.check()


def test_evidence_that_expires_meanwhile_is_in_the_backup(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = versions.store.evidence / "hotline"
    folder.mkdir(parents=True)
    (folder / "20261120T120000000000-accepted-0123abcd.zst").write_bytes(b"body")
    (folder / ".draft-1").write_bytes(b"unfinished")
    copy = backups.copy_state

    def expired(store: Store, request: BackupRequest) -> Any:
        made = copy(store, request)
        for path in folder.iterdir():
            path.unlink()
        return made

    monkeypatch.setattr(backups, "copy_state", expired)
    back_up(versions, tmp_path / "b.tar", evidence=True)
    put_back(tmp_path / "b.tar", tmp_path / "new")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "new" / "evidence" / "hotline").iterdir()}
    assert kept == {"20261120T120000000000-accepted-0123abcd.zst": b"body"}


def test_evidence_that_is_not_in_the_backup_stays(versions: Versions, tmp_path: Path) -> None:
    back_up(versions, tmp_path / "b.tar")
    folder = versions.store.evidence / "hotline"
    folder.mkdir(parents=True)
    (folder / "20261120T120000000000-accepted-0123abcd.zst").write_bytes(b"body")
    versions.close()
    put_back(tmp_path / "b.tar", tmp_path / "state")
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("same", [True, False])
def test_newer_roots_of_the_same_chain_are_kept(versions: Versions, tmp_path: Path, same: bool) -> None:
    back_up(versions, tmp_path / "b.tar")
    versions.close()
    root = tmp_path / "state" / "root"
    (root / "2.root.json").write_bytes(ZERO_ROOT % 2)
    if not same:
        (root / "1.root.json").write_bytes(b"of another publisher")
    put_back(tmp_path / "b.tar", tmp_path / "state")
    assert {path.name for path in root.iterdir()} == {"1.root.json", *(["2.root.json"] if same else [])}


def test_a_file_that_is_missing_or_damaged_ends_the_backup(versions: Versions, tmp_path: Path) -> None:
    live = versions.state.live
    assert live is not None
    path = versions.store.sealed.path(live.sha256)
    body = path.read_bytes()
    path.write_bytes(body.replace(b"a", b"b", 1))
    with pytest.raises(DamagedError, match=live.sha256):
        back_up(versions, tmp_path / "1.tar")
    path.unlink()
    with pytest.raises(DamagedError, match=live.sha256):
        back_up(versions, tmp_path / "2.tar")


def test_a_newer_schema_and_a_newer_format_are_refused_with_both_numbers(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(backups, "NEWEST_MIGRATION", "9999")
        back_up(versions, tmp_path / "schema.tar")
    with pytest.raises(RefusedError, match=rf"schema 9999, .* up to {NEWEST_MIGRATION}"):
        put_back(tmp_path / "schema.tar", tmp_path / "new")
    with monkeypatch.context() as newer:
        newer.setattr(backup_format, "FORMAT", 2)
        back_up(versions, tmp_path / "format.tar")
    with pytest.raises(StoreError, match=r"the format 2, .* reads the format 1"):
        put_back(tmp_path / "format.tar", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_number_that_is_too_low_changes_nothing(versions: Versions, tmp_path: Path) -> None:
    back_up(versions, tmp_path / "b.tar", highest=70)
    versions.close()
    state = tmp_path / "state"
    before = contents(state)
    with pytest.raises(RefusedError, match="at least 70"):
        put_back(tmp_path / "b.tar", state, above=69)
    (state / "high-water").write_bytes(b"damaged")
    with pytest.raises(RefusedError, match="give --above N"):
        put_back(tmp_path / "b.tar", state)
    assert contents(state) == before | {"high-water": b"damaged"}
    assert put_back(tmp_path / "b.tar", state, above=70).above == 70


class FullDisk(Disk):
    """Fails from the `after`th write on."""

    def __init__(self, after: int) -> None:
        self.left = after

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(file, data)


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_disk_that_fills_leaves_the_old_state(versions: Versions, tmp_path: Path, after: int) -> None:
    back_up(versions, tmp_path / "b.tar")
    versions.close()
    state = tmp_path / "state"
    before = contents(state)
    with pytest.raises(StoreError, match="the disk is full"):
        put_back(tmp_path / "b.tar", state, disk=FullDisk(after))
    assert contents(state) == before
    assert not list(state.glob("*restoring*"))


class Killed(BaseException):
    """Stands for kill -9: nothing of the code in between catches it."""


def test_a_restore_that_is_killed_at_any_step_is_run_again(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at each rename: no state is lost, and no half is taken for a state."""
    back_up(versions, tmp_path / "b.tar")
    live = versions.live
    versions.close()
    state = tmp_path / "state"
    rename = Path.rename
    original = (state / DATABASE).read_bytes()
    for step in range(100):
        left = step

        def dying(self: Path, target: Path) -> Path:
            nonlocal left
            if state in self.parents:
                left -= 1
                if left < 0:
                    raise Killed
            return rename(self, target)

        with monkeypatch.context() as killing:
            killing.setattr(Path, "rename", dying)
            try:
                put_back(tmp_path / "b.tar", state, minutes=step)
            except Killed:
                interrupted = True
            else:
                interrupted = False
        exchanged = not (state / DATABASE).exists() or (state / DATABASE).read_bytes() != original
        assert not (interrupted and exchanged) or (state / "restoring").exists()
        if not interrupted:
            break
    assert step > 5
    found = [path.read_bytes() for path in state.glob(f"replaced-*/{DATABASE}")]
    assert original in found, "the old state is kept"
    again = Versions(state)
    assert again.live == live
    again.close()


def test_the_copy_is_of_one_moment(versions: Versions, tmp_path: Path) -> None:
    """A transaction that is not committed is not in it, and does not stop it."""
    with versions.database.write() as connection:
        audit.append(connection, Act("test", "root", 0), "not committed", now=NOW)
        versions.database.copy_to(tmp_path / "copy")
    copy = Database(tmp_path / "copy", read_only=True)
    with copy.read() as connection:
        assert audit.head(connection).number == 3
    copy.close()
    with sqlite3.connect(tmp_path / "copy") as found:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with pytest.raises(StoreError, match="exists"):
        versions.database.copy_to(tmp_path / "copy")


def test_a_state_dir_in_use_is_refused(versions: Versions, tmp_path: Path) -> None:
    store = Store(tmp_path / "used")
    store.require_unused()
    assert not store.state_dir.exists()
    with store.locked(), pytest.raises(StoreError, match=f"in use by another daemon .pid {os.getpid()}"):
        Store(tmp_path / "used").require_unused()
    store.require_unused()

"""Puts a backup in the place of a state, with all numbers above those that were ever served.

A backup can't know what was published after it. So a restore begins a new session of each list, as `start-above` does:
no version, TUF version or serial is used for two contents, and subscribers go on by themselves.

On the disk, in the state_dir:

    .restoring       the new state while it is made; an error or a crash leaves the old state untouched
    restoring        the complete new state while the two change places; no daemon starts while it exists
    replaced-TIME    the old state; nothing of it is ever deleted

States: unchanged → made (`.restoring` becomes `restoring`) → exchanged (`restoring` is empty and removed). After a
crash in between, the same restore is run again. The high-water file stays in its place, with the highest numbers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from blocklistd.errors import RefusedError, store_errors
from blocklistd.model import Act
from blocklistd.store import audit
from blocklistd.store.audit import HeadFile
from blocklistd.store.backup_file import Backup
from blocklistd.store.backup_format import DATABASE, Manifest, short
from blocklistd.store.database import NEWEST_MIGRATION, Database
from blocklistd.store.high_water import HighestNumbers
from blocklistd.store.numbers import numbers, start_above
from blocklistd.store.pulls import pull_all_at_start
from blocklistd.store.store import Store
from blocklistd.times import rfc3339

STEP: Final = 1_000_000
"""How far above the highest known number a restored state goes on, if the operator gives no number."""
_LOGS: Final = ("-wal", "-shm", "-journal")
_REPLACED: Final = (
    *(f"{DATABASE}{end}" for end in ("", *_LOGS)),
    *("audit-head", "root", "sealed", "diffs", "ixfr", "exports", "work", "reserve"),
)
"""What a restore replaces in the state_dir, in this order: a state without its database is never served."""
_EVIDENCE: Final = "evidence"


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """`high_water`: path of the high-water file. `above`: all numbers go on above it; None: STEP above the highest
    known one. `act`: for the audit."""

    high_water: Path
    above: int | None
    now: datetime
    act: Act


@dataclass(frozen=True, slots=True)
class RestoredState:
    """`above`: all new numbers are higher. `aside`: the folder with the old state; None if there was none.
    `audit_left`: the number of the old state's newest line of the audit, if the backup lacks it."""

    above: int
    aside: Path | None
    audit_left: int | None


def require_readable(manifest: Manifest) -> None:
    """Raises RefusedError if a newer program wrote the database of the backup."""
    if manifest.schema > NEWEST_MIGRATION:
        raise RefusedError(
            f"the backup has the schema {manifest.schema}, of blocklistd {manifest.program}; this program knows up to "
            f"{NEWEST_MIGRATION}: install that version"
        )


def restore(backup: Backup, store: Store, request: RestoreRequest) -> RestoredState:
    """Makes the state from a checked backup, and exchanges it for the state in the state_dir, whose lock is held.

    Raises RefusedError for a number that is too low or too high, StoreError. The old state is then untouched.
    """
    with store_errors(store.state_dir):
        making = store.restoring if store.restoring.exists() else store.making
        with _made_new(store, making):
            _write_files(backup, store, making)
            _keep_newer_roots(store.state_dir / "root", making / "root")
            above, left = _raise_numbers(store, making, backup, request)
            _sync_folders(store, making)
        if making != store.restoring:
            making.rename(store.restoring)
            store.disk.fsync_folder(store.state_dir)
        aside = _exchange(store, request.now, evidence=backup.manifest.evidence)
    return RestoredState(above, aside, left)


@contextmanager
def _made_new(store: Store, folder: Path) -> Iterator[None]:
    """Begins the folder, and empties it again after an error."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if folder == store.making:
            folder.rmdir()
        raise


def _write_files(backup: Backup, store: Store, folder: Path) -> None:
    for member in backup.manifest.members:
        path = folder / member.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with store.disk.create(path) as file:
            os.fchmod(file.fileno(), 0o600)
            for chunk in backup.content(member):
                store.disk.write(file, chunk)
            store.disk.fsync(file)


def _keep_newer_roots(old: Path, new: Path) -> None:
    """Copies the versions of root.json that are newer than the backup, if its newest one is the same in both."""
    newest = max((_version(path) for path in new.glob("*.root.json")), default=0)
    same = old / f"{newest}.root.json"
    if not same.exists() or same.read_bytes() != (new / same.name).read_bytes():
        return
    for path in old.glob("*.root.json"):
        if _version(path) > newest:
            shutil.copy2(path, new)


def _version(path: Path) -> int:
    number = path.name.partition(".")[0]
    return int(number) if number.isdecimal() else 0


def _raise_numbers(store: Store, folder: Path, backup: Backup, request: RestoreRequest) -> tuple[int, int | None]:
    """Upgrades the database in the folder, and begins the new session in it. Returns the number that all others exceed,
    and the number of the audit's line that is lost."""
    shown = _high_water(request)
    kept = HeadFile(store.state_dir / "audit-head").read()
    database = Database(folder / DATABASE)
    try:
        database.migrate()
        database.take_over()
        with database.write() as connection:
            known = max(backup.manifest.highest, shown.highest, numbers(connection).highest)
            above = known + STEP if request.above is None else request.above
            start_above(connection, above, known, request.now, request.act.user, shown.zones.values())
            pull_all_at_start(connection)
            left = audit.record_loss(connection, kept)
            detail: dict[str, Any] = {"above": above, "made": rfc3339(backup.manifest.made), **left}
            audit.append(connection, request.act, short(backup.newest.id), now=request.now, detail=detail)
    finally:
        database.close()
    return above, left.get("audit_left")


def _high_water(request: RestoreRequest) -> HighestNumbers:
    """The numbers in the high-water file. A damaged one needs the number from the operator."""
    with store_errors(request.high_water):
        try:
            return HighestNumbers.parse(request.high_water.read_bytes())
        except FileNotFoundError:
            return HighestNumbers()
        except ValueError:
            if request.above is None:
                raise RefusedError(
                    f"{request.high_water} is damaged, so the highest numbers are not known: give --above N, above "
                    f"every version and serial that was ever served"
                ) from None
            return HighestNumbers()


def _exchange(store: Store, now: datetime, *, evidence: bool) -> Path | None:
    """Moves the old state aside, then the new one to its place. Returns the folder with the old state."""
    names = [*_REPLACED, *([_EVIDENCE] if evidence else [])]
    found = [name for name in names if (store.state_dir / name).exists()]
    aside = store.state_dir / f"replaced-{now:%Y%m%dT%H%M%S%fZ}"
    if found:
        aside.mkdir(mode=0o700)
    for name in found:
        (store.state_dir / name).rename(aside / name)
    for name in reversed(names):
        if (store.restoring / name).exists():
            (store.restoring / name).rename(store.state_dir / name)
    store.disk.fsync_folder(store.state_dir)
    store.restoring.rmdir()
    store.disk.fsync_folder(store.state_dir)
    return aside if found else None


def _sync_folders(store: Store, folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            store.disk.fsync_folder(path)

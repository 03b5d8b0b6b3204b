"""A fault at each step of a publication: an error of the disk, a power cut, an end of the process in the database.

After each, a daemon that starts again finds the old or the new version complete, and continues. No version number is
ever used for two contents.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from blocklistd.errors import FencedError, StoreError
from blocklistd.store import upkeep
from blocklistd.store.database import Database
from tests.sim.disk import FaultyDisk, PowerCut
from tests.versions_of import Versions

OLD = [f"old{number}.example" for number in range(50)]


class Ledger:
    def __init__(self) -> None:
        self.contents: dict[int, bytes] = {}

    def check(self, versions: Versions, allowed: list[bytes]) -> None:
        """The live version is intact, is one of the allowed ones, and its number never had other content."""
        state = versions.state
        assert state.live is not None
        assert versions.store.sealed.is_intact(state.live.sha256)
        live = versions.live
        assert live in allowed
        assert self.contents.setdefault(state.live.version, live) == live


def expected(versions: Versions, lines: list[str]) -> bytes:
    """The snapshot that a publication of these names makes without a fault."""
    from blocklistd.compose.compose import with_id

    asserted = sorted(f'{{"type":"domain","value":"{name}"}}'.encode() for name in lines)
    return b"".join(with_id(line, versions.state.ids) + b"\n" for line in asserted)


@pytest.mark.parametrize("power", [False, True], ids=["refused", "power-cut"])
def test_after_a_fault_at_any_disk_step_the_old_or_new_version_is_live(tmp_path: Path, power: bool) -> None:
    first = Versions(tmp_path)
    first.publish(first.seal(OLD))
    ledger, before = Ledger(), first.live
    first.close()
    reached_the_end = False
    for step in range(1, 60):
        disk = FaultyDisk({"any": step}, power=power)
        versions = Versions(tmp_path, disk=disk)
        new = [*OLD, f"attempt{step}.example"]
        after = expected(versions, new)
        try:
            versions.publish(versions.seal(new))
            reached_the_end = True
        except (StoreError, PowerCut):
            if power:
                disk.crash()
        versions.close()
        restarted = Versions(tmp_path)
        upkeep.clear_work(restarted.store)
        upkeep.sweep(restarted.store, restarted.database)
        ledger.check(restarted, [before, after])
        before = restarted.live
        restarted.close()
        if reached_the_end:
            break
    assert reached_the_end, "the publication has more steps than were tried"
    assert step > 8, "create, write, fsync, rename and the folder's fsync of three files were all tried"


def test_after_a_stop_at_any_statement_the_old_or_new_version_is_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Versions(tmp_path)
    first.publish(first.seal(OLD))
    ledger, before = Ledger(), first.live
    first.close()
    for step in range(1, 200):
        versions = Versions(tmp_path)
        new = [*OLD, f"attempt{step}.example"]
        after, asserted = expected(versions, new), versions.seal(new)
        with monkeypatch.context() as patched:
            patched.setattr(Database, "__init__", _stopping_at(step, Database.__init__))
            try:
                versions.publish(asserted)
                finished = True
            except PowerCut:
                finished = False
        versions.close()
        restarted = Versions(tmp_path)
        ledger.check(restarted, [after] if finished else [before, after])
        before = restarted.live
        restarted.close()
        if finished:
            break
    assert finished
    assert step > 10


def _stopping_at(step: int, original: Callable[..., None]) -> Callable[..., None]:
    count = 0

    def stop(*_: Any) -> None:
        nonlocal count
        count += 1
        if count == step:
            raise PowerCut(f"at statement {step}")

    def initialise(self: Database, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        event.listen(self.engine, "before_cursor_execute", stop)
        event.listen(self.engine, "commit", stop)

    return initialise


def test_a_daemon_that_was_replaced_writes_nothing(tmp_path: Path) -> None:
    old = Versions(tmp_path)
    old.publish(old.seal(OLD))
    new = Versions(tmp_path)  # takes over
    with pytest.raises(FencedError, match="another daemon has taken over"):
        old.publish(old.seal([*OLD, "late.example"]))
    assert new.state.live is not None
    assert new.state.live.version == 1
    assert new.publish(new.seal([*OLD, "next.example"])) == 2
    old.close()
    new.close()

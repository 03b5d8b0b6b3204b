"""The sweep of superseded files: at once on a short disk, and never of files that a running job may name."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from blocklistd.daemon.upkeep import Upkeep
from blocklistd.limits import KEPT_SNAPSHOTS, SWEEP_MIN_AGE
from blocklistd.model import Sha256
from blocklistd.pipeline.counting import count_versions
from blocklistd.store import upkeep
from blocklistd.store.verified import Verified
from tests.unit.test_pipeline_pull import resources_of
from tests.versions_of import LIST, NOW, Versions


def upkeep_of(versions: Versions) -> Upkeep:
    nothing: Any = None
    return Upkeep(resources_of(versions), nothing, nothing, nothing, nothing, nothing, nothing, nothing)


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Sets the wall clock forward by this time."""
    read = time.time
    monkeypatch.setattr(time, "time", lambda: read() + seconds)


def files(versions: Versions) -> set[str]:
    return {path.name for path in versions.store.sealed.root.glob("??/*")}


@pytest.mark.parametrize("short", [True, False])
async def test_superseded_files_are_deleted_at_once_on_a_short_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    versions = Versions(tmp_path)
    for number in range(KEPT_SNAPSHOTS + 4):
        versions.publish(versions.seal([f"n{number}.example"]))
    count_versions(versions.store, LIST, {}, NOW)  # the figures need the files of the versions before
    with versions.database.read() as connection:
        named = upkeep.named_files(connection, versions.store.sealed)
    before = files(versions)
    assert len(before - named) >= 4
    set_clock(monkeypatch, 2.0)
    assert SWEEP_MIN_AGE > 2.0, "the sweep of every five minutes would spare all of them"
    monkeypatch.setattr(upkeep, "is_short", lambda store: short)
    await upkeep_of(versions).sweep_where_short()
    assert files(versions) == (named if short else before)
    versions.close()


def test_a_disk_is_short_below_a_quarter_of_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions(tmp_path)
    for free, short in ((24, True), (25, False), (100, False)):
        found = SimpleNamespace(total=100, used=100 - free, free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, found=found: found)
        assert upkeep.is_short(versions.store) is short
    versions.close()


@pytest.mark.parametrize("seconds", [-3600.0, 0.0, 3600.0])
async def test_a_sweep_keeps_files_of_running_jobs_even_if_the_clock_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    versions = Versions(tmp_path)
    resources = resources_of(versions)
    with resources.verified.sealing():
        sealed = versions.seal(["a.example"])
        set_clock(monkeypatch, seconds)
        monkeypatch.setattr(upkeep, "is_short", lambda store: True)
        nothing: Any = None
        await Upkeep(resources, nothing, nothing, nothing, nothing, nothing, nothing, nothing).sweep_where_short()
        assert versions.store.sealed.is_intact(sealed)
    versions.close()


def test_a_sweep_keeps_files_sealed_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = Versions(tmp_path)
    read, named_files = time.time, upkeep.named_files
    gone, sealed = versions.seal(["a.example"]), list[Sha256]()

    def then_an_hour_passes(*arguments: Any) -> set[Sha256]:
        found = named_files(*arguments)
        began = read()
        sealed.append(versions.seal(["b.example"]))
        path = versions.store.sealed.path(sealed[0])
        while path.stat().st_ctime <= began:  # times of files are coarser
            os.utime(path)
        monkeypatch.setattr(time, "time", lambda: read() + 3600.0)
        return found

    monkeypatch.setattr(upkeep, "named_files", then_an_hour_passes)
    upkeep.sweep(versions.store, versions.database, 0.0)
    assert not versions.store.sealed.is_intact(gone)
    assert versions.store.sealed.is_intact(sealed[0])
    versions.close()


def test_seconds_of_sealing_are_those_of_the_oldest_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = Verified(Versions(tmp_path).store.sealed)
    assert verified.sealing_for() == 0.0
    with verified.sealing():
        began = verified.sealing_for()
        with verified.sealing():
            assert verified.sealing_for() >= began
        set_clock(monkeypatch, -60.0)
        assert verified.sealing_for() >= 60.0
    assert verified.sealing_for() == 0.0


async def test_two_pulls_that_end_together_are_followed_by_one_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions(tmp_path)
    sweeps: list[float] = []
    monkeypatch.setattr(upkeep, "is_short", lambda store: True)
    monkeypatch.setattr(upkeep, "sweep", lambda store, database, young, kept: sweeps.append(young))
    made = upkeep_of(versions)
    async with made._sweeping:
        await asyncio.gather(made.sweep_where_short(), made.sweep_where_short())
    assert sweeps == []
    await made.sweep_where_short()
    assert len(sweeps) == 1
    versions.close()

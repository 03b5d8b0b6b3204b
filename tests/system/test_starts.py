"""Checks of a start before it serves: owner, permissions and lock of the state_dir, and ports."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.peers import unchecked
from tests.system.daemon import Daemon
from tests.unprivileged import UNPRIVILEGED


def fails_to_start(daemon: Daemon) -> str:
    """The one line on stderr."""
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(30) in (1, 2)
    assert "Traceback" not in daemon.log
    return daemon.log.strip().splitlines()[-1]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Owner and modification time of every file."""
    return {str(path): (path.stat().st_uid, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_a_start_by_another_user_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        unchecked("needs root, to give the state_dir to another user")
    with Daemon(tmp_path, {}) as daemon:
        pass
    os.chown(tmp_path / "state", 65534, -1)
    before = tree(tmp_path / "state")
    said = fails_to_start(daemon)
    assert "state belongs to nobody, but the daemon was started as root: start it with `systemctl" in said
    assert "runuser -u nobody -- blocklistd serve" in said
    assert tree(tmp_path / "state") == before
    os.chown(tmp_path / "state", 0, -1)
    daemon.start().stop()


@pytest.mark.parametrize("name", ["sealed", "evidence/by-hand", "blocklistd.sqlite"])
def test_a_start_names_a_file_of_another_user_in_the_state_dir(tmp_path: Path, name: str) -> None:
    if os.geteuid() != 0:
        unchecked("needs root, to give files to another user")
    with Daemon(tmp_path, {}) as daemon:
        pass
    theirs = tmp_path / "state" / name
    if not theirs.exists():
        theirs.mkdir(parents=True)
    os.chown(theirs, 65534, -1)
    said = fails_to_start(daemon)
    assert f"{theirs} belongs to nobody: expected files and folders that root, who runs the daemon, can read" in said
    assert "chown -R root: " in said


def test_a_start_names_a_folder_that_can_not_be_written(tmp_path: Path) -> None:
    with Daemon(tmp_path, {}) as daemon:
        pass
    daemon.prefix = UNPRIVILEGED
    (tmp_path / "state" / "sealed" / "ab").chmod(0o500)
    assert "state/sealed/ab has the mode 0500: expected files and folders" in fails_to_start(daemon)
    (tmp_path / "state" / "sealed" / "ab").chmod(0o700)
    daemon.start().stop()


def test_a_high_water_file_that_can_not_be_written_raises_an_alarm_at_the_start(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.mkdir(mode=0o500)
    daemon = Daemon(tmp_path, {"high_water": str(witness / "high-water")})
    daemon.prefix = UNPRIVILEGED
    with daemon:
        ready = daemon.ops("/readyz")
        assert ready.status == 200, "what is there is served"
        assert f"the high-water file can't be written: {witness}: permission denied".encode() in ready.body


def test_the_store_lock_is_taken_before_the_ports(tmp_path: Path) -> None:
    with Daemon(tmp_path, {}) as first:
        assert first.process is not None
        second = Daemon(tmp_path, {"feed": first.config["feed"], "ops": first.config["ops"]})
        assert f"in use by another daemon (pid {first.process.pid})" in fails_to_start(second)


def test_a_port_in_use_is_reported_before_the_database_is_opened(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        daemon = Daemon(tmp_path, {"feed": {"listen": [f"127.0.0.1:{other.getsockname()[1]}"]}})
        daemon.init_keys()
        assert "can't be listened on" in fails_to_start(daemon)
        assert not (tmp_path / "state" / "blocklistd.sqlite").exists()

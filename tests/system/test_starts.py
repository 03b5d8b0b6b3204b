"""What a start looks at before it serves: whose state_dir it is, whether it can be written, and who else has it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.peers import unchecked
from tests.system.daemon import Daemon
from tests.unprivileged import UNPRIVILEGED


def fails_to_start(daemon: Daemon) -> str:
    """The one line that it says."""
    daemon.launch()
    assert daemon.process is not None
    assert daemon.process.wait(30) in (1, 2)
    assert "Traceback" not in daemon.log
    return daemon.log.strip().splitlines()[-1]


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Owner and time of every file."""
    return {str(path): (path.stat().st_uid, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_whoever_is_not_the_owner_of_the_state_dir_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        unchecked("needs root, to give the state_dir to another user")
    with Daemon(tmp_path, {}) as daemon:
        pass
    os.chown(tmp_path / "state", 65534, -1)
    before = tree(tmp_path / "state")
    said = fails_to_start(daemon)
    assert "state belongs to nobody, and this is root: expected the owner of the state_dir" in said
    assert "runuser -u nobody -- blocklistd serve" in said
    assert tree(tmp_path / "state") == before
    os.chown(tmp_path / "state", 0, -1)
    daemon.start().stop()


@pytest.mark.parametrize("name", ["sealed", "evidence/by-hand", "blocklistd.sqlite"])
def test_what_another_user_left_in_the_state_dir_is_said_at_the_start(tmp_path: Path, name: str) -> None:
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


def test_a_folder_that_can_not_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    with Daemon(tmp_path, {}) as daemon:
        pass
    daemon.prefix = UNPRIVILEGED
    (tmp_path / "state" / "sealed" / "ab").chmod(0o500)
    assert "state/sealed/ab has the mode 0500: expected files and folders" in fails_to_start(daemon)
    (tmp_path / "state" / "sealed" / "ab").chmod(0o700)
    daemon.start().stop()


def test_a_high_water_file_that_can_not_be_written_is_an_alarm_from_the_start_on(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.mkdir(mode=0o500)
    daemon = Daemon(tmp_path, {"high_water": str(witness / "high-water")})
    daemon.prefix = UNPRIVILEGED
    with daemon:
        ready = daemon.ops("/readyz")
        assert ready.status == 200, "what is there is served"
        assert f"the high-water file can't be written: {witness}: permission denied".encode() in ready.body


def test_two_daemons_on_one_state_dir_are_told_of_each_other_before_any_port(tmp_path: Path) -> None:
    with Daemon(tmp_path, {}) as first:
        assert first.process is not None
        second = Daemon(tmp_path, {"feed": first.config["feed"], "ops": first.config["ops"]})
        assert f"in use by another daemon (pid {first.process.pid})" in fails_to_start(second)


def test_a_port_that_is_taken_is_known_before_the_database_is_opened(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        daemon = Daemon(tmp_path, {"feed": {"listen": [f"127.0.0.1:{other.getsockname()[1]}"]}})
        assert "can't be listened on" in fails_to_start(daemon)
        assert not (tmp_path / "state" / "blocklistd.sqlite").exists()

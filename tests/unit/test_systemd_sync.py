"""The subscriber's units: systemd accepts them without changes, and the command in them is one."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.peers import peer
from tests.sim.feed import TOKEN, FeedSimulator

UNITS = Path(__file__).parents[2] / "systemd"
SERVICE = UNITS / "blocklistd-sync@.service"
ALONE = ("-c", "from blocklistd.__main__ import sync; sync()")
"""The program blocklistd-sync, as arguments of Python."""


def test_systemd_verifies_service_and_timer(tmp_path: Path) -> None:
    analyze = peer("systemd-analyze", "systemd")
    for name in (SERVICE.name, "blocklistd-sync@.timer"):
        text = (UNITS / name).read_text().replace("/usr/bin/blocklistd-sync", "/bin/true")
        (tmp_path / name.replace("@", "@national")).write_text(text)
    for name in ("blocklistd-sync@national.service", "blocklistd-sync@national.timer"):
        checked = subprocess.run([analyze, "verify", str(tmp_path / name)], capture_output=True, text=True, check=False)
        complaints = [line for line in checked.stderr.splitlines() if "blocklistd-sync" in line]
        assert complaints == []
        assert checked.returncode == 0, checked.stderr


def test_the_exposure_is_low(tmp_path: Path) -> None:
    analyze = peer("systemd-analyze", "systemd")
    unit = tmp_path / "blocklistd-sync@national.service"
    unit.write_text(SERVICE.read_text())
    found = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("options", ["", "--format plain --exec 'test -s $BLOCKLISTD_FILE' --quiet"])
def test_the_command_of_the_unit_syncs(tmp_path: Path, options: str) -> None:
    """As systemd runs it: ${NAME} is one word, $NAME is split, and the unit's filter of system calls is in force."""
    peer("systemd-analyze", "systemd")
    feed = FeedSimulator()
    feed.publish("a.example")
    (tmp_path / "root.json").write_bytes(feed.root)
    (tmp_path / "token").write_text(TOKEN)
    (command,) = re.findall(r"^ExecStart=/usr/bin/blocklistd-sync (.*)$", SERVICE.read_text(), re.M)
    paths = {"/etc/blocklistd-sync/root.json": f"{tmp_path}/root.json", "/var/lib/blocklistd-sync": str(tmp_path)}
    values = {"%i": "national", "${FEED}": feed.url, "${CREDENTIALS_DIRECTORY}": str(tmp_path), **paths}
    for name, value in values.items():
        assert name in command
        command = command.replace(name, value)
    words = [*shlex.split(command.replace("$OPTIONS", "")), *shlex.split(options)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.system.filtered", sys.executable, *ALONE, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "UNIT_OF_TEST": SERVICE.name},
    )
    feed.close()
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "national" / "national.ndjson").read_bytes() == feed.live


def test_no_secret_is_in_the_environment() -> None:
    text = SERVICE.read_text()
    assert "LoadCredential=token:/etc/blocklistd-sync/token" in text.splitlines()
    assert "RestartPreventExitStatus=2" in text.splitlines(), "wrong usage does not get better"

"""The systemd unit: systemd accepts it without changes, and it watches the daemon."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from blocklistd.config import Secret, load
from tests.certificates import make_certificate
from tests.peers import peer

UNIT = Path(__file__).parents[2] / "systemd" / "blocklistd.service"


def test_systemd_verifies_the_unit(tmp_path: Path) -> None:
    analyze = peer("systemd-analyze", "systemd")
    unit = tmp_path / UNIT.name  # with a program that exists here: verify looks for it
    unit.write_text(UNIT.read_text().replace("/usr/bin/blocklistd", "/bin/true"))
    checked = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    complaints = [line for line in checked.stderr.splitlines() if UNIT.name in line]
    assert complaints == []
    assert checked.returncode == 0, checked.stderr


def test_the_exposure_is_low() -> None:
    analyze = peer("systemd-analyze", "systemd")
    found = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout


def test_the_drop_in_for_credentials_is_one(tmp_path: Path) -> None:
    analyze = peer("systemd-analyze", "systemd")
    (tmp_path / f"{UNIT.name}.d").mkdir()
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/bin/blocklistd", "/bin/true"))
    drop_in = UNIT.with_name(f"{UNIT.name}.d") / "credentials.conf"
    (tmp_path / f"{UNIT.name}.d" / drop_in.name).write_text(drop_in.read_text())
    checked = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "LoadCredential" not in checked.stderr, checked.stderr
    assert checked.returncode == 0, checked.stderr


def test_the_configuration_in_the_drop_in_is_valid(tmp_path: Path) -> None:
    comment = UNIT.with_name(f"{UNIT.name}.d").joinpath("credentials.conf").read_text()
    certificate, _ = make_certificate(tmp_path, "feed")
    said = "".join(f"{line}\n" for line in re.findall(r"^#     (\w+: .*)$", comment, re.M))
    (tmp_path / "blocklistd.yaml").write_text(said.replace("/etc/blocklistd/feed.crt", str(certificate)))
    config = load(tmp_path / "blocklistd.yaml")
    assert config.feed.tls is not None
    named = [config.keys.online, config.feed.tls.key]
    handed = re.findall(r"^LoadCredential=([^:]+):", comment, re.M)
    assert named == [Secret("credential", name) for name in handed]


def test_the_daemon_is_watched_and_told_to_reload() -> None:
    lines = UNIT.read_text().splitlines()
    assert "Type=notify" in lines
    assert any(line.startswith("WatchdogSec=") for line in lines)
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines

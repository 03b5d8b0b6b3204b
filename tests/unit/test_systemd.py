"""The systemd units: systemd accepts them without changes, they watch the daemon, and keep its sockets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from blocklistd.config import Secret, load
from blocklistd.daemon.activation import listeners
from tests.certificates import make_certificate
from tests.peers import peer
from tests.unit.configuring import VALID

UNIT = Path(__file__).parents[2] / "systemd" / "blocklistd.service"
SOCKETS = sorted(UNIT.parent.glob("*.socket"))


def test_systemd_verifies_the_units(tmp_path: Path) -> None:
    analyze = peer("systemd-analyze", "systemd")
    for unit in (UNIT, *SOCKETS):  # with a program that exists here: verify looks for it
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/blocklistd", "/bin/true"))
    units = [str(tmp_path / unit.name) for unit in (UNIT, *SOCKETS)]
    checked = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    complaints = [line for line in checked.stderr.splitlines() if "blocklistd" in line]
    assert complaints == []
    assert checked.returncode == 0, checked.stderr


def settings(unit: Path) -> dict[str, list[str]]:
    """The values of each key of a unit, in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.M):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("unit", SOCKETS, ids=lambda unit: unit.name)
def test_a_socket_unit_listens_where_the_defaults_of_the_configuration_do(unit: Path, tmp_path: Path) -> None:
    found = settings(unit)
    (name,) = found["FileDescriptorName"]
    assert unit.name == f"blocklistd-{name}.socket"
    assert found["Service"] == [UNIT.name]
    zone = "zones: {rpz.blocklist.example: {list: national}}\n"
    (tmp_path / "blocklistd.yaml").write_text(
        VALID.partition("feed:")[0] + 'feed: {listen: ["127.0.0.1:8443"]}\n' + zone
    )
    listener = listeners(load(tmp_path / "blocklistd.yaml"))[name]
    if name == "dns-tls":  # no addresses by default
        assert found["ListenStream"] == found["ListenDatagram"] == ["[::]:853"]
        return
    expected = [endpoint.setting for endpoint in listener.endpoints]
    given = [f"{key}={value}" for key in ("ListenStream", "ListenDatagram") for value in found.get(key, [])]
    assert given == expected
    assert ("BindIPv6Only" in found) == (name not in ("control", "status"))


def test_every_listener_has_a_socket_unit(tmp_path: Path) -> None:
    (tmp_path / "blocklistd.yaml").write_text(VALID)
    names = {settings(unit)["FileDescriptorName"][0] for unit in SOCKETS}
    assert names == listeners(load(tmp_path / "blocklistd.yaml")).keys()


def test_the_exposure_is_low() -> None:
    analyze = peer("systemd-analyze", "systemd")
    found = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", str(UNIT)],
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


def test_an_error_in_the_configuration_is_not_started_again() -> None:
    found = settings(UNIT)
    assert found["Restart"] == ["on-failure"]
    assert found["RestartPreventExitStatus"] == ["2"], "the exit code of ConfigError"


def test_the_folder_of_kept_sockets_outlives_the_daemon() -> None:
    found = settings(UNIT)
    assert (found["RuntimeDirectory"], found["RuntimeDirectoryPreserve"]) == (["blocklistd"], ["yes"])

"""What happens to an installation of the packages, from the first start to the purge: tests/package-test calls this.

The tests are steps of one story, in this order, in the root PACKAGES_ROOT. There is no systemd: the commands of the
units are run as their users.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blocklistd import __version__

ROOT = Path(os.environ["PACKAGES_ROOT"])
CONFIG = ROOT / "etc/blocklistd/blocklistd.yaml"
STATE = ROOT / "var/lib/blocklistd"
COPY = ROOT / "var/lib/blocklistd-sync"
OURS = "# a line of the administrator\n"
CALLS = ROOT / "systemctl.calls"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


def command(*words: str, user: str = "root") -> list[str]:
    """A command in the root, as this user."""
    become = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
    return ["chroot", str(ROOT), *become, *words]


def run(*words: str, user: str = "root", code: int = 0, **environment: str) -> str:
    """Runs it to its end, and returns what it prints."""
    done = subprocess.run(
        command(*words, user=user),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
        env=ENVIRONMENT | environment,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def document(*words: str) -> Any:
    return json.loads(run(*words, "--json"))


def start_of(unit: str) -> str:
    """The command of an installed unit."""
    (found,) = re.findall("(?m)^ExecStart=(.*)$", (ROOT / "lib/systemd/system" / unit).read_text())
    return str(found)


@contextmanager
def daemon() -> Iterator[None]:
    """The daemon as its unit starts it, until its list is published."""
    folder = ROOT / "run/blocklistd"
    folder.mkdir(exist_ok=True)
    run("chown", "blocklistd:blocklistd", "/run/blocklistd")
    with (ROOT / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            command(*shlex.split(start_of("blocklistd.service")), user="blocklistd"),
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
            umask=0o077,
        )
        try:
            end = time.monotonic() + 60
            while not published():
                assert process.poll() is None, (ROOT / "daemon.log").read_text()
                assert time.monotonic() < end, (ROOT / "daemon.log").read_text()
                time.sleep(0.2)
            yield
            process.terminate()
            assert process.wait(30) == 0, (ROOT / "daemon.log").read_text()
        finally:
            process.kill()
            process.wait()


def published() -> bool:
    done = subprocess.run(
        command("blocklistd", "status", "--json"),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=ENVIRONMENT,
    )
    return done.returncode == 0 and bool(json.loads(done.stdout)["lists"]["national"]["version"])


def sync() -> str:
    """Syncs once as the unit does it, and returns what it prints."""
    values = {"%i": "national", "${FEED}": "http://127.0.0.1:8443", "${CREDENTIALS_DIRECTORY}": "/credentials"}
    line = start_of("blocklistd-sync@.service").replace("$OPTIONS", "--format plain --json")
    for name, value in values.items():
        line = line.replace(name, value)
    return run(*shlex.split(line), user="blocklistd-sync")


def identity(path: Path) -> tuple[str, int]:
    """Owner and mode."""
    owner, mode = run("stat", "--format=%U %a", f"/{path.relative_to(ROOT)}").split()
    return owner, int(mode, 8)


def calls() -> list[str]:
    """The calls of systemctl since the last time."""
    found = CALLS.read_text().splitlines() if CALLS.exists() else []
    CALLS.unlink(missing_ok=True)
    return found


def version_of(package: str) -> str:
    return run("dpkg-query", "-W", "-f", "${Status} ${Version}", package)


def test_the_installation_starts_nothing_and_leaves_nothing_to_guess() -> None:
    for package in ("blocklistd", "blocklistd-sync"):
        assert version_of(package) == "install ok installed 0.5.99"
        assert (ROOT / f"usr/share/man/man1/{package}.1.gz").is_file()
        assert not (ROOT / f"usr/lib/{package}/bin/pip").exists()
    called = calls()
    assert not [line for line in called if "blocklistd" in line and "reload" not in line], called
    assert identity(STATE) == ("blocklistd", 0o711)
    assert identity(COPY) == ("blocklistd-sync", 0o755)
    assert "keys init" in run("blocklistd", "check-config")
    assert "keys init" in run(*shlex.split(start_of("blocklistd.service")), user="blocklistd", code=1)
    assert run("blocklistd-sync", "--help").startswith("Usage: blocklistd-sync ")


def test_everything_that_is_compiled_finds_its_libraries() -> None:
    compiled = run("sh", "-c", "find /usr/lib/blocklistd* -name '*.so*' -type f").split()
    assert len(compiled) > 30
    assert "not found" not in run("ldd", *compiled)


def test_no_file_names_the_folder_of_the_build() -> None:
    build = str(Path(__file__).parents[1] / "build")
    found = subprocess.run(
        ["grep", "-rlF", build, ROOT / "usr", ROOT / "lib/systemd"], capture_output=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, b"")


def test_the_daemon_serves_and_the_client_follows() -> None:
    run("blocklistd", "keys", "init", "--root-out", "/root/offline-key")
    assert identity(ROOT / "etc/blocklistd/keys/online.pem")[0] == "blocklistd"
    assert "ok" in run("blocklistd", "check-config")
    (ROOT / "etc/blocklistd/drop/list.txt").write_text("https://a.example/x\nhttps://b.example/y\n")
    (ROOT / "etc/blocklistd-sync/root.json").write_bytes((ROOT / "root/offline-key/root.json").read_bytes())
    with daemon():
        token = document("blocklistd", "subscriber", "add", "isp-1", "--list", "national")["token"]
        (ROOT / "credentials").mkdir()
        (ROOT / "credentials/token").write_text(token)
        assert json.loads(sync())["how"] == "snapshot"
    assert (COPY / "national/national.plain").read_text() == "https://a.example/x\nhttps://b.example/y\n"
    with CONFIG.open("a") as config:
        config.write(OURS)


def test_an_upgrade_keeps_state_and_configuration_and_restarts() -> None:
    before = json.loads((COPY / "national/state.json").read_text())
    calls()
    newer = [f"/newer/{path.name}" for path in (ROOT / "newer").glob("*.deb")]
    run("dpkg", "--force-confold", "--install", *newer)
    for package in ("blocklistd", "blocklistd-sync"):
        assert version_of(package) == f"install ok installed {__version__}"
        modules = ROOT / f"usr/lib/{package}/lib"
        assert not list(modules.glob("*/site-packages/blocklistd/removed_later.py"))
        assert not list(modules.glob("*/site-packages/blocklistd/__pycache__/removed_later*"))
        assert list(modules.glob("*/site-packages/blocklistd/__pycache__/model.*.pyc"))
    called = calls()
    assert any(line.endswith("try-restart blocklistd.service") for line in called), called
    assert any(line.endswith("try-restart blocklistd-sync@*.service") for line in called), called
    assert not [line for line in called if re.search(r"\b(?:start|stop|enable)\b", line)], called
    assert CONFIG.read_text().endswith(f"# of 0.5.99\n{OURS}")
    assert CONFIG.with_suffix(".yaml.dpkg-dist").exists()
    (ROOT / "etc/blocklistd/drop/list.txt").write_text("https://a.example/x\nhttps://b.example/y\nhttps://c.example/\n")
    with daemon():
        live = document("blocklistd", "status")["lists"]["national"]
        assert (live["session"], live["version"]) == (before["session"], before["version"])
        assert document("blocklistd", "source", "pull", "drop")["versions"] == {"national": 2}
        assert json.loads(sync())["how"] == "diff"
        assert document("blocklistd", "audit", "verify")
    assert (COPY / "national/national.plain").read_text().count("\n") == 3


def test_a_removal_keeps_state_configuration_and_copies() -> None:
    run("apt-get", "-y", "remove", "blocklistd", "blocklistd-sync")
    called = calls()
    assert any("stop" in line and "blocklistd.service" in line for line in called), called
    assert any("stop" in line and "blocklistd-sync@*.service" in line for line in called), called
    assert not list(ROOT.glob("usr/lib/blocklistd*"))
    assert not list(ROOT.glob("usr/bin/blocklistd*"))
    assert CONFIG.exists()
    assert (STATE / "database").exists() or any(STATE.iterdir())
    assert (COPY / "national/national.plain").exists()


def test_a_purge_deletes_the_state_says_so_and_keeps_the_keys() -> None:
    said = run("apt-get", "-y", "purge", "blocklistd", "blocklistd-sync")
    for path in (STATE, COPY):
        assert f"/{path.relative_to(ROOT)}" in said
        assert not path.exists()
    assert not CONFIG.exists()
    assert (ROOT / "etc/blocklistd/keys/online.pem").exists()
    assert "such as keys" in said
    assert "blocklistd" not in run("dpkg-query", "-W", "-f", "${Package}\n")

"""`blocklistd demo`: the printed commands work as printed, and no file or process is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from tests.peers import peer

WITHIN = 90.0  # seconds


class Demo:
    """The demo's process; its temporary folder has a space in its name, its processes carry an environment variable."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder / "a b"
        self.folder.mkdir()
        self.mark = uuid.uuid4().hex
        self.out = folder / "out"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "blocklistd", "demo", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self.folder), "DEMO_MARK": self.mark},
                start_new_session=True,
            )

    def until(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + WITHIN
        while (found := re.search(pattern, self.out.read_text(), re.M)) is None:
            assert self.process.poll() is None, self.out.read_text()
            assert time.monotonic() < deadline, self.out.read_text()
            time.sleep(0.05)
        return found

    def commands(self) -> list[str]:
        """The printed commands to try; the first sets folder and environment for the others."""
        printed = re.findall(r"^  (\S(?:.*\\\n)*.*)$", self.out.read_text().partition("Ctrl-C")[0], re.M)
        return [f"{printed[0]}\n{printed[1]}\n", *printed[2:]]

    def processes(self) -> list[str]:
        marked = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in environment.read_bytes():
                    marked.append((environment.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return marked

    def ends(self) -> int:
        code = self.process.wait(30)
        deadline = time.monotonic() + 20
        while self.processes():
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.05)
        return code


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A path shorter than pytest's: the path of a control socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    one = Demo(tmp_path)
    yield one
    one.process.kill()
    one.ends()


@pytest.mark.slow  # the demo changes its list every four seconds, and a guard holds the fourth
def test_the_printed_commands_work_and_ctrl_c_stops_the_demo(demo: Demo) -> None:
    line = demo.until(r"^version +1 .*").group()
    assert re.fullmatch(r"version +1 +\+\d+ +-0 +\d+  snapshot +\d+ +\d+\.\d\d s +1 +\d+\.\d\d s", line), line
    demo.until(r"^version +2 ")
    where, *printed = demo.commands()
    assert len(printed) == 8
    for command in printed:
        if shutil.which(command.split()[0]) is not None:
            done = subprocess.run(where + command, shell=True, capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stderr) == (0, ""), command
            assert done.stdout, command
    held = demo.until(
        r"^HELD .* by a guard\n  max_added: .*\n.*\n +(.* candidate show .*)\n +(.* candidate approve .*)"
    )
    for command in held.groups():
        assert subprocess.run(where + command, shell=True, capture_output=True, timeout=60, check=False).returncode == 0
    last = int(re.findall(r"^version +(\d+) ", demo.out.read_text(), re.M)[-1])
    demo.until(rf"^version +{last + 2} ")
    demo.process.send_signal(signal.SIGINT)
    assert demo.ends() == 0
    assert list(demo.folder.iterdir()) == []
    assert "Traceback" not in demo.out.read_text()
    for program, package in (("dig", "bind9-dnsutils"), ("curl", "curl")):
        peer(program, package)  # what was not there was not tried


@pytest.mark.slow  # as above: the fourth change is the one to reject
def test_the_demo_continues_after_a_rejection(demo: Demo) -> None:
    held = demo.until(r"^HELD (?:.*\n)+? +(.*) candidate approve (.*)")
    rejecting = f"{demo.commands()[0]}{held[1]} candidate reject {held[2]} --why 'a mistake'"
    assert subprocess.run(rejecting, shell=True, capture_output=True, timeout=60, check=False).returncode == 0
    demo.until(r"^REJECTED +a mistake: .*\nversion ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["blocklistd-demo-", "online.pem", "daemon.log", "token"])
def test_a_signal_at_any_moment_leaves_nothing_behind(demo: Demo, number: signal.Signals, moment: str) -> None:
    deadline = time.monotonic() + WITHIN
    # os.walk, unlike rglob, goes on where a folder is gone
    while not any(name.startswith(moment) for _, *names in os.walk(demo.folder) for name in chain(*names)):
        assert time.monotonic() < deadline, demo.out.read_text()
    for _ in range(3):
        demo.process.send_signal(number)
        time.sleep(0.02)
    assert demo.ends() in (0, 1, -number), demo.out.read_text()  # the last one may come after everything
    assert list(demo.folder.iterdir()) == []


def test_no_process_outlives_a_kill(demo: Demo) -> None:
    demo.until(r"^version +1 ")
    demo.process.kill()
    assert demo.ends() == -signal.SIGKILL


@pytest.mark.slow  # two demos, each until its third line or its first version
def test_the_demo_ends_if_its_output_is_closed_or_a_process_ends(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m blocklistd demo | head -3", shell=True, capture_output=True, timeout=WITHIN, check=False
    )
    assert done.stderr == b""
    one = Demo(tmp_path)
    one.until(r"^version +1 ")
    serving = next(pid for pid in Path("/proc").glob("[0-9]*") if _serves(pid, one))
    os.kill(int(serving.name), signal.SIGKILL)
    assert one.ends() == 1
    assert "`blocklistd serve` ended with -9" in one.out.read_text()
    assert not [left for left in one.folder.iterdir() if left.name.startswith("blocklistd-")]


def _serves(process: Path, demo: Demo) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return str(demo.folder).encode() in command and b"\0serve\0" in command


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "D").mkdir()
    (tmp_path / "D" / "blocklistd.yaml").write_text("mine")
    one = Demo(tmp_path, "--dir", str(tmp_path / "D"))
    assert one.ends() == 1
    assert one.out.read_text().startswith(f"blocklistd: {tmp_path}/D: not empty: expected a new or an empty folder")
    assert (tmp_path / "D" / "blocklistd.yaml").read_text() == "mine"


def test_a_folder_that_can_not_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    one = Demo(tmp_path, "--dir", "/proc/D")
    assert one.ends() == 1
    assert one.out.read_text().startswith("blocklistd: /proc/D: ")
    assert len(one.out.read_text().splitlines()) == 1


def test_json_prints_one_document(tmp_path: Path) -> None:
    done = subprocess.Popen(
        [sys.executable, "-m", "blocklistd", "demo", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert done.stdout is not None
    document = json.loads(done.stdout.readline())
    assert set(document) == {"dir", "config", "commands"}
    done.send_signal(signal.SIGINT)
    assert done.communicate(timeout=30)[0] == b""
    assert not Path(document["dir"]).exists()

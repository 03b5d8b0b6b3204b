"""What docs/sync.md tells a provider to paste, run against a simulated feed."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sim.feed import TOKEN, Answer, FeedSimulator
from tests.system import forks
from tests.unit.test_client_probe import ADDRESS, NXDOMAIN, Server, snapshot

GUIDE = (Path(__file__).parents[2] / "docs" / "sync.md").read_text()


class Pasted:
    """A host with what the publisher gave, whose paths are below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.feed = FeedSimulator()
        self.feed.publish("a.example")
        etc = folder / "etc" / "blocklistd-sync"
        etc.mkdir(parents=True)
        (etc / "root.json").write_bytes(self.feed.root)
        (etc / "token").write_text(TOKEN)

    def words(self, line: str) -> list[str]:
        """The command line of the guide, for this host: the program blocklistd-sync is the command `sync` alone."""
        line = re.sub("^blocklistd-sync ", "blocklistd sync ", line)
        for root in ("/etc/", "/var/", "/root/"):
            line = line.replace(f" {root}", f" {self.folder}{root}")
        line = line.replace("/etc/blocklist/", "/etc/blocklistd-sync/")
        return shlex.split(line.replace("https://feed.blocklist.example", self.feed.url))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert words[0] == "blocklistd"
        done = forks.run(words[1:], timeout=60)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Pasted]:
    host = Pasted(tmp_path)
    yield host
    host.feed.close()


def lines() -> list[str]:
    """The lines of the guide that are pasted."""
    return re.findall(r"^ {4,}(.*)$", GUIDE.replace("\\\n", " "), re.M)


def line_with(text: str) -> str:
    (found,) = [line for line in lines() if text in line]
    return found


def test_the_first_sync_by_hand(host: Pasted) -> None:
    done = host.run(*host.words(line_with("--format plain")))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("national version 1: 1 entries, snapshot, ")
    assert (host.folder / "root" / "try" / "national.plain").read_text() == "a.example\n"


def test_the_environment_of_the_service_has_options_that_exist(host: Pasted) -> None:
    environment = dict(shlex.split(line)[0].split("=", 1) for line in lines() if re.match(r"(FEED|OPTIONS)=", line))
    options = shlex.split(environment["OPTIONS"])
    assert options.pop(0) == "--watch"
    where = options.index("--exec")
    assert options[where + 1] == "systemctl reload squid"
    options[where + 1] = "cp $BLOCKLISTD_FILE $BLOCKLISTD_FILE.seen"
    first = host.words(line_with("--format plain").replace("--format plain", ""))
    done = host.run(*first, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert (host.folder / "root" / "try" / "national.squid.seen").exists()


def test_the_line_for_cron_prints_nothing(host: Pasted) -> None:
    user_and_command = line_with("*/15 * * * *").removeprefix("*/15 * * * * blocklist ")
    for _ in range(2):
        done = host.run(*host.words(user_and_command))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    host.feed.change = lambda path, answer: Answer(503)
    done = host.run(*host.words(user_and_command))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_an_unchanged_list_is_silent_without_a_terminal_only(host: Pasted) -> None:
    words = host.words(line_with("--format plain"))
    assert host.run(*words).stdout
    assert host.run(*words).stdout == ""
    assert json.loads(host.run(*words, "--json").stdout)["how"] == "unchanged"
    ours, theirs = pty.openpty()
    with forks.Fork(words[1:], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as done:
        assert done.wait(60) == 0
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "national version 1: 1 entries, unchanged" in shown


def test_a_progress_bar_on_a_terminal(host: Pasted) -> None:
    ours, theirs = pty.openpty()
    null, words = subprocess.DEVNULL, host.words(line_with("--format plain"))[1:]
    with forks.Fork(words, stdin=null, stdout=null, stderr=theirs, env={**os.environ, "TERM": "xterm"}) as done:
        assert done.wait(60) == 0
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "snapshot" in shown
    assert "100%" in shown or f"{len(host.feed.live)}/{len(host.feed.live)}" in shown


def test_the_probe_by_hand(host: Pasted) -> None:
    resolver = Server()
    host.feed.snapshots[1] = snapshot("bad.example")
    host.feed.sign()
    resolver.replies = {"blocktest.isp.example": NXDOMAIN, "isp.example": ADDRESS}
    done = host.run(*host.words(line_with("--probe").replace("127.0.0.1:53", resolver.address)))
    resolver.close()
    assert (done.returncode, done.stderr) == (0, "")
    assert [receipt["probe"] for receipt in host.feed.receipts] == ["blocked"]


def test_exceptions_by_hand(host: Pasted) -> None:
    one = {"name": "a.example", "reason": "ticket 7", "until": "2999-01-01T00:00:00Z"}
    file = host.folder / "etc" / "blocklistd-sync" / "exceptions.json"
    file.write_text(json.dumps({"exceptions": [one]}))
    words = host.words(line_with("--exceptions"))
    done = host.run(*words)
    assert (done.returncode, "1 entries (1 excepted), snapshot" in done.stdout) == (0, True)
    assert done.stderr == "blocklistd: 1 of 1 entries are withheld from national.squid by local exceptions\n"
    assert (host.folder / "root" / "try" / "national.squid").read_text() == ""
    assert json.loads(host.run(*words, "--json").stdout)["excepted"] == 1
    file.write_text("{}")
    done = host.run(*words)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize("fresh", [True, False])
def test_exit_codes_of_a_watch(host: Pasted, fresh: bool) -> None:
    words = [*host.words(line_with("--format plain")), "--watch"]
    watch = subprocess.Popen(
        [sys.executable, "-m", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    ended = threading.Timer(60, watch.kill)
    ended.start()
    assert watch.stdout is not None
    assert watch.stderr is not None
    assert "version 1" in watch.stdout.readline()
    if not fresh:
        host.feed.change = lambda path, answer: Answer(503)
        host.feed.publish("b.example")
        line = watch.stderr.readline()
        assert "503" in line
        assert "the local version 1 was the newest one" in line
    watch.send_signal(signal.SIGHUP)
    watch.send_signal(signal.SIGTERM)
    _, said = watch.communicate(timeout=60)
    ended.cancel()
    assert watch.returncode == (0 if fresh else 1)
    assert ("stopped while syncs failed" in said) is not fresh

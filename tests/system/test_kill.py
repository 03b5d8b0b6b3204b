"""kill -9 at random moments: of the daemon, of its forkserver, of its jobs. Nothing is half, nothing is told twice."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest

from blocklistd.client.options import Options
from blocklistd.client.sync import sync_once
from tests.signer import Signer
from tests.system.daemon import Daemon
from tests.system.test_replay import config, values

KILLS = 24
NAMES = 5_000


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, queue = [], [pid]
    while queue:
        below = parents.get(queue.pop(), [])
        found += below
        queue += below
    return found


class Ledger:
    """What each version number ever stood for, and the highest that was ever seen."""

    def __init__(self) -> None:
        self.contents: dict[int, str] = {}
        self.highest = 0

    def saw(self, daemon: Daemon, token: str) -> int:
        status = daemon.get("/v1/lists/national", token).json
        version, digest = status["version"], status["sha256"]
        assert self.contents.setdefault(version, digest) == digest, "one number, two contents"
        assert version >= self.highest, "a version went back"
        self.highest = version
        return int(version)


@pytest.mark.slow  # 12 kills of each, each followed by a start, pulls and a sync
@pytest.mark.parametrize("target", ["daemon", "jobs"])
def test_killed_at_random_moments(tmp_path: Path, target: str) -> None:
    chance = random.Random(f"{target} 2026")
    signer = Signer(tmp_path / "minisign")
    body = tmp_path / "list.txt"
    names = {f"n{number}.example" for number in range(NAMES)}
    allowed = {frozenset(names)}

    def publish() -> None:
        body.write_text("".join(f"{name}\n" for name in sorted(names)))
        signer.sign(body)

    publish()
    ledger = Ledger()
    with Daemon(tmp_path, config(tmp_path, signer)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        (tmp_path / "token").write_text(token)
        options = Options(
            url=f"http://127.0.0.1:{daemon.feed_port}",
            list="national",
            root=daemon.root,
            dir=tmp_path / "isp",
            token_file=tmp_path / "token",
        )
        sync_once(options, lambda text: None)
        took = 0.3  # seconds, about a pull; the moments spread over it and a little beyond
        for round_ in range(KILLS // 2):
            before = frozenset(names)
            for name in chance.sample(sorted(names), 40):
                names.discard(name)
            names |= {f"r{round_}-{number}.example" for number in range(45)}
            allowed = {before, frozenset(names)}
            publish()
            pulling = threading.Thread(target=_pull_and_ignore, args=(daemon,))
            pulling.start()
            threading.Event().wait(
                chance.uniform(0, took)
            )  # a random moment is the point: there is nothing to wait for
            if target == "daemon":
                daemon.kill()
                pulling.join()
                daemon.start()
            else:
                assert daemon.process is not None
                below = descendants(daemon.process.pid)
                for pid in chance.sample(below, min(2, len(below))):
                    _kill(pid)
                pulling.join()
            ledger.saw(daemon, token)
            live = daemon.snapshot("national", token)
            assert frozenset(values(live)) in allowed, "neither the old version nor the new one"
            synced = sync_once(options, lambda text: None)
            # after a start the schedule may publish meanwhile what the killed daemon did not
            after = daemon.snapshot("national", token)
            assert ledger.highest <= synced.version <= ledger.saw(daemon, token)
            assert (tmp_path / "isp" / "national.ndjson").read_bytes() in (live, after)
            again = daemon.pull("hotline")
            assert again["outcome"] in ("published", "unchanged"), again
            ledger.saw(daemon, token)
            assert frozenset(values(daemon.snapshot("national", token))) == frozenset(names)
        assert sync_once(options, lambda text: None).how in ("diff", "unchanged")
        assert not list((tmp_path / "state" / "work").iterdir())


def _pull_and_ignore(daemon: Daemon) -> None:
    """The answer may never come: that is what is tried."""
    try:
        daemon.ask("source pull", source="hotline")
    except (OSError, AssertionError, Exception):
        return


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

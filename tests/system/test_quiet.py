"""No entry appears in logs, metrics, status, errors, the plain columns of the database, or arguments of processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.sim.hotline import Fault, HotlineThread
from tests.system.daemon import Daemon

MARK = "zq7secret"  # in every entry of this test, and nowhere else
GOOD = [f"{MARK}-{number}.example" for number in range(600)]
BAD = [
    f"*.{MARK}.example",
    f"{MARK}..example",
    f"{MARK}" + "x" * 70 + ".example",
    f"{MARK}.rpz-x",
    f"http://{MARK}:{MARK}",
]
PAIRS = [f"https://{MARK}.example/{number}?q={MARK}" for number in range(300)]


class Watcher:
    """Collects, repeatedly, the arguments of all descendants of a process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.seen: set[bytes] = set()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue


@pytest.mark.slow  # every command once as a process of its own, whose argument list is read
def test_no_entry_appears_in_logs_metrics_status_or_errors(tmp_path: Path) -> None:
    said: list[bytes] = []
    with HotlineThread() as hotline:
        hotline.publish([*GOOD, *BAD])
        (tmp_path / "hotline.pub").write_text(hotline.public_key_text)
        csv = tmp_path / "urls.csv"
        csv.write_text("u,c\n" + "".join(f"{url},A\n" for url in PAIRS) + f"ftp://{MARK}.example/,A\n")
        verify = {"method": "minisign", "key": str(tmp_path / "hotline.pub")}
        daemon = Daemon(
            tmp_path,
            {
                "sources": {
                    "hotline": {
                        "url": hotline.url,
                        "format": "text",
                        "defaults": {"type": "domain"},
                        "schedule": "every 1d",
                        "timeout": "3s",
                        "verify": verify,
                    },
                    "urls": {
                        "url": f"file:{csv}",
                        "format": "csv",
                        "fields": {"value": "u", "category": "c"},
                        "defaults": {"type": "url"},
                        "schedule": "every 1d",
                        "verify": {"method": "none"},
                    },
                },
                "lists": {"national": {"sources": ["hotline", "urls"]}},
            },
        )
        daemon.in_forks = False  # its argument list is read
        with daemon:
            assert daemon.process is not None
            with Watcher(daemon.process.pid) as watcher:
                daemon.first_pull("hotline")
                daemon.first_pull("urls")
                token = daemon.subscriber("isp", "national")
                (tmp_path / "token").write_text(token)
                sync = [
                    *(sys.executable, "-m", "blocklistd", "sync", f"http://127.0.0.1:{daemon.feed_port}", "national"),
                    *(
                        "--root",
                        str(daemon.root),
                        "--token-file",
                        str(tmp_path / "token"),
                        "--dir",
                        str(tmp_path / "isp"),
                    ),
                    *("--format", "plain"),
                ]
                said += _run(sync)
                assert MARK.encode() in daemon.snapshot("national", token), "there is something to be found"
                for fault in (Fault.TRUNCATED, Fault.HTML, Fault.WRONG_SIGNATURE, Fault.SHRUNK, Fault.WRONG_CODING):
                    hotline.fault = fault
                    said.append(str(daemon.pull("hotline")).encode())
                hotline.fault = None
                hotline.publish(BAD)
                said.append(str(daemon.pull("hotline")).encode())
                hotline.publish([*GOOD[:200], *BAD])
                held = daemon.pull("hotline")
                assert held["outcome"] == "held"
                base = ("-c", str(daemon.path))
                for command in (
                    ("status",),
                    ("source", "list"),
                    ("source", "show", "hotline"),
                    ("candidate", "list"),
                    ("candidate", "show", held["candidate"]),
                    ("list", "versions", "national"),
                    ("subscriber", "show", "isp"),
                    ("candidate", "approve", held["candidate"]),
                    ("audit",),
                    ("audit", "verify"),
                ):
                    for form in ((), ("--json",)):
                        said += _run([sys.executable, "-m", "blocklistd", *command, *base, *form])
                for path in ("/metrics", "/readyz", "/healthz"):
                    said.append(daemon.ops(path).body)
                for path in (
                    f"/v1/lists/{MARK}",
                    f"/v1/lists/national/targets/{MARK}",
                    f"/v1/lists/national/diffs/{MARK}",
                ):
                    answer = daemon.get(path, token)
                    said += [answer.body, str(answer.headers).encode()]
                said += _run(sync)
                csv.write_text(csv.read_text() + f'"{MARK}')
                said.append(str(daemon.pull("urls")).encode())
        said += [daemon.log.encode(), (tmp_path / "isp" / "state.json").read_bytes(), *watcher.seen]
    for text in said:
        assert MARK.encode() not in text
    assert len(daemon.log) > 1000, "the log was written"
    assert any(b"serve" in arguments for arguments in watcher.seen)


def _run(command: list[str]) -> list[bytes]:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return [done.stdout, done.stderr]

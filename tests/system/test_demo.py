"""The demo from outside: it runs, what it prints can be tried, Ctrl-C ends it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

READY_WITHIN = 120.0  # seconds


def test_what_the_demo_prints_works_as_printed(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "blocklistd", "demo", "--dir", str(tmp_path / "demo")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert demo.stdout is not None
    shown: list[str] = []
    late = threading.Timer(READY_WITHIN, demo.kill)
    late.start()
    try:
        for line in demo.stdout:
            shown.append(line.strip())
            if line.startswith("version   2"):
                break
        tried = {line.split()[1]: shlex.split(line) for line in shown if "/blocklistd " in line}
        for name in ("status", "sync"):
            done = subprocess.run([*tried[name], "--json"], capture_output=True, timeout=READY_WITHIN, check=True)
            document = json.loads(done.stdout)
            assert (document["lists"]["national"] if name == "status" else document)["entries"] > 20_000
        (first,) = (line for line in shown if line.startswith("version   1"))
        assert "snapshot" in first
        assert "diff" in shown[-1]
    finally:
        late.cancel()
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=READY_WITHIN)
    assert demo.returncode == 0, "\n".join(shown) + rest
    assert rest.rstrip().endswith("stopped; nothing is left running")
    assert not (tmp_path / "demo" / "control.sock").exists()

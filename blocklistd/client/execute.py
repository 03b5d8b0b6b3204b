"""Runs the command of --exec, with a time limit, and ends all processes that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from blocklistd.limits import CLIENT_EXEC_GRACE


def run_command(command: str, variables: Mapping[str, str], timeout: float, stop: threading.Event) -> str:
    """Runs a shell command in a session of its own. Returns "" if it succeeds, else a phrase for a message.

    It is ended after `timeout` seconds, or once `stop` is set: with SIGTERM, and with SIGKILL after CLIENT_EXEC_GRACE
    seconds. Its environment is that of this process with `variables`. Its output goes to stderr: stdout is for the
    results of `blocklistd sync`.
    """
    running = subprocess.Popen(
        ["/bin/sh", "-c", command],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=2,
        start_new_session=True,
    )
    end = time.monotonic() + timeout
    code: int | None = None
    try:
        while (code := running.poll()) is None and time.monotonic() < end and not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                running.wait(0.2)
        if code is None and not stop.is_set():
            os.killpg(running.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                running.wait(CLIENT_EXEC_GRACE)
    finally:
        if code is None:
            with suppress(ProcessLookupError):  # with its children: none may run beside those of the next run
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    if code is None:
        return "was stopped" if stop.is_set() else f"did not end within {timeout:g} s"
    return f"ended with {code}" if code else ""

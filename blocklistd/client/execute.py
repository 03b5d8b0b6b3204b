"""Runs the command of --exec, with a time limit, and ends all processes that it has started."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from blocklistd.limits import CLIENT_EXEC


def run_command(command: str, variables: Mapping[str, str], stop: threading.Event) -> str:
    """Runs a shell command in a session of its own. Returns "" if it succeeds, else a phrase for a message.

    It is killed after CLIENT_EXEC seconds, or once `stop` is set. Its environment is that of this process with
    `variables`. Its output goes to stderr: stdout is for the results of `blocklistd sync`.
    """
    running = subprocess.Popen(
        ["/bin/sh", "-c", command],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=2,
        start_new_session=True,
    )
    end = time.monotonic() + CLIENT_EXEC
    try:
        while running.poll() is None and time.monotonic() < end and not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                running.wait(0.2)
    finally:
        if (code := running.poll()) is None:
            os.killpg(running.pid, signal.SIGKILL)  # with its children: none may run beside those of the next run
            running.wait()
    if code is None:
        return "was stopped" if stop.is_set() else f"did not end within {CLIENT_EXEC:g} s"
    return f"ended with {code}" if code else ""

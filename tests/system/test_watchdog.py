"""Messages to systemd: the watchdog's only while the event loop runs, the begin and end of a reload, and the status."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.daemon import Daemon

INTERVAL = 0.2  # seconds between two signs of life


@contextmanager
def heard(folder: Path, daemon: Daemon, **environment: str) -> Iterator[socket.socket]:
    """The receiving end of the notify socket, after READY=1."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(folder / "watch.sock"))
        systemd.settimeout(30)
        daemon.init_keys()
        daemon.launch(NOTIFY_SOCKET=str(folder / "watch.sock"), WATCHDOG_USEC=str(int(2e6 * INTERVAL)), **environment)
        try:
            until(systemd, b"READY=1")
            yield systemd
            assert daemon.stop() == 0
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()


def until(systemd: socket.socket, wanted: bytes) -> bytes:
    while wanted not in (message := systemd.recv(4096)):
        pass
    return message


def drain(systemd: socket.socket) -> None:
    """Discards the messages sent so far."""
    systemd.setblocking(False)
    try:
        while True:
            systemd.recv(4096)
    except BlockingIOError:
        systemd.settimeout(30)


def test_a_blocked_event_loop_sends_no_watchdog_message(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {})
    daemon.prefix = [sys.executable, "-m", "tests.system.hanging"]
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with heard(tmp_path, daemon, HANG_ON=str(fifo)) as systemd:
        assert daemon.process is not None
        until(systemd, b"WATCHDOG=1")
        until(systemd, b"WATCHDOG=1")
        daemon.process.send_signal(signal.SIGUSR1)
        with open(fifo, "wb"):  # opens once the other end is read: the loop hangs
            drain(systemd)
            systemd.settimeout(5 * INTERVAL)
            with pytest.raises(TimeoutError):
                systemd.recv(4096)
            systemd.settimeout(30)
        until(systemd, b"WATCHDOG=1")
        found = re.search(rb"^blocklistd_event_loop_lag_max_seconds (\S+)", daemon.ops("/metrics").body, re.M)
        assert found is not None
        assert float(found[1]) > 3 * INTERVAL


def test_a_stopped_process_sends_no_watchdog_message(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {})
    with heard(tmp_path, daemon) as systemd:
        assert daemon.process is not None
        until(systemd, b"WATCHDOG=1")
        daemon.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, daemon.process.pid, os.WSTOPPED)
        drain(systemd)
        systemd.settimeout(5 * INTERVAL)
        with pytest.raises(TimeoutError):
            systemd.recv(4096)
        systemd.settimeout(30)
        daemon.process.send_signal(signal.SIGCONT)
        until(systemd, b"WATCHDOG=1")


def test_a_reload_notifies_systemd_of_its_begin_and_end(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {})
    with heard(tmp_path, daemon) as systemd:
        assert daemon.process is not None
        before = time.monotonic_ns() // 1000
        daemon.process.send_signal(signal.SIGHUP)
        message = until(systemd, b"RELOADING=1")
        began = re.search(rb"^MONOTONIC_USEC=([0-9]+)$", message, re.M)
        assert began is not None, message
        assert before <= int(began[1]) <= time.monotonic_ns() // 1000, "sd_notify(3): not earlier than the signal"
        until(systemd, b"READY=1")


def test_the_status_follows_versions_and_held_candidates(tmp_path: Path) -> None:
    source = {"url": f"file:{tmp_path}/list.txt", "format": "text", "defaults": {"type": "host"}}
    source |= {"schedule": "every 1d", "verify": {"method": "none"}}
    (tmp_path / "list.txt").write_text("".join(f"n{number}.example\n" for number in range(100)))
    daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})
    with heard(tmp_path, daemon) as systemd:
        until(systemd, b"STATUS=serving national 1")
        (tmp_path / "list.txt").write_text("n1.example\n")
        daemon.pull("hotline")
        line = until(systemd, b"held: 1 of national").decode()
        assert line == "STATUS=serving national 1; held: 1 of national"
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        until(systemd, b"STATUS=stopping")

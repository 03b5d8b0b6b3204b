"""systemd's notification protocol: sd_notify(3) and sd_watchdog_enabled(3)."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Sends `READY=1`, `RELOADING=1`, `STOPPING=1`, `WATCHDOG=1` or `STATUS=…`; several, separated by newlines.

    Sends one datagram to $NOTIFY_SOCKET. Does nothing if that is not set or systemd does not listen.
    """
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    if where.startswith("@"):  # an abstract socket
        where = "\0" + where[1:]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        contextlib.suppress(OSError),  # nothing listens there any more
    ):
        sender.sendto(state.encode(), where)


def watchdog_interval() -> float | None:
    """Seconds between two `WATCHDOG=1`: half of $WATCHDOG_USEC. None if systemd does not watch this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or pid != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000

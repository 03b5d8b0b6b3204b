"""systemd's protocols with a service: sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3)."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Final

from blocklistd.errors import StoreError

FIRST_PASSED: Final = 3
"""The lowest descriptor that systemd passes (SD_LISTEN_FDS_START)."""


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


def is_notified() -> bool:
    """Whether systemd wants to be notified."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def watchdog_interval() -> float | None:
    """Seconds between two `WATCHDOG=1`: half of $WATCHDOG_USEC. None if systemd does not watch this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdigit() or pid != str(os.getpid()):
        return None
    return int(microseconds) / 2_000_000


def passed_sockets() -> dict[str, list[socket.socket]]:
    """Takes the sockets that systemd passed to this process, by FileDescriptorName=. Empty if it passed none.

    Removes $LISTEN_PID, $LISTEN_FDS and $LISTEN_FDNAMES, so that no child takes its descriptors for sockets, and a
    second call returns nothing. Raises StoreError for a descriptor that is not a socket.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    found: dict[str, list[socket.socket]] = {}
    for number in range(int(count)):
        name = names[number] if len(names) == int(count) else "unknown"
        try:
            one = socket.socket(fileno=FIRST_PASSED + number)
        except OSError as error:
            raise StoreError(
                f"systemd passed descriptor {FIRST_PASSED + number} ({name}), which is not a socket: expected "
                f"ListenStream= and ListenDatagram= alone in the socket units of blocklistd"
            ) from error
        one.set_inheritable(False)
        one.setblocking(False)
        found.setdefault(name, []).append(one)
    return found

"""A publisher that is away: its port takes requests and answers none."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Absent:
    """Counts the datagrams and the connections that arrive at a port of loopback, and answers nothing."""

    def __init__(self, port: int) -> None:
        self.requests = 0
        self._stream = socket.create_server(("127.0.0.1", port))
        self._datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._datagrams.bind(("127.0.0.1", port))
        self._ended, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def _count(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for one in (self._stream, self._datagrams, self._ended):
                waiting.register(one, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    if key.fileobj is self._ended:
                        return
                    if key.fileobj is self._datagrams:
                        self._datagrams.recv(4096)
                    else:
                        self._stream.accept()[0].close()
                    self.requests += 1

    def __enter__(self) -> Absent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
        self._thread.join()
        for one in (self._stream, self._datagrams, self._ended):
            with contextlib.suppress(OSError):
                one.close()

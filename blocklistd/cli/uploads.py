"""Sends a file with a command: a line of JSON with the arguments, then the file, as one chunked body.

The daemon checks the arguments first. It answers either 100 Continue (RFC 9110, 15.2.1), after which the file is sent,
or at once with the result: an error, before any byte of the file.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from contextlib import suppress
from io import BufferedReader
from typing import Any, Final

from blocklistd.cli.failures import Failed
from blocklistd.daemon.commands.command import UPLOAD

_AT_ONCE: Final = 1 << 18  # bytes of the file in one chunk, at most
_CONTINUE: Final = b"HTTP/1.1 100"
_END: Final = b"\r\n\r\n"


def upload(
    connection: http.client.HTTPConnection,
    command: str,
    headers: Mapping[str, str],
    arguments: Mapping[str, Any],
    file: BufferedReader,
) -> http.client.HTTPResponse:
    """Sends a command with a file over an open connection, and returns the response. Raises Failed if the file can't be
    read, OSError or HTTPException if the daemon closes the connection without a response."""
    connection.putrequest("POST", command)
    for name, value in {**headers, UPLOAD: "1", "Transfer-Encoding": "chunked"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(_chunk(json.dumps(arguments).encode() + b"\n"))
    if _is_continued(connection.sock):
        with suppress(BrokenPipeError, ConnectionResetError):  # the daemon refuses the rest: its response says why
            while data := _read(file):
                connection.send(_chunk(data))
            connection.send(_chunk(b""))
    return connection.getresponse()


def _chunk(data: bytes) -> bytes:
    """A chunk of a chunked body (RFC 9112, 7.1); without data, the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _is_continued(sock: socket.socket) -> bool:
    """Waits for the answer, and reads it if it is 100 Continue. Any other answer stays unread."""
    if sock.recv(len(_CONTINUE), socket.MSG_PEEK | socket.MSG_WAITALL) != _CONTINUE:
        return False
    read = b""
    while not read.endswith(_END):
        byte = sock.recv(1)
        if not byte:
            return False
        read += byte
    return True


def _read(file: BufferedReader) -> bytes:
    try:
        return file.read1(_AT_ONCE)  # of a pipe, what has arrived
    except OSError as error:
        raise Failed(f"--body: the file can't be read: {error.strerror}: check the disk") from None

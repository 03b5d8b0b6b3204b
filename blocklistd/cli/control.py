"""The CLI's end of the control socket: HTTP with JSON over AF_UNIX, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

from blocklistd.cli.failures import Failed, Unreachable

ANSWER_WITHIN: Final = 3600.0  # seconds: a pull may have to wait for the one that runs, and a first load is long


def path_of(*names: str) -> str:
    """The path of a resource: each name is one part of it, whatever is in it."""
    return "".join(f"/{quote(name, safe='', errors='surrogateescape')}" for name in names)


class Out(Protocol):
    """Where an answer is copied to."""

    def write(self, data: bytes, /) -> object: ...


class Control:
    """The daemon behind a socket. Raises Unreachable where there is none, Failed with its refusals."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The document that the daemon answers."""
        with self._send(method, path, body) as response:
            return json.loads(_taken(response))

    def stream(self, path: str, out: Out) -> None:
        """Copies an answer that is no document."""
        with self._send("GET", path, None) as response:
            if response.status != 200:
                _taken(response)
            shutil.copyfileobj(response, out)

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("localhost")
        try:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(ANSWER_WITHIN)
            connection.sock.connect(str(self._path))
            connection.request(method, path, None if body is None else json.dumps(body))
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "it closed the connection"
            raise Unreachable(
                f"the daemon does not answer on {self._path} ({reason}): is it running? `systemctl status blocklistd`"
            ) from None


def _taken(response: http.client.HTTPResponse) -> bytes:
    body = response.read()
    if response.status == 200:
        return body
    try:
        detail = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"the daemon answered {response.status}"
    raise Failed(detail)

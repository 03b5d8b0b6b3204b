"""The CLI's end of the control socket: HTTP with JSON over AF_UNIX, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from blocklistd.cli.failures import Failed, Unreachable
from blocklistd.config import status_socket_of
from blocklistd.daemon.commands.command import CALL, STAGE, Command

ANSWER_WITHIN: Final = 3600.0  # seconds: a pull may have to wait for the one that runs, and a first load is long


class Control:
    """The daemon behind a socket. Raises Unreachable where there is none, Failed with its refusals."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, command: Command, arguments: Mapping[str, Any], call: str = "") -> Any:
        """The document that a command answers. `call` names this call for `stage`."""
        with self._send(command, arguments, call) as response, _whole():
            return json.loads(_taken(response))

    def stage(self, call: str) -> tuple[str | None, str | None]:
        """The stage that a call is at, and its subject; None for both where it is at none, or nothing is known."""
        try:
            with _post(self._path, STAGE, {}, call) as response:
                found = json.loads(response.read())
            return found.get("stage"), found.get("subject")
        except (OSError, ValueError, AttributeError, Unreachable, http.client.HTTPException):
            return None, None

    def copy(
        self, command: Command, arguments: Mapping[str, Any], take: Callable[[http.client.HTTPResponse], None]
    ) -> None:
        """Hands over an answer that is no document."""
        with self._send(command, arguments) as response, _whole():
            if response.status != 200:
                _taken(response)
            take(response)
            if response.length:  # bytes that did not arrive: read(size) raises nothing for them
                raise http.client.IncompleteRead(b"", response.length)

    def _send(self, command: Command, arguments: Mapping[str, Any], call: str = "") -> http.client.HTTPResponse:
        try:
            return _post(self._path, command.path, arguments, call)
        except PermissionError:
            if command.role:
                raise Failed(
                    f"uid {os.geteuid()} may not open {self._path}: only operators may, as users of its group "
                    f"(control.group); `blocklistd status` is for everybody"
                ) from None
        status = status_socket_of(self._path)
        try:
            return _post(status, command.path, arguments)
        except PermissionError:
            raise Unreachable(
                f"{self._path}: uid {os.geteuid()} may not open it: expected a folder that everybody may enter (0755), "
                f"and in it {status.name}, which everybody may open (0666)"
            ) from None


def _post(path: Path, command: str, arguments: Mapping[str, Any], call: str = "") -> http.client.HTTPResponse:
    """Sends a request. Raises PermissionError where we may not open the socket, Unreachable where nobody answers."""
    connection = http.client.HTTPConnection("localhost")
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(ANSWER_WITHIN)
        connection.sock.connect(str(path))
        headers = {"Connection": "close"} | ({CALL: call} if call else {})
        connection.request("POST", command, json.dumps(arguments), headers)
        return connection.getresponse()
    except PermissionError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it closed the connection"
        raise Unreachable(
            f"the daemon does not answer on {path} ({reason}): is it running? `systemctl status blocklistd`"
        ) from None


@contextmanager
def _whole() -> Iterator[None]:
    try:
        yield
    except (http.client.HTTPException, ConnectionError):
        raise Failed("the daemon broke off its answer: what was printed is not complete") from None


def _taken(response: http.client.HTTPResponse) -> bytes:
    body = response.read()
    if response.status == 200:
        return body
    try:
        detail = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"the daemon answered {response.status}"
    raise Failed(detail)

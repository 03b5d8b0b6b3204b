"""The command line's client of the control socket: HTTP with JSON over AF_UNIX, with the standard library only."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from blocklistd.cli.failures import Failed, Unreachable
from blocklistd.cli.uploads import upload
from blocklistd.config import status_socket_of
from blocklistd.daemon.commands.command import CALL, STAGE, Command

ANSWER_TIMEOUT: Final = 3600.0  # seconds: a pull may have to wait for the one that runs, and a first load is long


class ControlClient:
    """A client of the daemon. Methods raise Unreachable if no daemon answers, Failed with the text of a refusal."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(
        self, command: Command, arguments: Mapping[str, Any], call: str = "", file: BufferedReader | None = None
    ) -> Any:
        """Runs a command and returns its document. `call`: an id of this call, for `stage`. `file`: sent to the
        daemon."""
        with self._send(command, arguments, call, file) as response, _complete():
            return json.loads(_body_of(response))

    def stage(self, call: str) -> tuple[str | None, str | None]:
        """The current stage of a call and its subject; None for both if there is none or the daemon does not answer."""
        try:
            with _post(self._path, STAGE, {}, call) as response:
                found = json.loads(response.read())
            return found.get("stage"), found.get("subject")
        except (OSError, ValueError, AttributeError, Unreachable, http.client.HTTPException):
            return None, None

    def copy(
        self,
        command: Command,
        arguments: Mapping[str, Any],
        take: Callable[[http.client.HTTPResponse], None],
        file: BufferedReader | None = None,
    ) -> None:
        """Runs a command whose result is not a document, and calls `take` with the response to read. `file`: sent to
        the daemon."""
        with self._send(command, arguments, file=file) as response, _complete():
            if response.status != 200:
                _body_of(response)
            take(response)
            if response.length:  # bytes that did not arrive: read(size) raises nothing for them
                raise http.client.IncompleteRead(b"", response.length)

    def _send(
        self, command: Command, arguments: Mapping[str, Any], call: str = "", file: BufferedReader | None = None
    ) -> http.client.HTTPResponse:
        try:
            return _post(self._path, command.path, arguments, call, file)
        except PermissionError:
            if command.roles:
                raise Failed(
                    f"uid {os.geteuid()} may not open {self._path}: only operators may: add the user to the socket's "
                    f"group (control.group); `blocklistd status` works for every user"
                ) from None
        status = status_socket_of(self._path)
        try:
            return _post(status, command.path, arguments)
        except PermissionError:
            raise Unreachable(
                f"uid {os.geteuid()} may not open {status}: expected a folder with the mode 0755 and in it "
                f"{status.name} with the mode 0666: restore these modes"
            ) from None


def _post(
    path: Path, command: str, arguments: Mapping[str, Any], call: str = "", file: BufferedReader | None = None
) -> http.client.HTTPResponse:
    """Sends a request. Raises PermissionError if the user may not open the socket, Unreachable without a daemon."""
    connection = http.client.HTTPConnection("localhost")
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(ANSWER_TIMEOUT)
        connection.sock.connect(str(path))
        headers = {"Connection": "close"} | ({CALL: call} if call else {})
        if file is not None:
            return upload(connection, command, headers, arguments, file)
        connection.request("POST", command, json.dumps(arguments), headers)
        return connection.getresponse()
    except PermissionError:
        connection.close()
        raise
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it closed the connection"
        raise Unreachable(
            f"the daemon does not answer on {path} ({reason}): check it with `systemctl status blocklistd`"
        ) from None


@contextmanager
def _complete() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # of stdout (`| head`), not of the daemon: click ends the command
    except (http.client.HTTPException, ConnectionError):
        raise Failed(
            "the daemon closed the connection in the middle of the result: discard the output and try again"
        ) from None


def _body_of(response: http.client.HTTPResponse) -> bytes:
    body = response.read()
    if response.status == 200:
        return body
    try:
        detail = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"the daemon answered with the status {response.status}: see its log"
    raise Failed(detail)

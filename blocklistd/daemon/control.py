"""The two local sockets of the command line: the control socket for operators, the status socket for every user.

Both speak HTTP with JSON. A command is `POST /name/of/command` with its arguments as a JSON object. The kernel names
the caller's uid (SO_PEERCRED); `control.operators` gives roles to the user with that uid. A caller without a role may
run `status` only. The status socket is separate so that other users can't use up the operators' connections.
Connections are counted per uid on both sockets.
"""

from __future__ import annotations

import asyncio
import errno
import grp
import os
import pwd
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from blocklistd.daemon.commands.command import CALL, STAGE, UPLOAD, Call, Caller, Command
from blocklistd.daemon.operations import Operations
from blocklistd.errors import BlocklistError, RefusedError, StoreError, SubscriberError, store_errors
from blocklistd.limits import FIRST_REQUEST, MAX_REQUEST_BODY, UPLOAD_STALL
from blocklistd.serve.http.connection import accepted_of, connection_of
from blocklistd.serve.http.problems import Problem
from blocklistd.telemetry import Progress, track_progress

DEFAULT_GROUP: Final = "blocklistd"


class ControlServer:
    """Handles the requests on one of the sockets. `commands` are allowed on it; `roles` returns the roles of a user
    name.
    """

    def __init__(
        self, commands: Iterable[Command], operations: Operations, roles: Callable[[str], frozenset[str]]
    ) -> None:
        self._commands = {command.path: command for command in commands}
        self._operations = operations
        self._roles = roles
        self._under_way: dict[tuple[int, str], Progress] = {}
        """Progress of the commands under way, by uid and by the id of the call (header CALL)."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Runs the requested command and returns its result. Raises Problem: 400 wrong arguments, 403 a missing role,
        404 an unknown command, 409 a refusal, 413 a body over MAX_REQUEST_BODY bytes, 500 another error.
        """
        upload = UPLOAD in request.headers
        # before any answer: it would close the connection while the client still sends
        given = await _arguments(request, upload)
        if request.path == STAGE:
            return self._stage(request)
        command = self._commands.get(request.path)
        if command is None or request.method != "POST":
            raise Problem(
                HTTPStatus.NOT_FOUND,
                "the daemon has no such command: if its version differs from the command line's, restart the daemon",
            )
        caller = self._caller(request)
        if command.roles and not caller.roles & command.roles:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"user {caller.user} (uid {caller.uid}) may not run this command: in control.operators, give the user "
                f"one of the roles {', '.join(sorted(command.roles))}, then run `blocklistd reload`",
            )
        # not ignored: it may be a restriction, such as --except
        if given.keys() - {argument.name for argument in command.arguments}:
            raise Problem(
                HTTPStatus.BAD_REQUEST,
                "the daemon has no such argument of this command: if its version differs from the command line's, "
                "restart the daemon",
            )
        try:
            values = {argument.name: argument.read_from(given) for argument in command.arguments if not argument.local}
        except RefusedError as error:
            raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None
        try:
            with self._recording_progress(request, caller):
                chunks = _upload(request) if upload and command.uploads else None
                answer = await command.effect(self._operations, Call(command, values, caller, chunks))
        except (RefusedError, SubscriberError) as error:
            raise Problem(HTTPStatus.CONFLICT, str(error)) from None
        except BlocklistError as error:
            raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    @contextmanager
    def _recording_progress(self, request: web.BaseRequest, caller: Caller) -> Iterator[None]:
        """Within the block, the caller can ask for its progress at STAGE."""
        call = caller.uid, request.headers.get(CALL, "")
        with track_progress(self._under_way.setdefault(call, Progress())):
            try:
                yield
            finally:
                self._under_way.pop(call, None)

    def _stage(self, request: web.BaseRequest) -> web.StreamResponse:
        """Returns the current stage and subject of a call of the same uid; null for both if there is none."""
        progress = self._under_way.get((accepted_of(request).uid, request.headers.get(CALL, "")))
        stage, subject = progress.stage if progress is not None and progress.stage is not None else (None, None)
        return web.Response(body=orjson.dumps({"stage": stage, "subject": subject}), content_type="application/json")

    def _caller(self, request: web.BaseRequest) -> Caller:
        uid = accepted_of(request).uid
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = f"uid-{uid}"
        return Caller(uid, user, self._roles(user))


async def _arguments(request: web.BaseRequest, upload: bool) -> dict[str, Any]:
    """The arguments of a command: the body of the request, or its first line if a file follows. Raises Problem."""
    # without a limit, a connection that never sends its body would not become idle, and could not be closed
    async with asyncio.timeout(FIRST_REQUEST):
        raw = await (request.content.readline() if upload else request.content.read(MAX_REQUEST_BODY + 1))
    if len(raw) > MAX_REQUEST_BODY:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_REQUEST_BODY} bytes")
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "expected a JSON object")
    return body


async def _upload(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """The chunks of the file that a caller sends after the line with the arguments. Raises RefusedError if it does not
    arrive completely."""
    connection_of(request).allow_upload()
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer has not begun
    while True:
        try:
            async with asyncio.timeout(UPLOAD_STALL):
                chunk = await request.content.readany()
        except TimeoutError:
            raise RefusedError(
                f"--body: no byte arrived within {UPLOAD_STALL:g} s: write the body to a file, and name that file"
            ) from None
        except (ConnectionError, web.RequestPayloadError):
            raise RefusedError("--body: the file did not arrive completely: try again") from None
        if not chunk:
            return
        yield chunk


def bind_control_socket(path: Path, group: str | None) -> socket.socket:
    """Binds the control socket, mode 0660, for a group. None: the group `blocklistd`, if it exists and the daemon's
    user is in it. Raises StoreError.
    """
    return _bind(path, 0o660, group or DEFAULT_GROUP, needed=group is not None)


def bind_status_socket(path: Path) -> socket.socket:
    """Binds the status socket, mode 0666, for every local user. Raises StoreError."""
    return _bind(path, 0o666)


def _bind(path: Path, mode: int, group: str = "", *, needed: bool = False) -> socket.socket:
    with store_errors(path):
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # the umask of 0077 would keep operators of other uids out
        _remove_stale_socket(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(str(path))
            if group:
                _set_group(path, group, needed)
            path.chmod(mode)
        except BaseException:
            bound.close()
            raise
    bound.setblocking(False)
    return bound


def _set_group(path: Path, group: str, needed: bool) -> None:
    """Sets the group of the socket. If this fails and is `needed`, raises StoreError."""
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except (KeyError, PermissionError):
        if needed:
            raise StoreError(
                f"control.group: {path} can't be given to the group {group}: create the group and add the daemon's "
                f"user to it, or name another group"
            ) from None


def _remove_stale_socket(path: Path) -> None:
    """Removes the socket of an earlier daemon. Raises StoreError if a running daemon answers on it, or if the file is
    not a socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise StoreError(f"{path} is not a socket: remove it, or name another control.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(str(path)) in (0, errno.EAGAIN):  # EAGAIN: its backlog is full
            raise StoreError(f"{path}: another daemon answers there: stop it, or name another control.socket")
    path.unlink()

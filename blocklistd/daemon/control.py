"""The operators' control socket and everybody's status socket, for the command line: HTTP with JSON.

A command is POST /its/name with its arguments as a JSON object. The kernel names the caller's uid (SO_PEERCRED), and
the configuration's `control.operators` gives its user roles. A caller without a role may ask for `status`. That has a
socket of its own, so that no other user can use up the connections of the operators; on both sockets connections are
counted per uid.
"""

from __future__ import annotations

import asyncio
import errno
import grp
import os
import pwd
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from blocklistd.daemon.commands.command import CALL, STAGE, Call, Caller, Command
from blocklistd.daemon.operations import Operations
from blocklistd.errors import BlocklistError, RefusedError, StoreError, SubscriberError, store_errors
from blocklistd.limits import FIRST_REQUEST, MAX_REQUEST_BODY
from blocklistd.serve.http.listener import accepted_of
from blocklistd.serve.http.problems import Problem
from blocklistd.telemetry import Progress, track_progress

DEFAULT_GROUP: Final = "blocklistd"


class Control:
    """Handles the requests on one of the sockets. `roles` answers the roles of a user name."""

    def __init__(
        self, commands: Iterable[Command], operations: Operations, roles: Callable[[str], frozenset[str]]
    ) -> None:
        self._commands = {command.path: command for command in commands}
        self._operations = operations
        self._roles = roles
        self._under_way: dict[tuple[int, str], Progress] = {}
        """The progress of commands under way, by uid and by the name that the caller gave to the call (CALL)."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request. Raises Problem for one that is refused."""
        if request.path == STAGE:
            return self._stage(request)
        command = self._commands.get(request.path)
        if command is None or request.method != "POST":
            raise Problem(
                HTTPStatus.NOT_FOUND, "the daemon has no such command: are its version and the CLI's the same?"
            )
        caller = self._caller(request)
        if command.role and not caller.roles & command.role:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"user {caller.user} (uid {caller.uid}) may not do this: it needs one of the roles "
                f"{', '.join(sorted(command.role))} in control.operators",
            )
        given = await _body(request)
        try:
            values = {argument.name: argument.take(given) for argument in command.arguments if not argument.here}
        except RefusedError as error:
            raise Problem(HTTPStatus.BAD_REQUEST, str(error)) from None
        try:
            with self._followed(request, caller):
                answer = await command.effect(self._operations, Call(command, values, caller))
        except (RefusedError, SubscriberError) as error:
            raise Problem(HTTPStatus.CONFLICT, str(error)) from None
        except BlocklistError as error:
            raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(body=orjson.dumps(answer), content_type="application/json")

    @contextmanager
    def _followed(self, request: web.BaseRequest, caller: Caller) -> Iterator[None]:
        """While the block runs, the caller may ask for its progress at STAGE."""
        call = caller.uid, request.headers.get(CALL, "")
        with track_progress(self._under_way.setdefault(call, Progress())):
            try:
                yield
            finally:
                self._under_way.pop(call, None)

    def _stage(self, request: web.BaseRequest) -> web.StreamResponse:
        """The stage that a call of the same uid is at, and its subject; null for both where it is at none."""
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


async def _body(request: web.BaseRequest) -> dict[str, Any]:
    async with asyncio.timeout(FIRST_REQUEST):  # else the connection would never become idle and be closed for another
        raw = await request.content.read(MAX_REQUEST_BODY + 1)
    if len(raw) > MAX_REQUEST_BODY:
        raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_REQUEST_BODY} bytes")
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Problem(HTTPStatus.BAD_REQUEST, "expected a JSON object")
    return body


def operators_socket(path: Path, group: str | None) -> socket.socket:
    """Binds the socket for root, the daemon's user and a group. None: the group `blocklistd`, if it exists and the
    daemon's user is in it."""
    return _bind(path, 0o660, group or DEFAULT_GROUP, needed=group is not None)


def everybodys_socket(path: Path) -> socket.socket:
    """Binds the socket for every local user, on which only `status` is answered."""
    return _bind(path, 0o666)


def _bind(path: Path, mode: int, group: str = "", *, needed: bool = False) -> socket.socket:
    with store_errors(path):
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # the umask would keep operators of other uids out
        _make_way(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(str(path))
            if group:
                _give(path, group, needed)
            path.chmod(mode)
        except BaseException:
            bound.close()
            raise
    bound.setblocking(False)
    return bound


def _give(path: Path, group: str, needed: bool) -> None:
    """Gives the socket to the group. Where that is not possible, raises StoreError if it is `needed`."""
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except (KeyError, PermissionError):
        if needed:
            raise StoreError(
                f"control.group: {path} can't be given to {group}: the daemon's user must be in it"
            ) from None


def _make_way(path: Path) -> None:
    """Removes the socket that an earlier daemon left. Raises StoreError where another daemon answers on it, or where it
    is no socket."""
    if not path.exists():
        return
    if not path.is_socket():
        raise StoreError(f"{path} is no socket: remove it, or name another control.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(str(path)) in (0, errno.EAGAIN):  # EAGAIN: its backlog is full
            raise StoreError(f"{path}: another daemon answers there: stop it, or name another control.socket")
    path.unlink()

"""The control socket: what the command line asks, over HTTP with JSON. The kernel says who asks (SO_PEERCRED).

A caller is a uid; its roles come from the configuration's `control.operators`. Who has none may ask for `status`.
"""

from __future__ import annotations

import errno
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote

import orjson
from aiohttp import web

from blocklistd.errors import BlocklistError, RefusedError, StoreError, SubscriberError, store_errors
from blocklistd.limits import MAX_REQUEST_BODY
from blocklistd.model import CandidateId, ListId, SourceId, Version
from blocklistd.serve.http.problems import Problem

Answer = dict[str, Any] | list[Any]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks; `roles` are those of the configuration."""

    uid: int
    user: str
    roles: frozenset[str]


class Daemon(Protocol):
    """What the daemon can be asked. Each answers a JSON document; RefusedError and SubscriberError become 409."""

    def roles(self, user: str) -> frozenset[str]: ...
    async def status(self) -> Answer: ...
    async def source_list(self) -> Answer: ...
    async def source_show(self, source: SourceId) -> Answer: ...
    async def source_pull(self, source: SourceId) -> Answer: ...
    async def candidate_list(self) -> Answer: ...
    async def candidate_show(self, candidate: CandidateId) -> Answer: ...
    async def candidate_approve(self, candidate: CandidateId, caller: Caller) -> Answer: ...
    async def candidate_reject(self, candidate: CandidateId, caller: Caller, why: str) -> Answer: ...
    async def list_versions(self, list_id: ListId) -> Answer: ...
    async def list_diff(self, list_id: ListId, start: Version, end: Version) -> web.StreamResponse: ...
    async def subscriber_add(self, body: dict[str, Any], caller: Caller) -> Answer: ...
    async def subscriber_list(self) -> Answer: ...
    async def subscriber_show(self, subscriber: str) -> Answer: ...
    async def subscriber_revoke(self, subscriber: str, caller: Caller) -> Answer: ...
    async def keys(self) -> Answer: ...


Handle = Callable[[Caller, dict[str, Any], list[str]], Awaitable[Answer | web.StreamResponse]]
ANYBODY: Final[frozenset[str]] = frozenset()
REVIEWER: Final = frozenset({"reviewer", "admin"})
EDITOR: Final = frozenset({"editor", "admin"})
ADMIN: Final = frozenset({"admin"})
OPERATOR: Final = frozenset({"reviewer", "editor", "admin"})


class Control:
    """The handler of one request on the control socket."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        d = daemon
        self._routes: dict[tuple[str, str], tuple[frozenset[str], Handle]] = {
            ("GET", "status"): (ANYBODY, lambda c, b, p: d.status()),
            ("GET", "sources"): (OPERATOR, lambda c, b, p: d.source_list()),
            ("GET", "sources/*"): (OPERATOR, lambda c, b, p: d.source_show(SourceId(p[0]))),
            ("POST", "sources/*/pull"): (EDITOR, lambda c, b, p: d.source_pull(SourceId(p[0]))),
            ("GET", "candidates"): (OPERATOR, lambda c, b, p: d.candidate_list()),
            ("GET", "candidates/*"): (OPERATOR, lambda c, b, p: d.candidate_show(CandidateId(p[0]))),
            ("POST", "candidates/*/approve"): (REVIEWER, lambda c, b, p: d.candidate_approve(CandidateId(p[0]), c)),
            ("POST", "candidates/*/reject"): (
                REVIEWER,
                lambda c, b, p: d.candidate_reject(CandidateId(p[0]), c, _text(b, "why")),
            ),
            ("GET", "lists/*/versions"): (OPERATOR, lambda c, b, p: d.list_versions(ListId(p[0]))),
            ("GET", "lists/*/diff/*/*"): (
                OPERATOR,
                lambda c, b, p: d.list_diff(ListId(p[0]), _version(p[1]), _version(p[2])),
            ),
            ("POST", "subscribers"): (EDITOR, lambda c, b, p: d.subscriber_add(b, c)),
            ("GET", "subscribers"): (OPERATOR, lambda c, b, p: d.subscriber_list()),
            ("GET", "subscribers/*"): (OPERATOR, lambda c, b, p: d.subscriber_show(p[0])),
            ("POST", "subscribers/*/revoke"): (EDITOR, lambda c, b, p: d.subscriber_revoke(p[0], c)),
            ("GET", "keys"): (ADMIN, lambda c, b, p: d.keys()),
        }

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Raises Problem for what is refused."""
        caller = self._caller(request)
        parts = [unquote(part) for part in request.rel_url.raw_path[1:].split("/")]  # a name may hold a slash
        for (method, pattern), (allowed, handle) in self._routes.items():
            names = pattern.split("/")
            if len(names) != len(parts) or any(n not in ("*", p) for n, p in zip(names, parts, strict=True)):
                continue
            if method != request.method:
                continue
            if allowed and not caller.roles & allowed:
                raise Problem(
                    HTTPStatus.FORBIDDEN,
                    f"user {caller.user} (uid {caller.uid}) may not do this: it needs one of the roles "
                    f"{', '.join(sorted(allowed))} in control.operators",
                )
            body = await _body(request) if method == "POST" else {}
            try:
                answer = await handle(caller, body, [p for n, p in zip(names, parts, strict=True) if n == "*"])
            except (RefusedError, SubscriberError) as error:
                raise Problem(HTTPStatus.CONFLICT, str(error)) from None
            except BlocklistError as error:
                raise Problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(error)) from None
            if isinstance(answer, web.StreamResponse):
                return answer
            return web.Response(body=orjson.dumps(answer), content_type="application/json")
        raise Problem(HTTPStatus.NOT_FOUND, "the daemon has no such command: are its version and the CLI's the same?")

    def _caller(self, request: web.BaseRequest) -> Caller:
        assert request.transport is not None
        connection: socket.socket = request.transport.get_extra_info("socket")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        try:
            user = pwd.getpwuid(uid).pw_name
        except KeyError:
            user = f"uid-{uid}"
        return Caller(uid, user, self._daemon.roles(user))


async def _body(request: web.BaseRequest) -> dict[str, Any]:
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


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Problem(HTTPStatus.BAD_REQUEST, f"{key}: expected a text")
    return value.strip()


def _version(text: str) -> Version:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Problem(HTTPStatus.BAD_REQUEST, "expected version numbers")
    return Version(int(text))


def control_socket(path: Path) -> socket.socket:
    """Open to every local user: what each may ask is decided by its uid."""
    with store_errors(path):
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # the umask would keep operators of other uids out
        _make_way(path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            bound.bind(str(path))
            path.chmod(0o666)
        except BaseException:
            bound.close()
            raise
    bound.setblocking(False)
    return bound


def _make_way(path: Path) -> None:
    """Removes the socket that an earlier daemon left. Raises StoreError where it is another's, or no socket at all."""
    if not path.exists():
        return
    if not path.is_socket():
        raise StoreError(f"{path} is no socket: remove it, or name another control.socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(str(path)) in (0, errno.EAGAIN):  # EAGAIN: somebody listens, and is behind
            raise StoreError(f"{path}: another daemon answers there: stop it, or name another control.socket")
    path.unlink()

"""A hotline on loopback: serves a list of names in the text format, signed with minisign.

Order of calls: `publish`, `start`, then any number of `publish`, `stop`. Body and signature are replaced together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import minisign
from aiohttp import web

from blocklistd.times import rfc3339, utc_now


class DemoHotline:
    """The demo's hotline. `url` is valid after `start`."""

    def __init__(self) -> None:
        self._keys = minisign.KeyPair.generate()
        self._body = self._signature = b""
        self._runner: web.ServerRunner | None = None
        self.url = ""

    @property
    def public_key(self) -> bytes:
        """The minisign public key, as in a key file."""
        return bytes(self._keys.public_key)

    def publish(self, names: Iterable[str]) -> None:
        """Replaces the list with these names."""
        body = f"# demo list, reserved names only, {rfc3339(utc_now())}\n" + "".join(
            f"{name}\n" for name in sorted(names)
        )
        self._body = body.encode()
        self._signature = bytes(self._keys.secret_key.sign(self._body))

    async def start(self) -> None:
        """Starts the web server on a free port."""
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/list.txt"

    async def stop(self) -> None:
        """Stops the web server, if it was started."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/list.txt.minisig":
            return web.Response(body=self._signature)
        if request.path != "/list.txt":
            return web.Response(status=404)
        etag = f'"{hashlib.sha256(self._body).hexdigest()[:16]}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(body=self._body, headers={"ETag": etag}, content_type="text/plain")

"""Kinto with its changes endpoint, which clients of its lists poll: its own server, the memory backend, on one core."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from http.client import HTTPConnection
from pathlib import Path

from bench.zones import SERVER, wait_until
from tests.system.daemon import free_port

PROGRAM = Path(".venv/kinto/bin/kinto")
CHANGES = "/v1/buckets/monitor/collections/changes/records"
SETTINGS = """
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
[app:main]
use = egg:kinto
kinto.includes = kinto_changes
kinto.storage_backend = kinto.core.storage.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.changes.resources = /buckets/main
kinto.userid_hmac_secret = bench
kinto.bucket_create_principals = system.Authenticated
multiauth.policies = basicauth
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
level = ERROR
handlers =
"""


class Kinto:
    """Kinto with one collection of one record. `authorization`: the header of its client."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.authorization = f"Basic {base64.b64encode(b'provider:secret').decode()}"
        self._settings = folder / "kinto.ini"
        self._settings.write_text(SETTINGS.format(port=self.port))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts Kinto on its core, and makes the record."""
        assert PROGRAM.exists(), "run bench/install-peers first"
        command = ["taskset", "-c", str(SERVER), str(PROGRAM), "start", "--ini", str(self._settings)]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        wait_until(lambda: self._request("GET", "/v1/", None) == 200)
        national = "/v1/buckets/main/collections/national"
        for method, path in (("PUT", "/v1/buckets/main"), ("PUT", national), ("POST", f"{national}/records")):
            assert self._request(method, path, {"data": {}}) == 201

    def _request(self, method: str, path: str, body: object) -> int | None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"Authorization": self.authorization, "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def stop(self) -> None:
        """Ends Kinto."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

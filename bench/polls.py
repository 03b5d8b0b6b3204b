"""Rate of conditional polls that get 304: the feed with its authentication, beside nginx with a file and a fixed token.

Each server is one process on one core, the load generator (wrk) has the other. Plain HTTP, persistent connections.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

from bench import bodies
from bench.compare import Compared, Row, in_turns
from bench.zones import CLIENT, SERVER, Ours, wait_until
from tests.system.daemon import free_port

CONNECTIONS = 32
SECONDS = 3


class Nginx:
    """nginx with one worker process, which serves a file to clients with the token."""

    def __init__(self, folder: Path, token: str, body: bytes) -> None:
        self.port = free_port()
        self._folder = folder / "nginx"
        (self._folder / "www").mkdir(parents=True)
        (self._folder / "www" / "status").write_bytes(body)
        self._config = self._folder / "nginx.conf"
        self._config.write_text(f"""
worker_processes 1;
daemon off;
user root;
pid {self._folder}/pid;
error_log {self._folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {self._folder}/tmp; proxy_temp_path {self._folder}/tmp; fastcgi_temp_path {self._folder}/tmp;
  uwsgi_temp_path {self._folder}/tmp; scgi_temp_path {self._folder}/tmp;
  open_file_cache max=100;
  map_hash_bucket_size 256;
  map $http_authorization $known {{ default 0; "Bearer {token}" 1; }}
  server {{
    listen 127.0.0.1:{self.port};
    root {self._folder}/www;
    default_type application/json;
    location / {{ if ($known = 0) {{ return 401; }} }}
  }}
}}
""")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts nginx on its core and waits until it answers."""
        command = ["taskset", "-c", str(SERVER), "nginx", "-c", str(self._config), "-p", str(self._folder)]
        process = self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_until(lambda: process.poll() is not None or _status(self.port, "/status", {}) == 401)
        assert process.poll() is None, (self._folder / "error.log").read_text()

    def stop(self) -> None:
        """Ends nginx."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


def _status(port: int, path: str, headers: dict[str, str]) -> int | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _etag(port: int, path: str, headers: dict[str, str]) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    found = connection.getresponse().getheader("ETag")
    connection.close()
    assert found is not None
    return found


class Load:
    """wrk on one path with the headers of one client. Checks the answers 200, 304 and 401 before it measures."""

    def __init__(self, port: int, path: str, token: str) -> None:
        self._url = f"http://127.0.0.1:{port}{path}"
        known = {"Authorization": f"Bearer {token}"}
        self._headers = known | {"If-None-Match": _etag(port, path, known)}
        assert _status(port, path, self._headers) == 304
        assert _status(port, path, known) == 200
        assert _status(port, path, self._headers | {"Authorization": f"Bearer {token[:-1]}x"}) == 401

    def run(self) -> float:
        """Measures for SECONDS; returns the answers (304) a second."""
        headers = [part for name, value in self._headers.items() for part in ("-H", f"{name}: {value}")]
        command = ["taskset", "-c", str(CLIENT), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *headers, self._url]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert "Non-2xx or 3xx" not in said, said
        found = re.search(r"Requests/sec:\s*([0-9.]+)", said)
        assert found is not None, said
        return float(found[1])


class Refused:
    """wrk on a path that the subscriber may not have."""

    def __init__(self, port: int, path: str, token: str) -> None:
        self._command = ["taskset", "-c", str(CLIENT), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s"]
        known = {"Authorization": f"Bearer {token}"}
        self._command += ["-H", f"Authorization: Bearer {token}", f"http://127.0.0.1:{port}{path}"]
        assert _status(port, path, known) == 404

    def run(self) -> float:
        """Measures for SECONDS; returns the answers (404) a second."""
        said = subprocess.run(self._command, check=True, capture_output=True, text=True).stdout
        found = re.search(r"Requests/sec:\s*([0-9.]+)", said)
        assert found is not None, said
        return float(found[1])


def refusals(rounds: int) -> Compared:
    """Another subscriber's list beside a list that does not exist, in answers a second."""
    with tempfile.TemporaryDirectory(prefix="bench-refusals-") as name:
        ours = Ours(Path(name))
        ours.daemon.config["feed"]["rate_limit"] = "off"
        ours.daemon.config["lists"]["foreign"] = ours.daemon.config["lists"]["national"]
        ours.daemon.write_config()
        try:
            ours.start(bodies.domains(1000))
            token = ours.daemon.subscriber("provider", "national")
            ours.pin()
            foreign, absent = (
                Refused(ours.daemon.feed_port, f"/v1/lists/{one}", token) for one in ("foreign", "absent")
            )
            return Compared("foreign", *in_turns(rounds, foreign.run, absent.run))
        finally:
            if ours.daemon.process is not None:
                ours.daemon.stop()


def measure(rounds: int) -> Iterator[Compared]:
    """A comparison for each path, in answers a second."""
    with tempfile.TemporaryDirectory(prefix="bench-polls-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ours = Ours(folder)
        nginx = None
        try:
            ours.daemon.config["feed"]["rate_limit"] = "999999999/s"  # a limit that counts and is never reached
            ours.daemon.write_config()
            ours.start(bodies.domains(1000))
            token = ours.daemon.subscriber("provider", "national")
            path = "/v1/lists/national"
            document = ours.daemon.get(path, token).body
            nginx = Nginx(folder, token, document)
            nginx.start()
            ours.pin()
            peer = Load(nginx.port, "/status", token)
            for asked in (path, f"{path}/metadata/timestamp.json"):
                samples = in_turns(rounds, Load(ours.daemon.feed_port, asked, token).run, peer.run)
                yield Compared(asked, *samples)
        finally:
            if nginx is not None:
                nginx.stop()
            if ours.daemon.process is not None:
                ours.daemon.stop()


def rows() -> Iterator[Row]:
    """The rows of the table."""
    _, theirs, absent = refusals(7)
    title = "requests for another subscriber's list (404)"
    yield Row(title, theirs, absent, "a list that does not exist", "/s", 0.9, rate=True)
    titles = ("unchanged polls of a list's STATUS (304)", "unchanged polls of timestamp.json (304)")
    for title, (_, ours, nginx) in zip(titles, measure(5), strict=True):
        yield Row(title, ours, nginx, "nginx", "/s", 0.25, rate=True)

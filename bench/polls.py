"""Rate of conditional polls that get 304: the feed with its authentication, beside nginx with a file and a fixed token,
and beside Kinto's changes endpoint with its own server.

Each server is one process on one core, the load generator (wrk) has the other. Plain HTTP and TLS 1.3, persistent
connections (Kinto's server closes its own after each 304). Kinto takes any password.
"""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import NamedTuple

from bench import bodies
from bench.compare import Compared, Row, Sample, in_turns
from bench.kinto import CHANGES, Kinto
from bench.zones import CLIENT, SERVER, Ours, wait_until
from tests.certificates import make_certificate
from tests.system.daemon import free_port

CONNECTIONS = 32
SECONDS = 3


class Certificate(NamedTuple):
    """The files of a certificate and of its key."""

    cert: Path
    key: Path


class Nginx:
    """nginx with one worker process, which serves a file to clients with the token."""

    def __init__(self, folder: Path, token: str, body: bytes, certificate: Certificate | None) -> None:
        self.port = free_port()
        self._tls = certificate is not None
        tls = (
            "" if certificate is None else f"ssl_certificate {certificate.cert}; ssl_certificate_key {certificate.key};"
        )
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
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {self._folder}/tmp; proxy_temp_path {self._folder}/tmp; fastcgi_temp_path {self._folder}/tmp;
  uwsgi_temp_path {self._folder}/tmp; scgi_temp_path {self._folder}/tmp;
  open_file_cache max=100;
  map_hash_bucket_size 256;
  map $http_authorization $known {{ default 0; "Bearer {token}" 1; }}
  server {{
    listen 127.0.0.1:{self.port}{" ssl" if self._tls else ""};
    {tls}
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
        wait_until(lambda: process.poll() is not None or status_of(self.port, "/status", {}, tls=self._tls) == 401)
        assert process.poll() is None, (self._folder / "error.log").read_text()

    def stop(self) -> None:
        """Ends nginx."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


def _connect(port: int, tls: bool) -> HTTPConnection:
    if not tls:
        return HTTPConnection("127.0.0.1", port, timeout=10)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # the certificate is the bench's own
    return HTTPSConnection("127.0.0.1", port, timeout=10, context=context)


def status_of(port: int, path: str, headers: dict[str, str], *, tls: bool = False) -> int | None:
    """The status of an answer; None if there is none."""
    connection = _connect(port, tls)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _etag(port: int, path: str, headers: dict[str, str], tls: bool) -> str:
    connection = _connect(port, tls)
    connection.request("GET", path, headers=headers)
    found = connection.getresponse().getheader("ETag")
    connection.close()
    assert found is not None
    return found


class Load:
    """wrk on one path with the headers of one client. Checks the answers 200 and 304 before it measures, and 401 for
    another token unless `any_token`."""

    def __init__(self, port: int, path: str, authorization: str, *, tls: bool = False, any_token: bool = False) -> None:
        self._url = f"{'https' if tls else 'http'}://127.0.0.1:{port}{path}"
        known = {"Authorization": authorization}
        self._headers = known | {"If-None-Match": _etag(port, path, known, tls)}
        assert status_of(port, path, self._headers, tls=tls) == 304
        assert status_of(port, path, known, tls=tls) == 200
        if not any_token:
            assert status_of(port, path, self._headers | {"Authorization": f"{authorization[:-1]}x"}, tls=tls) == 401

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
        assert status_of(port, path, known) == 404

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


@dataclass(frozen=True)
class Measured:
    """The answers a second of the feed for STATUS and for timestamp.json, of nginx and of Kinto (plain HTTP only)."""

    status: Sample
    timestamp: Sample
    nginx: Sample
    kinto: Sample | None


def measure(rounds: int, *, tls: bool) -> Measured:
    """Measures all servers in turns."""
    with tempfile.TemporaryDirectory(prefix="bench-polls-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        certificate = Certificate(*make_certificate(folder, "feed")) if tls else None
        ours = Ours(folder)
        if certificate is not None:
            ours.daemon.config["feed"]["tls"] = {"cert": str(certificate.cert), "key": {"file": str(certificate.key)}}
        ours.daemon.config["feed"]["rate_limit"] = "999999999/s"  # a limit that counts and is never reached
        ours.daemon.write_config()
        stack.callback(lambda: ours.daemon.process is not None and ours.daemon.stop())
        ours.start(bodies.domains(1000))
        token, path = ours.daemon.subscriber("provider", "national"), "/v1/lists/national"
        nginx = Nginx(folder, token, b"{}" * 200, certificate)
        stack.callback(nginx.stop)
        nginx.start()
        ours.pin()
        loads = [
            Load(ours.daemon.feed_port, path, f"Bearer {token}", tls=tls),
            Load(ours.daemon.feed_port, f"{path}/metadata/timestamp.json", f"Bearer {token}", tls=tls),
            Load(nginx.port, "/status", f"Bearer {token}", tls=tls),
        ]
        if not tls:
            kinto = Kinto(folder)
            stack.callback(kinto.stop)
            kinto.start()
            loads.append(Load(kinto.port, CHANGES, kinto.authorization, any_token=True))
        samples = in_turns(rounds, *(load.run for load in loads))
        return Measured(samples[0], samples[1], samples[2], None if tls else samples[3])


def rows() -> Iterator[Row]:
    """The rows of the table."""
    _, theirs, absent = refusals(7)
    title = "requests for another subscriber's list (404)"
    yield Row(title, theirs, absent, "a list that does not exist", "/s", 0.9, rate=True)
    rounds = int(os.environ.get("BENCH_ROUNDS", "5"))
    for tls in (False, True):
        found, over = measure(rounds, tls=tls), ", TLS" if tls else ""
        title, floor = "unchanged polls of {} (304)", 0.2
        yield Row(title.format("a list's STATUS") + over, found.status, found.nginx, "nginx", "/s", floor, rate=True)
        yield Row(title.format("timestamp.json") + over, found.timestamp, found.nginx, "nginx", "/s", floor, rate=True)
        if found.kinto is not None:
            yield Row(title.format("a list's STATUS"), found.status, found.kinto, "Kinto", "/s", 20, rate=True)

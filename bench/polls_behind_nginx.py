"""Rate of conditional polls that get 304 from nginx as config/nginx/ has it, beside the same nginx with a static file.

Both ask the same daemon by the same `auth_request`. nginx is one process on one core, the load generator (wrk) has the
other, with the daemon, which is asked once in ten seconds for the credential and once a second for the list.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import bodies
from bench.compare import Compared, Row, in_turns
from bench.polls import Load, status_of
from bench.zones import SERVER, Ours, wait_until
from tests.interop.test_nginx import configured
from tests.system.daemon import free_port

STATIC = """
    location ~ "^/static/([a-z0-9][a-z0-9-]{0,31})/status$" {
        set $blocklistd_list $1;
        auth_request /_authorize;
        error_page 401 @unauthorized;
        error_page 403 = @absent;
        error_page 500 502 504 = @unavailable;
        root FOLDER;
        default_type application/json;
    }
"""


class Front:
    """nginx with one worker process, before a daemon; and a static file under /static/national/status."""

    def __init__(self, folder: Path, daemon_port: int, body: bytes) -> None:
        self.port = free_port()
        self._folder = folder / "nginx"
        for part in ("cache", "tmp", "static/national"):
            (self._folder / part).mkdir(parents=True)
        (self._folder / "static" / "national" / "status").write_bytes(body)
        servers = configured(folder, self.port, daemon_port).rstrip()
        assert servers.endswith("}")
        servers = servers[:-1] + STATIC.replace("FOLDER", str(self._folder)) + "}\n"
        temporary = "".join(
            f"  {kind}_temp_path {self._folder}/tmp;\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        servers = re.sub(r"keepalive_requests \d+;", "keepalive_requests 1000000000;", servers)
        self._config = self._folder / "nginx.conf"
        self._config.write_text(
            f"worker_processes 1;\ndaemon off;\nuser root;\npid {self._folder}/pid;\n"
            f"error_log {self._folder}/error.log;\nevents {{ worker_connections 1024; }}\n"
            f"http {{\n  access_log off;\n{temporary}{servers}\n}}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts nginx on its core and waits until it answers."""
        command = ["taskset", "-c", str(SERVER), "nginx", "-c", str(self._config), "-p", str(self._folder)]
        process = self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        path = "/static/national/status"
        wait_until(lambda: process.poll() is not None or status_of(self.port, path, {}) == 401)
        assert process.poll() is None, (self._folder / "error.log").read_text()

    def stop(self) -> None:
        """Ends nginx."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


def measure(rounds: int) -> Iterator[Compared]:
    """A comparison for each path, in answers a second."""
    with tempfile.TemporaryDirectory(prefix="bench-behind-nginx-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ours = Ours(folder)
        front = None
        try:
            ours.daemon.config["feed"]["trusted_proxies"] = ["127.0.0.1"]
            ours.daemon.write_config()
            ours.start(bodies.domains(1000))
            token = ours.daemon.subscriber("provider", "national")
            path = "/v1/lists/national"
            front = Front(folder, ours.daemon.feed_port, ours.daemon.get(path, token).body)
            front.start()
            static = Load(front.port, "/static/national/status", f"Bearer {token}")
            for asked in (path, f"{path}/metadata/timestamp.json"):
                samples = in_turns(rounds, Load(front.port, asked, f"Bearer {token}").run, static.run)
                yield Compared(asked, *samples)
        finally:
            if front is not None:
                front.stop()
            if ours.daemon.process is not None:
                ours.daemon.stop()


def rows() -> Iterator[Row]:
    """The rows of the table."""
    titles = (
        "unchanged polls of a list's STATUS (304), behind nginx",
        "unchanged polls of timestamp.json, behind nginx",
    )
    for title, (_, ours, static) in zip(titles, measure(5), strict=True):
        yield Row(title, ours, static, "nginx, auth_request and a file", "/s", 0.9, rate=True)

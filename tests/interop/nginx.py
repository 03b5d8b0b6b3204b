"""nginx as a peer: with a configuration of a test, in the foreground."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.interop.programs import Resolver, running
from tests.peers import peer


@contextlib.contextmanager
def nginx(folder: Path, servers: str, port: int, main: str = "") -> Iterator[Path]:
    """Runs nginx with `main` in its main context and `servers` in its http block, until `port` answers. Yields its
    access log, a path a line; the number of its process is in the file pid beside it."""
    program = peer("nginx", "nginx-light")
    folder.mkdir()
    for name in ("tmp", "cache"):
        (folder / name).mkdir()
    temporary = "".join(
        f"{kind}_temp_path {folder}/tmp;\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"worker_processes 1;\n{main}\ndaemon off;\nuser root;\npid {folder}/pid;\nerror_log {folder}/error.log info;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{\n{temporary}log_format path '$uri';\n"
        f"access_log {folder}/access.log path;\n{servers}\n}}\n"
    )
    command = [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    checked = subprocess.run([*command, "-t"], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    with running(command, folder / "log"):
        Resolver(port, folder / "error.log").wait(lambda: answers(port), within=20)
        yield folder / "access.log"


def answers(port: int) -> bool:
    """Whether something listens on the port. Raises OSError if nothing does."""
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    return True

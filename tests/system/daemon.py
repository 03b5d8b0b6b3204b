"""The daemon as a process, with its files in a folder of the test: started, asked, killed, started again."""

from __future__ import annotations

import atexit
import contextlib
import functools
import http.client
import itertools
import json
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

from tests.system import forks

READY_WITHIN = 60.0  # seconds
ANSWER_WITHIN = 120.0

USER = pwd.getpwuid(os.geteuid()).pw_name
ASK = """
import http.client, socket, sys
asked = http.client.HTTPConnection("localhost")
asked.sock = socket.socket(socket.AF_UNIX)
asked.sock.connect("c.sock")
asked.request("POST", sys.argv[1], sys.stdin.buffer.read())
answer = asked.getresponse()
sys.stdout.buffer.write(b"%d\\n" % answer.status + answer.read())
"""
"""Asks the control socket in the working folder, which the user may enter although not the folders above it."""
KEYS = {"online": {"file": "keys/online.pem"}}


WORKERS, EACH = 16, 750  # test processes beside each other, and the ports that each has to itself
_first = 20_000 + EACH * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % WORKERS)
_ports = itertools.cycle(range(_first, _first + EACH))
for _ in range(os.getpid() * 61 % EACH):  # two runs of the tests beside each other begin elsewhere
    next(_ports)


def free_port() -> int:
    """A port free for TCP and for UDP, and below those that the kernel hands out: no connection of another takes it
    before it is listened on."""
    for port in itertools.islice(_ports, EACH):
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            try:
                stream.bind(("127.0.0.1", port))
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no free port from {_first} to {_first + EACH - 1}")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Daemon:
    """`start` returns once the daemon said READY=1; `ask` speaks to the control socket, `get` to the feed."""

    in_forks = False
    """Whether blocklistd runs in forks (`tests.system.forks`), as in the tests, or as the command, which the bench
    measures."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.path = folder / "blocklistd.yaml"
        self.feed_port = free_port()
        self.ops_port = free_port()
        self.config: dict[str, Any] = {
            "state_dir": "state",
            "control": {"socket": "c.sock", "operators": {USER: ["admin"]}},
            "keys": KEYS,
            # tests ask faster than a subscriber may
            "feed": {"listen": [f"127.0.0.1:{self.feed_port}"], "rate_limit": "off"},
            "ops": {"listen": [f"127.0.0.1:{self.ops_port}"], "log": {"level": "debug", "format": "json"}},
            **config,
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.prefix: list[str] = []
        """A command that runs the daemon's."""
        self.passed: list[tuple[str, socket.socket]] = []
        """Sockets that are passed to each start, with their names, as systemd passes those of socket units."""
        self.tree: Path | None = None
        """A folder with another copy of the package, which is run instead."""
        self.write_config()

    @property
    def log(self) -> str:
        return (self.folder / "daemon.log").read_text(errors="replace")

    def logged(self, text: str) -> int:
        """The number of messages of the log that contain the text. `log` has it in fields as well."""
        lines = (json.loads(line) for line in self.log.splitlines() if line.startswith("{"))
        return sum(text in line["message"] for line in lines)

    @property
    def root(self) -> Path:
        return self.folder / "root" / "root.json"

    def write_config(self) -> None:
        self.path.write_text(yaml.safe_dump(self.config, sort_keys=False))

    def cli(self, *arguments: str, stdin: bytes = b"", check: bool = True) -> subprocess.CompletedProcess[bytes]:
        if self.in_forks and self.tree is None:
            done = forks.run(arguments, stdin=stdin, timeout=ANSWER_WITHIN, env=os.environ)
        else:
            done = subprocess.run(
                [sys.executable, "-m", "blocklistd", *arguments],
                input=stdin,
                capture_output=True,
                timeout=ANSWER_WITHIN,
                check=False,
                cwd=self.tree,
            )
        if check:
            assert done.returncode == 0, done.stderr.decode()
        return done

    def init_keys(self) -> None:
        """Keys of its own, unless it has some."""
        if not self.root.exists():
            self.cli("keys", "init", "-c", str(self.path), "--root-out", str(self.root.parent))

    def _copy_keys(self) -> None:
        """Those that every daemon of the tests has which asked for none: `keys init` takes as long as a test."""
        if not self.root.exists() and self.config["keys"] == KEYS and self.config["state_dir"] == "state":
            for made in _made_keys().iterdir():
                shutil.copytree(made, self.folder / made.name, dirs_exist_ok=True)

    def launch(self, **environment: str) -> None:
        """Starts without waiting."""
        arguments, env = ["serve", "-c", str(self.path)], {**os.environ, **environment}
        numbers = [bound.fileno() for _, bound in self.passed]
        activated = [f"{name}:{bound.fileno()}" for name, bound in self.passed]
        prefix = [sys.executable, "-m", "tests.system.activated", ",".join(activated)] if activated else []
        with open(self.folder / "daemon.log", "ab") as log:
            if self.in_forks and not self.prefix and not prefix and self.tree is None:
                self.process = forks.Fork(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
            else:
                self.process = subprocess.Popen(
                    [*prefix, *self.prefix, sys.executable, "-m", "blocklistd", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=env,
                    cwd=self.tree,
                    start_new_session=True,
                    pass_fds=numbers,
                )

    def start(self) -> Self:
        self._copy_keys()
        self.init_keys()
        where = self.folder / "notify.sock"
        where.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(where))
            notified.settimeout(0.5)
            self.launch(NOTIFY_SOCKET=str(where))
            assert self.process is not None
            deadline = time.monotonic() + READY_WITHIN
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log[-3000:]}")
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in notified.recv(4096):
                        return self
        raise AssertionError(f"not ready within {READY_WITHIN} s:\n{self.log[-3000:]}")

    def wait_for(self, condition: Callable[[], bool], within: float = READY_WITHIN) -> None:
        """Looks again until it holds; for what the daemon does by itself and tells nobody."""
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"not within {within} s:\n{self.log[-3000:]}"
            threading.Event().wait(0.05)

    def kill(self) -> None:
        """kill -9 of the daemon alone; what it started has to notice by itself."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def kill_during(self, command: str, wait: float, **arguments: Any) -> None:
        """Gives a command, kills the daemon after `wait` seconds or once it has answered, and starts it again."""

        def ask() -> None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.ask(command, **arguments)

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(wait)
        self.kill()
        asking.join()
        self.start()

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(self, command: str, /, **arguments: Any) -> Answer:
        """One command on the control socket."""
        connection = http.client.HTTPConnection("localhost", timeout=ANSWER_WITHIN)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(ANSWER_WITHIN)
        connection.sock.connect(str(self.folder / "c.sock"))
        return _exchange(connection, "POST", "/" + command.replace(" ", "/"), {}, json.dumps(arguments).encode())

    def ask_as(self, user: str, command: str, /, **arguments: Any) -> Answer:
        """One command on the control socket, by another user of this machine. Needs root."""
        (self.folder / "c.sock").chmod(0o666)
        self.folder.chmod(0o711)
        body = json.dumps(arguments).encode()
        done = subprocess.run(
            ["/usr/bin/python3", "-c", ASK, "/" + command.replace(" ", "/")], input=body, capture_output=True,
            user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[], cwd=self.folder, check=True,
        )  # fmt: skip
        status, _, text = done.stdout.partition(b"\n")
        return Answer(int(status), {}, text)

    def first_pull(self, source: str) -> None:
        """Waits for the pull that a daemon makes by itself of a source that it never pulled."""
        self.wait_for(lambda: self.ask("source show", source=source).json["last_pull"] is not None)

    def pull(self, source: str) -> dict[str, Any]:
        answer = self.ask("source pull", source=source)
        assert answer.status == 200, answer.body
        outcome: dict[str, Any] = answer.json
        return outcome

    def approve(self, candidate: str) -> dict[str, Any]:
        answer = self.ask("candidate approve", candidate=candidate)
        assert answer.status == 200, answer.body
        released: dict[str, Any] = answer.json
        return released

    def subscriber(self, name: str, *lists: str) -> str:
        """A new subscriber's token."""
        answer = self.ask("subscriber add", id=name, lists=list(lists))
        assert answer.status == 200, answer.body
        return str(answer.json["token"])

    def get(self, path: str, token: str | None = None, method: str = "GET", **headers: str) -> Answer:
        """One request to the feed; header names with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.feed_port, timeout=ANSWER_WITHIN)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        return _exchange(connection, method, path, sent, None)

    def post(self, path: str, token: str, body: bytes) -> Answer:
        """One request with a body of JSON to the feed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.feed_port, timeout=ANSWER_WITHIN)
        sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        return _exchange(connection, "POST", path, sent, body)

    def ops(self, path: str) -> Answer:
        return _exchange(
            http.client.HTTPConnection("127.0.0.1", self.ops_port, timeout=ANSWER_WITHIN), "GET", path, {}, None
        )

    def snapshot(self, list_id: str, token: str) -> bytes:
        """The live snapshot as a subscriber gets it."""
        status = self.get(f"/v1/lists/{list_id}", token).json
        if not status["version"]:
            return b""
        return self.get(f"/v1/lists/{list_id}/targets/{status['sha256']}.{list_id}.ndjson", token).body


def exchange_https(port: int, path: str, token: str, trust: ssl.SSLContext) -> Answer:
    """One request to a feed with TLS."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=ANSWER_WITHIN, context=trust)
    return _exchange(connection, "GET", path, {"Authorization": f"Bearer {token}"}, None)


@functools.cache
def _made_keys() -> Path:
    """A folder with what `keys init` makes, once in each process of the tests."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    daemon = Daemon(folder, {"sources": {}, "lists": {}})
    daemon.init_keys()
    daemon.path.unlink()
    return folder


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, headers: Mapping[str, str], body: bytes | None
) -> Answer:
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

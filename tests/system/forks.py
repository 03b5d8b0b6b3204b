"""Runs blocklistd in forks of a server process that has imported everything: a start costs 30 ms instead of 2 s.

A fork behaves as `python -m blocklistd ARGUMENTS` does after its imports. It is a child of the test process and leads a
session of its own; it has the arguments, the environment and the files that it was given, and it ends as an interpreter
ends. Two things differ: /proc shows the server's command line, and more modules are imported. A test for which that
matters runs the command itself.

`multiprocessing` starts two more interpreters in a daemon: the forkserver of the jobs, and the resource tracker. Two
processes that were forked before the daemon began take their places. An interpreter that is started after these two is
a new one.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any, Final, NoReturn

from blocklistd.jobs import bare
from blocklistd.pipeline.rehearsal import rehearse

PR_SET_CHILD_SUBREAPER: Final = 36
LIMITS: Final = [value for name, value in vars(resource).items() if name.startswith("RLIMIT_")]
MESSAGE: Final = 2**17  # bytes of a request at most
LOWEST_COPY: Final = 500  # descriptors from here on are free in a process that has just been forked
LATE: Final = [
    *("alembic.command", "alembic.config", "apscheduler.executors.asyncio", "encodings.utf_8_sig", "importlib.readers"),
    *("multiprocessing.popen_forkserver", "multiprocessing.resource_tracker", "pyseccomp", "rich.table"),
    *("sqlalchemy.dialects.sqlite", "yaml", "_strptime"),
]
"""Modules that blocklistd, or a library, imports when it needs them."""

_asking: Final = threading.Lock()


class Fork(subprocess.Popen[bytes]):
    """A running `python -m blocklistd ARGUMENTS`. `args` are the arguments alone; `env` and the three files are as
    those of Popen, the other parameters are not supported."""

    def _execute_child(
        self,
        args: Sequence[str],
        executable: None,
        preexec_fn: None,
        close_fds: bool,
        pass_fds: Sequence[int],
        cwd: None,
        env: Mapping[str, str] | None,
        startupinfo: None,
        creationflags: int,
        shell: bool,
        *pipes_and_more: int,
    ) -> None:
        pipes = pipes_and_more[:6]
        given = [theirs if theirs >= 0 else number for number, theirs in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = json.dumps([list(args), dict(os.environ if env is None else env), os.getcwd()])
        with _asking:
            server = _server()
            # the process in between ends, and the fork becomes a child of the nearest ancestor that wants it
            _prctl(PR_SET_CHILD_SUBREAPER, 1)
            try:
                socket.send_fds(server, [request.encode()], given)
                self.pid = int(server.recv(MESSAGE))
            finally:
                _prctl(PR_SET_CHILD_SUBREAPER, 0)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run(
    arguments: Sequence[str], *, stdin: bytes = b"", timeout: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """`blocklistd ARGUMENTS` to its end. Raises subprocess.TimeoutExpired."""
    pipe = subprocess.PIPE
    with Fork(arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=env) as process:
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(["blocklistd", *arguments], process.returncode, out, err)


@functools.cache
def _server() -> socket.socket:
    """The connection to the server of this process of the tests. The server ends when it is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        number = theirs.fileno()
        subprocess.Popen(
            [sys.executable, "-m", __name__, str(number)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[number],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # what forks has one thread
            start_new_session=True,
        ).returncode = 0  # nobody waits for it
    return ours


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(f"prctl({option}) failed")


# -- the server --------------------------------------------------------------------------------------------------------


def _import_all() -> None:
    import blocklistd

    for module in pkgutil.walk_packages(blocklistd.__path__, "blocklistd."):
        if module.name != "blocklistd.store.migrations.env":  # alembic's, which runs it
            importlib.import_module(module.name)
    for name in LATE:
        importlib.import_module(name)
    rehearse()


def _forked(asked: socket.socket) -> tuple[bytes, list[int]]:
    """Answers each request with the pid of a fork; returns in the fork, with its request."""
    while True:
        request, files, _, _ = socket.recv_fds(asked, MESSAGE, 3)
        if not request:
            os._exit(0)
        told, tell = os.pipe()
        between = os.fork()
        if between == 0:
            if pid := os.fork():
                os.write(tell, str(pid).encode())
                os._exit(0)
            os.close(told)
            os.close(tell)
            asked.close()
            return request, files
        os.waitpid(between, 0)
        asked.send(os.read(told, 20))
        for number in (told, tell, *files):
            os.close(number)


def _become(request: bytes, files: list[int]) -> None:
    """Makes this fork what its request says."""
    arguments, environment, folder = json.loads(request)
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    main = importlib.import_module("blocklistd.__main__")
    sys.argv = [str(main.__file__), *arguments]
    sys.modules["__main__"] = main
    if "serve" in arguments:
        _take_places([_waiting(), _waiting()])


def _waiting() -> tuple[int, socket.socket]:
    """A process that waits until it is told which interpreter of `multiprocessing` it is."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        _wait(theirs)
    theirs.close()
    return pid, ours


def _take_places(waiting: list[tuple[int, socket.socket]]) -> None:
    start = util.spawnv_passfds

    def spawnv_passfds(path: bytes, args: Sequence[Any], passfds: Sequence[int]) -> int:
        if not waiting or "-c" not in args:
            return start(path, args, passfds)
        pid, asking = waiting.pop()
        with asking:
            request = json.dumps([args[-1], bare.environment(os.environ), list(passfds)])
            socket.send_fds(asking, [request.encode()], list(passfds))
        return pid

    util.spawnv_passfds = spawnv_passfds


def _wait(asked: socket.socket) -> NoReturn:
    """Runs the code that it is told, with what an interpreter inherits from the daemon: environment, umask, limits and
    the descriptors that are passed on, under their numbers."""
    request, files, _, _ = socket.recv_fds(asked, MESSAGE, 16)
    if not request:  # the daemon ended before
        os._exit(0)
    code, environment, numbers = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    parent = os.getppid()
    status = Path(f"/proc/{parent}/status").read_text()
    os.umask(int(status.partition("\nUmask:")[2].split()[0], 8))
    for which in LIMITS:
        resource.setrlimit(which, resource.prlimit(parent, which))
    copies = [fcntl.fcntl(file, fcntl.F_DUPFD, LOWEST_COPY) for file in files]
    asked.detach()
    os.closerange(3, LOWEST_COPY)
    for copy, number in zip(copies, numbers, strict=True):
        os.dup2(copy, number)
        os.close(copy)
    sys.argv = ["-c"]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    names: dict[str, Any] = vars(main)
    exec(code, names)
    sys.exit()


def _end(main: Callable[[], None]) -> NoReturn:
    """Runs `main`, and what an interpreter runs at its end, but for freeing each object of each module: 0.15 s."""
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)


if __name__ == "__main__":
    _import_all()
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the server's pages
    _become(*_forked(socket.socket(fileno=int(sys.argv[1]))))
    _end(sys.modules["__main__"].main)

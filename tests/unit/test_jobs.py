"""Jobs: a failure of one job is reported with its cause, and the next job works."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import signal
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from blocklistd.errors import JobError, VerifyError
from blocklistd.jobs import runner
from blocklistd.jobs.runner import CAUSES, Jobs
from blocklistd.jobs.sandbox import JobLimits, enter_filter
from blocklistd.limits import MIB
from blocklistd.ops.metrics import Metrics

ROOMY = JobLimits(wall=30.0)
TIGHT = JobLimits(wall=30.0, memory=256 * MIB, cpu=2, file=1 * MIB)


@pytest.fixture
def counted() -> Metrics:
    return Metrics()


@pytest.fixture
async def jobs(counted: Metrics) -> AsyncIterator[Jobs]:
    pool = Jobs(counted)
    yield pool
    await asyncio.to_thread(pool.close)


def add(a: int, b: int) -> int:
    return a + b


def refuse() -> None:
    raise VerifyError("the signature is of another body")


def stumble(secret: str) -> None:
    raise KeyError(secret)


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def eat_memory() -> int:
    return len(b"x" * (1024 * MIB))


def begin_to_answer() -> None:
    others = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]  # the listing's own among them
    answer = next(
        one for one in others if os.path.exists(f"/proc/self/fd/{one}") and stat.S_ISFIFO(os.fstat(one).st_mode)
    )
    os.write(answer, b"\0\0\0\5{")
    time.sleep(3600)


def loop_for_ever() -> None:
    while True:
        pass


def sleep_for_ever() -> None:
    time.sleep(3600)


def write_much(path: str) -> None:
    with open(path, "wb") as file:
        enter_filter()
        for _ in range(64):
            file.write(b"x" * MIB)


def chatter() -> str:
    return "x" * (4 * MIB)


def open_socket() -> None:
    enter_filter()
    socket.socket()


def listen() -> None:
    enter_filter(network=True)
    socket.socket().listen()


def speak(port: int, path: str) -> list[str]:
    """A transport in a job: connects to a port, and tries sockets of other families and a file."""
    enter_filter(network=True)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"hello")
    said = []
    for family in (socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET, 63, 64, 2**31 - 1):
        try:
            socket.socket(family)
        except OSError as error:
            said.append(f"{family}: {error.strerror}")
    try:
        with open(path) as file:
            said.append(file.read())
    except OSError as error:
        said.append(f"file: {error.strerror}")
    return said


def open_file(path: str) -> str:
    enter_filter()
    try:
        with open(path) as file:
            return file.read()
    except OSError as error:
        return f"refused: {error.strerror}"


def start_thread() -> None:
    enter_filter()
    threading.Thread(target=int).start()


def look_for(backwards: str) -> list[str]:
    """Finds `SECRET=` with a text in the environment or the memory of this process. The text is passed backwards, so
    that the call itself does not put it there."""
    found = []
    if backwards.encode() in Path("/proc/self/environ").read_bytes()[::-1]:
        found.append("the environment")
    with open("/proc/self/mem", "rb", 0) as memory:
        for line in Path("/proc/self/maps").read_text().splitlines():
            at, rights, *_ = line.split()
            begin, end = (int(edge, 16) for edge in at.split("-"))
            if not rights.startswith("rw"):
                continue
            memory.seek(begin)
            with contextlib.suppress(OSError):
                content = memory.read(end - begin)
                ends = [name.end() for name in re.finditer(b"SECRET=", content)]
                found += [line for place in ends if content[place : place + len(backwards)][::-1] == backwards.encode()]
    return found


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def start_process() -> None:
    enter_filter()
    os.fork()


def signal_parent(pid: int) -> None:
    enter_filter()
    os.kill(pid, 0)


def io_uring() -> None:
    enter_filter()
    ctypes.CDLL(None).syscall(425, 8, 0)


def compute(path: str) -> int:
    """Works like an intake job: opens all files before it enters the filter."""
    with open(path, "r+b") as file:
        enter_filter()
        total = sum(file.read())
        file.write(b"more")
        os.fsync(file.fileno())
        return total


async def test_a_job_returns_its_result(jobs: Jobs) -> None:
    assert await jobs.run(add, 2, 3, limits=ROOMY) == 5


def hold_memory() -> int:
    return len(bytearray(b"x" * (200 * MIB)))


async def test_the_time_and_memory_of_a_job_are_measured(jobs: Jobs, counted: Metrics) -> None:
    await jobs.run(hold_memory, limits=ROOMY)
    peak = counted.registry.get_sample_value("blocklistd_job_peak_memory_bytes", {"job": "hold_memory"})
    assert peak is not None
    assert 200 * MIB < peak < 1024 * MIB
    assert counted.registry.get_sample_value("blocklistd_job_seconds_count", {"job": "hold_memory"}) == 1


async def test_an_error_that_the_work_raises_is_not_counted_as_a_death(jobs: Jobs, counted: Metrics) -> None:
    with pytest.raises(VerifyError):
        await jobs.run(refuse, limits=ROOMY)
    assert not counted.registry.get_sample_value("blocklistd_job_failures_total", {"cause": "failed"})


async def test_a_blocklistd_error_keeps_its_class_and_text(jobs: Jobs) -> None:
    with pytest.raises(VerifyError, match="another body"):
        await jobs.run(refuse, limits=ROOMY)


async def test_other_errors_show_their_line_and_not_their_text(jobs: Jobs) -> None:
    with pytest.raises(JobError, match=r"KeyError at test_jobs.py:\d+") as raised:
        await jobs.run(stumble, "https://listed.example/", limits=ROOMY)
    assert "listed" not in str(raised.value)


@pytest.mark.parametrize(
    ("work", "arguments", "limits", "says", "cause"),
    [
        (crash, (), ROOMY, "SIGSEGV", "crashed"),
        (leave, (), ROOMY, "without a result", "exit"),
        (stumble, ("x",), ROOMY, "KeyError", "failed"),
        (eat_memory, (), TIGHT, "more than its 268435456 bytes of memory", "memory"),
        (loop_for_ever, (), TIGHT, "SIGXCPU: it used more than 2 s of processor time", "processor"),
        (start_thread, (), TIGHT, "SIGSYS", "forbidden"),
        (sleep_for_ever, (), JobLimits(wall=0.5), "longer than 0.5 s", "time"),
        (begin_to_answer, (), JobLimits(wall=0.5), "longer than 0.5 s", "time"),
        (chatter, (), ROOMY, "can't be read", "answer"),
        (open_socket, (), TIGHT, "SIGSYS", "forbidden"),
        (start_process, (), TIGHT, "SIGSYS", "forbidden"),
        (io_uring, (), TIGHT, "SIGSYS", "forbidden"),
        (listen, (), TIGHT, "SIGSYS", "forbidden"),
    ],
)
async def test_a_job_that_fails_raises_a_job_error_with_its_cause(
    jobs: Jobs,
    counted: Metrics,
    work: object,
    arguments: tuple[object, ...],
    limits: JobLimits,
    says: str,
    cause: str,
) -> None:
    with pytest.raises(JobError, match=says):
        await jobs.run(work, *arguments, limits=limits)  # type: ignore[arg-type]
    deaths = {
        name: counted.registry.get_sample_value("blocklistd_job_failures_total", {"cause": name}) for name in CAUSES
    }
    assert [name for name, count in deaths.items() if count and re.fullmatch(cause, name)], deaths
    assert sum(count or 0 for count in deaths.values()) == 1
    assert await jobs.run(add, 1, 1, limits=ROOMY) == 2, "the next job works"


async def test_a_job_does_not_have_the_daemons_environment(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The forkserver is started by a daemon whose environment contains a secret."""
    await jobs.run(add, 1, 1, limits=ROOMY)
    os.kill(server(), signal.SIGKILL)
    await asyncio.to_thread(os.waitid, os.P_PID, server(), os.WEXITED | os.WNOWAIT)
    secret = "a-token-of-a-hotline"
    monkeypatch.setenv("HOTLINE_SECRET", secret)
    assert await jobs.run(look_for, secret[::-1], limits=ROOMY) == []
    assert "HOTLINE_SECRET" not in environment_of(server())


async def test_the_size_of_a_file_is_limited(jobs: Jobs, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="SIGXFSZ: it wrote a file of more than 1048576 bytes"):
        await jobs.run(write_much, str(tmp_path / "out"), limits=TIGHT)
    assert (tmp_path / "out").stat().st_size <= MIB


async def test_in_the_sandbox_opening_files_and_signals_are_forbidden(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "online.pem").write_text("a key")
    assert await jobs.run(open_file, str(tmp_path / "online.pem"), limits=TIGHT) == "refused: Permission denied"
    with pytest.raises(JobError, match="SIGSYS"):
        await jobs.run(signal_parent, os.getpid(), limits=TIGHT)


async def test_a_job_that_fetches_has_only_ip_sockets(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "online.pem").write_text("a key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        said = await jobs.run(speak, server.getsockname()[1], str(tmp_path / "online.pem"), limits=TIGHT)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(5) == b"hello"
    assert len(said) == 7
    assert {line.partition(": ")[2] for line in said} == {"Permission denied"}


async def test_in_the_sandbox_open_files_can_be_read_and_written(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"\x01\x02")
    assert await jobs.run(compute, str(tmp_path / "body"), limits=TIGHT) == 3
    assert (tmp_path / "body").read_bytes() == b"\x01\x02more"


async def test_a_job_that_hangs_does_not_block_others(jobs: Jobs) -> None:
    hanging = asyncio.ensure_future(jobs.run(sleep_for_ever, limits=ROOMY))
    assert await jobs.run(add, 1, 2, limits=ROOMY) == 3
    assert not hanging.done()
    await asyncio.to_thread(jobs.close)
    with pytest.raises(JobError):
        await hanging


async def test_close_does_not_wait_for_a_job_that_starts_meanwhile(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    await jobs.run(add, 1, 2, limits=ROOMY)
    starting, go_on = threading.Event(), threading.Event()
    start = ForkServerProcess.start

    def slowly(process: ForkServerProcess) -> None:
        starting.set()
        go_on.wait(30)
        start(process)

    monkeypatch.setattr(ForkServerProcess, "start", slowly)
    running = asyncio.ensure_future(jobs.run(sleep_for_ever, limits=ROOMY))
    await asyncio.to_thread(starting.wait, 30)
    closing = asyncio.ensure_future(asyncio.to_thread(jobs.close))
    while not jobs._threads._shutdown:  # noqa: ASYNC110 - a pool has no event for that
        await asyncio.sleep(0.01)
    go_on.set()
    async with asyncio.timeout(10):
        await closing
    with pytest.raises(
        JobError, match=r"SIGKILL|could not be started"
    ):  # the forkserver was killed before the job started, or after
        await running


def server() -> int:
    """The pid of the forkserver."""
    from multiprocessing import forkserver

    pid: int = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid


async def begun(jobs: Jobs, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A job that is being started."""
    task = asyncio.ensure_future(work)

    def wait() -> None:
        while not jobs._starting:
            time.sleep(0.001)

    await asyncio.to_thread(wait)
    return task


async def test_work_for_a_closed_runner_is_cancelled(jobs: Jobs) -> None:
    """As is work that waits when it closes: a task that comes to a job while the daemon stops reports no fault."""
    jobs.close()
    with pytest.raises(asyncio.CancelledError):
        await jobs.run(add, 2, 3, limits=ROOMY)
    assert jobs.unfinished == 0


async def test_a_forkserver_that_hangs_is_replaced(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await jobs.run(add, 1, 2, limits=ROOMY) == 3
    os.kill(server(), signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(runner, "JOB_START", 0.5)
        with pytest.raises(JobError, match="could not be started"):
            await jobs.run(add, 1, 2, limits=ROOMY)
    assert await jobs.run(add, 1, 2, limits=ROOMY) == 3, "by another forkserver"


async def test_close_does_not_wait_for_a_forkserver_that_hangs(jobs: Jobs) -> None:
    assert await jobs.run(add, 1, 2, limits=ROOMY) == 3
    os.kill(server(), signal.SIGSTOP)
    starting = await begun(jobs, jobs.run(add, 1, 2, limits=ROOMY))
    async with asyncio.timeout(20):
        await asyncio.to_thread(jobs.close)
        with pytest.raises(JobError, match="could not be started"):
            await starting


async def test_warm_survives_the_death_of_the_forkserver(jobs: Jobs) -> None:
    assert await jobs.run(add, 1, 2, limits=ROOMY) == 3
    stopped = server()
    os.kill(stopped, signal.SIGSTOP)
    warming = await begun(jobs, jobs.warm())
    os.kill(stopped, signal.SIGKILL)
    await warming
    await asyncio.to_thread(os.waitid, os.P_PID, stopped, os.WEXITED | os.WNOWAIT)
    assert await jobs.run(add, 1, 2, limits=ROOMY) == 3

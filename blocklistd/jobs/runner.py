"""Runs jobs: a job is a function in a process of its own, whose result the event loop awaits.

The processes are forks of the forkserver, which has imported everything (a fork takes about 10 ms). A job sends its
result as JSON, never as a pickle, since a job that reads hostile bytes is not trusted. States of a job in `Jobs`:

    waiting    in `unfinished`, until one of MAX_JOBS threads is free
    starting   in `_starting`, for at most JOB_START seconds; then the forkserver is killed and the job fails
    running    in `_running`, for at most JobLimits.wall seconds; then the process is killed and the job fails
    ended      with a result, or with an error of errors.py; the cause of a JobError is one of CAUSES

Order of calls: `warm` once, `run` for each job, `close` at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, Final

import orjson

from blocklistd import errors
from blocklistd.errors import BlocklistError, ConfigError, JobError
from blocklistd.events import Event
from blocklistd.jobs import sandbox
from blocklistd.jobs.sandbox import JobLimits
from blocklistd.limits import JOB_START, MAX_JOB_REPORT, MAX_JOBS
from blocklistd.telemetry import NO_TELEMETRY, Telemetry

log: Final = logging.getLogger(__name__)

PRELOAD: Final = [
    "blocklistd.jobs.bare",
    "minisign",
    "blocklistd.sources.intake.job",
    "blocklistd.sources.intake.check",
    "blocklistd.sources.intake.bulk",
    "blocklistd.sources.intake.rejects",
    "blocklistd.pipeline.commit",
    "blocklistd.pipeline.counting",
    "blocklistd.pipeline.dry_run_job",
    "blocklistd.pipeline.zone_job",
    "blocklistd.store.backups",
    "blocklistd.store.render",
    "blocklistd.pipeline.rehearsal",
]
_SIGNALS: Final = {"SIGSYS": "forbidden", "SIGXCPU": "processor", "SIGXFSZ": "file", "SIGKILL": "killed"}
CAUSES: Final = ("failed", "memory", "time", "exit", "answer", "crashed", *_SIGNALS.values())
"""The causes of a JobError. Only the daemon sets them: a job's own words are not trusted."""


class Jobs:
    """The forkserver and the threads that wait for its children, the jobs."""

    def __init__(self, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._telemetry = telemetry
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self._threads = ThreadPoolExecutor(MAX_JOBS, thread_name_prefix="job")
        self._starting: set[ForkServerProcess] = set()
        self._running: set[ForkServerProcess] = set()
        self._closed = False
        self.unfinished = 0
        """How many jobs run or wait."""

    async def warm(self) -> None:
        """Starts the forkserver, so that the first pull does not wait for its imports. If that fails, the error is
        logged and the next job starts another forkserver."""
        try:
            await self.run(_noop, limits=JobLimits(wall=JOB_START))
        except JobError as error:
            Event.JOB_SERVER_FAILED.log(log, reason=error)

    async def run(self, work: Callable[..., Any], *arguments: Any, limits: JobLimits) -> Any:
        """Runs `work(*arguments)` in a job and returns its result.

        `work`: a function at the top of a module, with a result that orjson can write. One that reads hostile bytes
        enters the system call filter itself (sandbox.enter_filter), after it has opened its files. Raises the
        BlocklistError that `work` raised, or JobError if the job crashed or exceeded a limit; CancelledError if the
        runner is closed, as for work that waits when it closes.
        """
        if self._closed:
            raise asyncio.CancelledError
        loop = asyncio.get_running_loop()
        self.unfinished += 1
        began = time.perf_counter()
        try:
            value, peak = await loop.run_in_executor(self._threads, self._run, work, arguments, limits)
            self._telemetry.record_job(_name(work), time.perf_counter() - began, peak)
            return value
        except JobError as error:
            self._telemetry.record_job_failure(error.cause)
            raise
        finally:
            self.unfinished -= 1

    @property
    def running(self) -> int:
        """How many jobs have a process."""
        return len(self._running)

    def _run(self, work: Callable[..., Any], arguments: tuple[Any, ...], limits: JobLimits) -> tuple[Any, int]:
        receive, send = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(send, work, arguments, limits), daemon=True)
        start_timeout = threading.Timer(JOB_START, _kill_server)
        with receive:
            try:
                self._starting.add(process)
                start_timeout.start()
                process.start()
                self._running.add(process)
            except (OSError, EOFError) as error:
                start_timeout.cancel()
                start_timeout.join()  # a forkserver that it has killed is dead then
                raise JobError(
                    f"the job could not be started ({type(error).__name__}): the forkserver died or hung, or there is "
                    f"no memory for another process; the next job starts another forkserver"
                ) from None
            finally:
                start_timeout.cancel()
                self._starting.discard(process)
                send.close()
            if self._closed:  # it started after `close` had killed the running jobs
                _kill(process)
            try:
                return _answer(process, receive, limits)
            finally:
                if process.is_alive():
                    process.kill()
                process.join()
                self._running.discard(process)
                process.close()

    def close(self) -> None:
        """Kills all jobs and waits for the threads. Only uncommitted work is lost."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in list(self._running):
            _kill(process)
        if self._starting:
            _kill_server()  # ends the start of these jobs, even if the forkserver hangs
        self._threads.shutdown()


def _kill_server() -> None:
    """Kills the forkserver: the start of a job then fails, and the next job starts another forkserver. Returns when it
    is dead: until then `multiprocessing` would go on using it."""
    pid = getattr(forkserver._forkserver, "_forkserver_pid", None)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _kill(process: ForkServerProcess) -> None:
    with contextlib.suppress(ValueError):  # it has just ended, and its thread has closed it
        process.kill()


def _answer(process: ForkServerProcess, receive: Connection, limits: JobLimits) -> tuple[Any, int]:
    """Waits for the job's result; returns it and the job's maximum resident memory in bytes."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(process)

    # The time limit covers the whole result: a job may begin to send it and hang.
    timer = threading.Timer(limits.wall, stop)
    timer.start()
    try:
        answer = orjson.loads(receive.recv_bytes(MAX_JOB_REPORT))
    except (EOFError, OSError, orjson.JSONDecodeError) as error:  # OSError: the result is incomplete or too long
        if late.is_set():
            raise JobError(f"the job took longer than {limits.wall:g} s and was stopped", "time") from None
        if not isinstance(error, EOFError):
            raise JobError("the job's result can't be read: the job was stopped", "answer") from None
        process.join(5)
        raise _death(process.exitcode, limits) from None
    finally:
        timer.cancel()
    if not isinstance(answer, dict):
        raise JobError("the job's result can't be read: the job was stopped", "answer")
    if "value" in answer:
        peak = answer.get("peak")
        return answer["value"], min(peak, 2**48) if isinstance(peak, int) and peak > 0 else 0
    if answer.get("error") == "MemoryError":
        raise JobError(f"the job needed more than its {limits.memory} bytes of memory", "memory")
    kind = getattr(errors, str(answer.get("error")), JobError)
    if not (isinstance(kind, type) and issubclass(kind, BlocklistError)) or kind is ConfigError:
        kind = JobError
    raise kind(str(answer.get("text")))


def _death(exitcode: int | None, limits: JobLimits) -> JobError:
    """The error for a job that ended without a result."""
    if exitcode is None or exitcode >= 0:
        return JobError(f"the job ended without a result (exit code {exitcode})", "exit")
    name = signal.Signals(-exitcode).name
    why = {
        "SIGSYS": "it made a system call that the sandbox forbids",
        "SIGXCPU": f"it used more than {limits.cpu} s of processor time",
        "SIGXFSZ": f"it wrote a file of more than {limits.file} bytes",
        "SIGKILL": "it was killed: perhaps no memory was left",
    }.get(name, "it crashed")
    return JobError(f"the job died of {name}: {why}", _SIGNALS.get(name, "crashed"))


def _child(send: Connection, work: Callable[..., Any], arguments: tuple[Any, ...], limits: JobLimits) -> None:
    """Runs the job in its process. An unexpected error is sent with its type and line only, since its text could
    contain an entry."""
    try:
        sandbox.close_inherited(send.fileno())
        sandbox.confine(limits)
        answer: dict[str, Any] = {"value": work(*arguments)}
        answer["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    except BlocklistError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    except MemoryError:
        answer = {"error": "MemoryError"}
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        answer = {
            "error": "JobError",
            "text": f"the job failed: {type(error).__name__} at {os.path.basename(place.filename)}:{place.lineno}",
        }
    try:
        send.send_bytes(orjson.dumps(answer))
    finally:
        send.close()
        sys.stdout.flush()
        os._exit(0)  # without cleanup, which the filter would forbid


def _name(work: Callable[..., Any]) -> str:
    """The name of a job in metrics: its function's, without `job`."""
    return work.__name__.strip("_").removeprefix("job_").removesuffix("_job")


def _noop() -> None:
    """A job that does nothing: starting it starts the forkserver."""

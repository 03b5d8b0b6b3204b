"""Spreads the parts of a job's work over several processes, and returns their results in order.

One Python process computes on one core; a first load of millions of entries can use all cores. The processes are forks
of the job, so they have its memory and mapped files, and may already be in the sandbox. Steps of a process: fork,
`prepare`, wait for the number of parts on a pipe, send its results (of every `count`-th part) on another pipe, end.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson

from blocklistd import errors
from blocklistd.errors import BlocklistError, JobError
from blocklistd.jobs.sandbox import LARGE_WORK, die_with_parent, lower_priority
from blocklistd.lines.delta import DeltaPart

Answer = tuple[dict[str, Any], bytes]
"""The result of one part: figures that orjson can write, and data."""
Work = Callable[[int], Answer]
"""Computes the part with this number (from 0)."""

_GO: Final = struct.Struct("!Q")  # to a process: the number of parts
_FRAME: Final = struct.Struct("!IQ")  # from a process, before each result: lengths in bytes of figures and data
_PIPE: Final = 1 << 20  # bytes: the most that Linux gives a pipe of an unprivileged process


def processes() -> int:
    """The number of cores on which this process may run."""
    return len(os.sched_getaffinity(0))


@contextmanager
def spread(
    work: Work, count: int, prepare: Callable[[], None] = lambda: None
) -> Iterator[Callable[[int], Iterator[Answer]]]:
    """Forks `count` processes, each of which runs `prepare` and waits. With a count of 1 nothing is forked.

    Yields a function that takes a number of parts, makes the processes compute these, and yields their results in the
    order of the parts. It raises the BlocklistError that `work` raised, or JobError if a process failed or died.
    """
    if count <= 1:
        yield lambda parts: map(work, range(parts))
        return
    ends: list[tuple[int, int]] = []  # of each process: the end to write the number of parts, the end to read results
    pids: list[int] = []
    for number in range(count):
        go_read, go_write = os.pipe()
        result_read, result_write = os.pipe()
        pid = os.fork()
        if not pid:
            for descriptor in (go_write, result_read, *(one for pair in ends for one in pair)):
                os.close(descriptor)
            _run_process(work, number, count, go_read, result_write, prepare)
        os.close(go_read)
        os.close(result_write)
        ends.append((go_write, result_read))
        pids.append(pid)
    try:
        yield lambda parts: _answers(ends, parts)
    finally:
        for pair in ends:
            for descriptor in pair:
                os.close(descriptor)
    for pid in pids:  # not after an error: they die with this process, which in the sandbox may not kill them
        os.waitpid(pid, 0)


def in_processes(work: Callable[[int], DeltaPart], parts: int) -> Iterator[DeltaPart]:
    """Computes the parts of a delta in as many processes as there are cores (a `lines.delta.Spread`)."""

    def answer(number: int) -> Answer:
        part = work(number)
        return {"removed": part.removed, "added": part.added, "changed": part.changed}, part.data

    with spread(answer, min(parts, processes())) as answers:
        for figures, data in answers(parts):
            yield DeltaPart(data, **figures)


def _answers(ends: list[tuple[int, int]], parts: int) -> Iterator[Answer]:
    for go_write, _ in ends:
        os.write(go_write, _GO.pack(parts))
    for part in range(parts):
        result_read = ends[part % len(ends)][1]
        figures, data = _FRAME.unpack(_read(result_read, _FRAME.size))
        found = orjson.loads(_read(result_read, figures))
        if "error" in found:
            kind = getattr(errors, str(found["error"]), JobError)
            raise kind(str(found["text"]))
        yield found["figures"], _read(result_read, data)


def _read(descriptor: int, size: int) -> bytes:
    chunks = []
    while size:
        chunks.append(os.read(descriptor, min(size, _PIPE)))
        if not chunks[-1]:
            raise JobError("a process of the job died: perhaps no memory was left")
        size -= len(chunks[-1])
    return b"".join(chunks)


def _run_process(
    work: Work, number: int, count: int, go_read: int, result_write: int, prepare: Callable[[], None]
) -> None:
    """Runs a forked process to its end. An unexpected error is sent with its type and line only, since its text could
    contain an entry."""
    try:
        die_with_parent()
        lower_priority(LARGE_WORK)
        with contextlib.suppress(OSError):
            fcntl.fcntl(result_write, fcntl.F_SETPIPE_SZ, _PIPE)
        prepare()
        go = os.read(go_read, _GO.size)
        for part in range(number, _GO.unpack(go)[0] if go else 0, count):
            figures, data = work(part)
            _send(result_write, {"figures": figures}, data)
    except BlocklistError as error:
        _send(result_write, {"error": type(error).__name__, "text": str(error)})
    except MemoryError:
        _send(result_write, {"error": "JobError", "text": "the job needed more memory than it may have"})
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {os.path.basename(place.filename)}:{place.lineno}"
        with contextlib.suppress(OSError):
            _send(result_write, {"error": "JobError", "text": f"the job failed: {where}"})
    finally:
        os._exit(0)


def _send(descriptor: int, found: dict[str, Any], data: bytes = b"") -> None:
    """Writes a frame, the figures and the data to the pipe."""
    figures = orjson.dumps(found)
    for block in (_FRAME.pack(len(figures), len(data)) + figures, data):
        view = memoryview(block)
        while view:
            view = view[os.write(descriptor, view) :]

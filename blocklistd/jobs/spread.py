"""One computation over several processes, for a job whose work has many parts: forks of it, the answers in order.

The interpreter computes on one core; a first load of millions of entries has another to use. A fork sees all that the
job has in memory and mapped, so nothing is sent to it but the word to begin, and it may be in the sandbox by then.
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
from blocklistd.jobs.sandbox import die_with_parent, give_way
from blocklistd.lines.delta import Part

Answer = tuple[dict[str, Any], bytes]
"""Figures that orjson can write, and data."""
Work = Callable[[int], Answer]
"""Answers one part by its number."""

_GO: Final = struct.Struct("!Q")
_FRAME: Final = struct.Struct("!IQ")
NICE: Final = 10  # large work gives way to small work, and to the event loop
_PIPE: Final = 1 << 20  # bytes, as much as Linux lets anyone have


def processes() -> int:
    """As many as there are cores to run on."""
    return len(os.sched_getaffinity(0))


@contextmanager
def spread(
    work: Work, count: int, prepare: Callable[[], None] = lambda: None
) -> Iterator[Callable[[int], Iterator[Answer]]]:
    """Forks `count` processes, each of which runs `prepare` and waits; the block is given a function that sets them to
    work on so many parts and yields the answers in the order of the parts. With a count of 1 nothing is forked.

    Raises what the work raised, or JobError where a process died of it.
    """
    if count <= 1:
        yield lambda parts: map(work, range(parts))
        return
    ends: list[tuple[int, int]] = []  # where a process is told, where it answers
    pids: list[int] = []
    for number in range(count):
        told, tell = os.pipe()
        answer, answering = os.pipe()
        pid = os.fork()
        if not pid:
            for descriptor in (tell, answer, *(one for pair in ends for one in pair)):
                os.close(descriptor)
            _live(work, number, count, told, answering, prepare)
        os.close(told)
        os.close(answering)
        ends.append((tell, answer))
        pids.append(pid)
    try:
        yield lambda parts: _answers(ends, parts)
    finally:
        for pair in ends:
            for descriptor in pair:
                os.close(descriptor)
    for pid in pids:  # after an error they are left to die with this process: in the sandbox it may not kill
        os.waitpid(pid, 0)


def in_processes(work: Callable[[int], Part], parts: int) -> Iterator[Part]:
    """`lines.delta.Spread` over as many processes as there are cores."""

    def answer(number: int) -> Answer:
        part = work(number)
        return {"removed": part.removed, "added": part.added, "changed": part.changed}, part.data

    with spread(answer, min(parts, processes())) as answers:
        for figures, data in answers(parts):
            yield Part(data, **figures)


def _answers(ends: list[tuple[int, int]], parts: int) -> Iterator[Answer]:
    for tell, _ in ends:
        os.write(tell, _GO.pack(parts))
    for part in range(parts):
        answer = ends[part % len(ends)][1]
        figures, data = _FRAME.unpack(_read(answer, _FRAME.size))
        found = orjson.loads(_read(answer, figures))
        if "error" in found:
            kind = getattr(errors, str(found["error"]), JobError)
            raise kind(str(found["text"]))
        yield found["figures"], _read(answer, data)


def _read(descriptor: int, size: int) -> bytes:
    pieces = []
    while size:
        pieces.append(os.read(descriptor, min(size, _PIPE)))
        if not pieces[-1]:
            raise JobError("a process of the job died: perhaps no memory was left")
        size -= len(pieces[-1])
    return b"".join(pieces)


def _live(work: Work, number: int, count: int, told: int, answering: int, prepare: Callable[[], None]) -> None:
    """The whole life of a forked process. Errors name types and places: a message could hold what it was reading."""
    try:
        die_with_parent()
        give_way(NICE)
        with contextlib.suppress(OSError):
            fcntl.fcntl(answering, fcntl.F_SETPIPE_SZ, _PIPE)
        prepare()
        said = os.read(told, _GO.size)
        for part in range(number, _GO.unpack(said)[0] if said else 0, count):
            figures, data = work(part)
            _send(answering, {"figures": figures}, data)
    except BlocklistError as error:
        _send(answering, {"error": type(error).__name__, "text": str(error)})
    except MemoryError:
        _send(answering, {"error": "JobError", "text": "the job needed more memory than it may have"})
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {os.path.basename(place.filename)}:{place.lineno}"
        with contextlib.suppress(OSError):
            _send(answering, {"error": "JobError", "text": f"the job failed: {where}"})
    finally:
        os._exit(0)


def _send(descriptor: int, found: dict[str, Any], data: bytes = b"") -> None:
    figures = orjson.dumps(found)
    for piece in (_FRAME.pack(len(figures), len(data)) + figures, data):
        view = memoryview(piece)
        while view:
            view = view[os.write(descriptor, view) :]

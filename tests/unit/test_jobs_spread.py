"""The parts of a job in several processes: results come in order, and a failure of one process fails the job."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pyseccomp
import pytest

from blocklistd.errors import JobError, ParseError
from blocklistd.jobs.sandbox import enter_filter
from blocklistd.jobs.spread import Answer, spread


def square(part: int) -> Answer:
    return {"part": part, "pid": os.getpid()}, b"%d" % part**2 * (part * 50_000)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("parts", [0, 1, 7])
def test_results_come_in_the_order_of_the_parts(count: int, parts: int) -> None:
    with spread(square, count) as answers:
        found = list(answers(parts))
    assert [(figures["part"], data) for figures, data in found] == [(part, square(part)[1]) for part in range(parts)]
    elsewhere = {figures["pid"] for figures, _ in found} - {os.getpid()}
    assert len(elsewhere) == (min(count, parts) if count > 1 else 0)


def children() -> set[str]:
    """The processes that this one has started and not waited for."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_processes_without_work_end() -> None:
    before = children()
    with spread(square, 2):
        assert len(children() - before) == 2
    assert children() <= before


def refuse(part: int) -> Answer:
    raise ParseError("a header without a column")


def stumble(part: int) -> Answer:
    raise KeyError("listed.example")


def die(part: int) -> Answer:
    os._exit(9)


@pytest.mark.parametrize(
    ("work", "error", "text"),
    [
        (refuse, ParseError, "^a header without a column$"),
        (stumble, JobError, r"^the job failed: KeyError at test_jobs_spread.py:\d+$"),
        (die, JobError, "a process of the job died"),
    ],
)
def test_a_failure_in_a_process_is_raised_in_the_job(
    work: Callable[[int], Answer], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text), spread(work, 2) as answers:
        list(answers(4))


def test_each_process_enters_the_sandbox_before_its_work(tmp_path: Path) -> None:
    def look(part: int) -> Answer:
        try:
            open(tmp_path / "file", "wb").close()
        except OSError as error:
            return {"refused": error.strerror}, b""
        return {}, b""

    with spread(look, 2, enter_filter) as answers:
        assert [figures for figures, _ in answers(2)] == [{"refused": "Permission denied"}] * 2


def test_processes_work_without_the_right_to_lower_their_priority() -> None:
    """As under a service manager that denies `setpriority`."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
            rules.add_rule(pyseccomp.ERRNO(errno.EPERM), "setpriority")
            rules.load()
            with spread(square, 2) as answers:
                code = 0 if len(list(answers(3))) == 3 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

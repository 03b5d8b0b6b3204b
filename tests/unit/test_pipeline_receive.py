"""A job that a body has taken over: its pull fails as the job's fault, nothing live changes, and the next one recovers.

What such a job answers and leaves is made here; what checks it is the real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blocklistd.errors import ParseError
from blocklistd.jobs.runner import Jobs
from blocklistd.model import Outcome
from blocklistd.pipeline.pull import Pipeline
from blocklistd.sources.intake.job import IntakeRequest, intake
from blocklistd.sources.transports.transport import Request
from tests.unit.test_pipeline_pull import hotline, pipeline_of, releases_of
from tests.versions_of import NOW, Versions

Answer = dict[str, Any]
Hostile = Callable[[IntakeRequest, Answer], object]


class TakenOver(Jobs):
    """The intake job does its work, and then what `hostile` says, to its files and to its answer."""

    hostile: Hostile | None = None
    earlier = 0

    async def run(self, work: Callable[..., Any], *arguments: Any, limits: Any) -> Any:
        answer = await super().run(work, *arguments, limits=limits)
        if work is intake:
            (request,) = arguments
            self.earlier += request.earlier is not None
            if self.hostile is not None:
                said = await asyncio.to_thread(self.hostile, request, answer)
                return answer if said is None else said
        return answer


class Place:
    def __init__(self, folder: Path) -> None:
        self.body = folder / "list.txt"
        self.versions, self.jobs = Versions(folder / "state"), TakenOver()
        url = f"file:{self.body}"
        request = Request(url, None, timeout=30, max_bytes=10**6)
        self.source = replace(hotline("hotline", url), request=lambda validators: request)
        releases = releases_of(self.versions, self.source)
        self.pipeline: Pipeline = pipeline_of(self.versions, releases, self.jobs)
        self.now = NOW

    async def pull(self, *names: str) -> tuple[Outcome, str | None]:
        self.now += timedelta(minutes=1)
        self.pipeline._clock = lambda: self.now
        self.body.write_text("".join(f"{name}\n" for name in names))
        pull = await self.pipeline.pull(self.source.id)
        return pull.outcome, pull.reason


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(tmp_path)
    yield made
    await asyncio.to_thread(made.jobs.close)
    made.versions.close()


def lines(*values: str, type: str = "domain") -> bytes:
    return b"".join(b'{"type":"%b","value":"%b"}\n' % (type.encode(), value.encode()) for value in values)


def says(**part: object) -> Hostile:
    return lambda request, answer: answer | part


def writes(content: bytes, **part: object) -> Hostile:
    def work(request: IntakeRequest, answer: Answer) -> Answer:
        request.patch.write_bytes(b"")
        request.canonical.write_bytes(content)
        return answer | {"result_form": "canonical"} | part

    return work


def adds(line: bytes, *, removes: bytes = b"", **part: object) -> Hostile:
    def work(request: IntakeRequest, answer: Answer) -> Answer:
        assert request.earlier is not None
        header = b'{"base":"%b"}\n' % request.earlier.base_digest.encode()
        gone = b'{"remove":%b}\n' % removes if removes else b""
        request.patch.write_bytes(header + gone + b'{"add":%b}\n' % line)
        request.canonical.write_bytes(b"")
        return answer | {"result_form": "patch"} | part

    return work


def notes(content: bytes) -> Hostile:
    def work(request: IntakeRequest, answer: Answer) -> None:
        request.notes.write_bytes(content)

    return work


HOSTILE: dict[str, Hostile] = {
    "an answer of another form": says(types=5),
    "no answer at all": lambda request, answer: 5,
    "types that are not there": says(types={"domain": 1}),
    "an unknown type": says(types={"pdq": 3}),
    "a code word that is an entry": says(rejected={"c.example": 1}, first_rejected={"c.example": 1}),
    "a time that nobody can write": says(proven={"signature": None, "signed_at": 2**60, "key": None, "sequence": None}),
    "the apex and every name": writes(lines("", "*", "a.example"), types={"domain": 3}),
    "a value that is not canonical": writes(lines("A.example", "b.example", "c.example")),
    "another type": writes(lines("192.0.2.1", "192.0.2.2", "192.0.2.3", type="pdq")),
    "no final newline": writes(lines("a.example", "b.example", "c.example")[:-1]),
    "lines out of order": writes(lines("c.example", "a.example", "b.example")),
    "a line twice": writes(lines("a.example", "a.example", "b.example")),
    "more lines than were counted": writes(lines("a.example", "b.example", "c.example", "d.example")),
    "an id": writes(lines("a.example", "b.example") + b'{"type":"domain","value":"c.example","id":"e-1"}\n'),
    "zeros": writes(b"\0" * 100),
    "both": lambda request, answer: (request.patch.write_bytes(b"x"), None)[1],
    "notes of another form": notes(b'{"x":1}'),
    "notes of no entries": notes(b'[["x"],[]]'),
    "notes of rejects that were not counted": notes(b'[[],[[1,"wildcard"]]]'),
    "deep notes": notes(b"[" * 100_000),
}
LATER: dict[str, Hostile] = {
    **HOSTILE,
    "changes that add the apex": adds(b'{"type":"domain","value":""}', types={"domain": 4}),
    "changes that add an unknown type": adds(b'{"type":"pdq","value":"192.0.2.1"}'),
    "changes that add what is there": adds(b'{"type":"domain","value":"a.example"}'),
    "changes that remove what is not there": adds(
        b'{"type":"domain","value":"c.example"}', removes=b'{"type":"domain","value":"z.example"}'
    ),
    "changes that were not counted": adds(b'{"type":"domain","value":"c.example"}', types={"domain": 9}),
    "no change, and other counts": says(result_form="same", types={"domain": 2}),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
async def test_the_first_body_takes_its_job_over(place: Place, hostile: Hostile) -> None:
    place.jobs.hostile = hostile
    outcome, reason = await place.pull("a.example", "b.example", "c.example")
    assert outcome is Outcome.FAILED
    assert reason == "the job's result does not fit its request: the pull is not used"
    assert place.versions.live == b""
    place.jobs.hostile = None
    assert await place.pull("a.example", "b.example") == (Outcome.PUBLISHED, None)


@pytest.mark.parametrize("hostile", LATER.values(), ids=LATER.keys())
async def test_a_later_body_takes_its_job_over(place: Place, hostile: Hostile) -> None:
    assert await place.pull("a.example", "b.example") == (Outcome.PUBLISHED, None)
    live, place.jobs.hostile = place.versions.live, hostile
    outcome, reason = await place.pull("a.example", "b.example", "c.example")
    assert outcome is Outcome.FAILED
    assert reason == "the job's result does not fit its request: the pull is not used"
    assert place.versions.live == live
    place.jobs.hostile = None
    assert await place.pull("a.example", "c.example") == (Outcome.PUBLISHED, None)
    assert place.jobs.earlier == 2, "it was compared with the last body that was taken over"
    assert b"c.example" in place.versions.live


async def test_what_an_honest_job_leaves_passes(place: Place) -> None:
    many = [f"n{number}.example" for number in range(3000)]
    for names in (many, many[:-1], [*many, "x.example"], [*many, "x.example", "*.example"], many[::-1], ["# x", *many]):
        outcome, reason = await place.pull(*names)
        assert outcome in (Outcome.PUBLISHED, Outcome.UNCHANGED), reason


async def test_an_entry_in_a_jobs_error_reaches_nobody(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    def stumble(request: IntakeRequest, answer: Answer) -> None:
        raise ParseError("https://listed.example/ could not be read")

    place.jobs.hostile = stumble
    outcome, reason = await place.pull("a.example")
    assert outcome is Outcome.FAILED
    assert reason == "the body can't be read, and the job's own message is withheld: check `format`, or ask the hotline"
    assert "listed" not in caplog.text

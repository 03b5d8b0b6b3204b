"""The job `check` on a large file: in blocks, in several processes, each in the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocklistd.jobs.runner import Jobs
from blocklistd.jobs.sandbox import INTAKE
from blocklistd.lines.snapshot import blocks
from blocklistd.model import Sha256
from blocklistd.sources.intake.check import check
from blocklistd.sources.intake.chunks import CHUNK
from blocklistd.sources.intake.entries import ResultForm
from blocklistd.sources.intake.job import EarlierBody, Findings, IntakeRequest
from blocklistd.sources.intake.prove import Origin
from blocklistd.sources.proofs.proof import Proven

LINE = b'{"type":"domain","value":"n%06d.example","category":"A"}\n'
COUNT = 2 * CHUNK // len(LINE % 0) + 1000
EDGE = CHUNK // len(LINE % 0) + 1
"""The number of the first line of the second block."""


@pytest.fixture
async def jobs() -> AsyncIterator[Jobs]:
    pool = Jobs()
    yield pool
    await asyncio.to_thread(pool.close)


def request(folder: Path, lines: list[bytes]) -> tuple[IntakeRequest, Findings]:
    origin = Origin("none", (), None, datetime(2026, 1, 1, tzinfo=UTC))
    made = IntakeRequest(folder / "body", folder, "identity", origin, "text", {}, {"type": "domain"}, 1 << 30, False)
    made.canonical.write_bytes(b"".join(lines))
    made.patch.write_bytes(b"")
    made.notes.write_bytes(b"[[],[]]")
    return made, Findings(0, ResultForm.CANONICAL, 1, COUNT, {"domain": COUNT}, {}, {}, 0, Proven())


async def test_a_large_file_is_checked_in_blocks_with_one_result(jobs: Jobs, tmp_path: Path) -> None:
    lines = [LINE % number for number in range(COUNT)]
    made, findings = request(tmp_path, lines)
    assert blocks(made.canonical.read_bytes(), CHUNK)[1] == EDGE * len(lines[0])
    assert await jobs.run(check, made, findings, limits=INTAKE) == {"fits": True}
    more = replace(findings, types={"domain": COUNT + 1})
    assert await jobs.run(check, made, more, limits=INTAKE) == {"fits": False}


@pytest.mark.parametrize(("format", "fits"), [("text", False), ("entries", True)])
async def test_only_entries_of_another_blocklistd_have_ids(jobs: Jobs, tmp_path: Path, format: str, fits: bool) -> None:
    named = b'{"type":"domain","value":"a.example","id":"e-%b"}' % (b"0a" * 16)
    made, findings = request(tmp_path, [named + b"\n"])
    made, findings = replace(made, format=format), replace(findings, types={"domain": 1})
    assert await jobs.run(check, made, findings, limits=INTAKE) == {"fits": fits}

    base, patch = tmp_path / "base", tmp_path / "patch"
    base.write_bytes(b"")
    patch.write_bytes(b'{"base":"%b"}\n{"add":%b}\n' % (b"0" * 64, named))
    made.canonical.write_bytes(b"")
    earlier = EarlierBody(base, base, base, Sha256("0" * 64), None, 0, {}, 0)
    changed = replace(findings, result_form=ResultForm.PATCH)
    assert await jobs.run(check, replace(made, earlier=earlier), changed, limits=INTAKE) == {"fits": fits}


@pytest.mark.parametrize("at", [EDGE - 1, EDGE, 5, COUNT - 2])
async def test_one_invalid_line_of_a_large_file_is_found(jobs: Jobs, tmp_path: Path, at: int) -> None:
    lines = [LINE % number for number in range(COUNT)]
    for some in (
        [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],  # out of order
        [*lines[:at], lines[at + 1].replace(b'"A"', b'"!"'), *lines[at + 1 :]],  # occurs twice
        [*lines[:at], lines[at].replace(b'"n', b'"N'), *lines[at + 1 :]],
        [*lines[:at], lines[at].replace(b".example", b"..xample"), *lines[at + 1 :]],
    ):
        made, findings = request(tmp_path, some)
        assert await jobs.run(check, made, findings, limits=INTAKE) == {"fits": False}

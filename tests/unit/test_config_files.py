"""Files that the configuration names: certificates that are valid, and for how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocklistd.config import check

from .configuring import make_certificate, source

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
VALID, ENDING, EXPIRED, FUTURE = (
    (NOW - DAY, 31 * DAY),
    (NOW - DAY, 11 * DAY),
    (NOW - 9 * DAY, DAY),
    (NOW + DAY, 9 * DAY),
)


@pytest.mark.parametrize(
    ("certificates", "refused", "warned"),
    [
        ([VALID], "", ""),
        ([ENDING], "", "in 9 days"),
        ([EXPIRED], "which expired on", ""),
        ([FUTURE], "which is not valid before", ""),
        ([EXPIRED, VALID], "", ""),
        ([ENDING, VALID, FUTURE], "", ""),
        ([EXPIRED, ENDING], "", "in 9 days"),
    ],
)
def test_one_authority_that_is_valid_is_enough(
    tmp_path: Path, certificates: list[tuple[datetime, timedelta]], refused: str, warned: str
) -> None:
    for number, (begins, good_for) in enumerate(certificates):
        make_certificate(tmp_path / f"{number}.pem", begins, good_for)
    together = b"".join((tmp_path / f"{number}.pem").read_bytes() for number in range(len(certificates)))
    (tmp_path / "ca.pem").write_bytes(together)
    (tmp_path / "blocklistd.yaml").write_text(source("ca: ca.pem"))
    found = check(tmp_path / "blocklistd.yaml")
    for problems, said in ((found.problems, refused), (found.warnings, warned)):
        assert [problem.key for problem in problems] == (["sources.hotline-a.ca"] if said else [])
        assert all(said in problem.found for problem in problems)

"""Files that the configuration names: certificates that are valid, and for how long."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocklistd.config import Secret, check
from blocklistd.config.files import validity_periods
from blocklistd.errors import ConfigError, SigningError
from blocklistd.tls import load_certificate

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


def test_a_device_is_not_read_where_a_file_is_expected(tmp_path: Path) -> None:
    """It has no end."""
    endless = Path("/dev/zero")
    file = tmp_path / "blocklistd.yaml"
    file.write_text(source("ca: /dev/zero", auth="{bearer: {file: /dev/zero}}"))
    found = check(file)
    assert {problem.found for problem in found.problems} == {"/dev/zero, which is no file"}
    assert validity_periods(endless) == []
    secret = Secret("file", "/dev/zero", file, 1, "auth.bearer")
    with pytest.raises(ConfigError, match="not a regular file"):
        secret.read()
    with pytest.raises(SigningError, match="not a regular file"):
        load_certificate(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), endless, secret)

"""Readers of scalars: valid and invalid texts of each."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yaml.nodes import ScalarNode

from blocklistd.config import values
from blocklistd.config.document import ConfigDocument, ConfigNode, InvalidValue, Reader
from blocklistd.config.values import Schedule, format_duration, weekdays
from blocklistd.limits import GIB, KIB, MIB

from .configuring import make_certificate, make_minisign_key


def read(reader: Reader[Any], text: str, folder: Path = Path("/etc/blocklistd")) -> Any:
    return reader.convert(node(text, ConfigDocument(folder / "x.yaml")))


def node(text: str, document: ConfigDocument) -> ConfigNode:
    return ConfigNode(document, "key", "key", 1, ScalarNode("tag:yaml.org,2002:str", text))


@pytest.mark.parametrize(
    ("reader", "text", "value"),
    [
        (values.duration, "30s", timedelta(seconds=30)),
        (values.duration, "15m", timedelta(minutes=15)),
        (values.duration, "6h", timedelta(hours=6)),
        (values.duration, "14d", timedelta(days=14)),
        (values.size, "4096", 4096),
        (values.size, "1KiB", KIB),
        (values.size, "64MiB", 64 * MIB),
        (values.size, "2GiB", 2 * GIB),
        (values.share, "0%", 0.0),
        (values.share, "10%", 0.1),
        (values.share, "0.5%", 0.005),
        (values.share, "100%", 1.0),
        (values.integer(), "0", 0),
        (values.boolean, "true", True),
        (values.boolean, "false", False),
        (values.identifier(str), "a-1", "a-1"),
        (values.path, "a/b", Path("/etc/blocklistd/a/b")),
        (values.path, "/a", Path("/a")),
        (values.user, "root", "root"),
        (values.moment, "2030-01-31T12:00:00Z", "2030-01-31T12:00:00Z"),
        (values.moment, "2030-01-31", "2030-01-31"),
        (values.timezone, "Europe/Warsaw", "Europe/Warsaw"),
        (values.schedule, "every 30m", Schedule(every=timedelta(minutes=30))),
        (values.schedule, "0 3 * * *", Schedule(cron="0 3 * * *")),
        (values.schedule, " */5  1-3 1,15 jan * ", Schedule(cron="*/5 1-3 1,15 jan *")),
        (values.schedule, "0 0 29 2 *", Schedule(cron="0 0 29 2 *")),
    ],
)
def test_valid_texts(reader: Reader[Any], text: str, value: object) -> None:
    assert read(reader, text) == value


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        *(
            (values.duration, text)
            for text in ("", "30", "0s", "1.5h", "-1s", "1 h", "1w", "٣s", "36501d", "9" * 5000 + "s")
        ),
        *((values.size, text) for text in ("", "0", "0MiB", "1MB", "1 MiB", "1.5GiB", "-1", "1e3", "9" * 5000)),
        *((values.share, text) for text in ("", "10", "0.1", "%", "-1%", "10 %", "nan%", "1e1%")),
        *((values.integer(1), text) for text in ("0", "010", "+1", "1_0", "0x1", "1.0", "", "9" * 5000)),
        *((values.boolean, text) for text in ("yes", "no", "on", "off", "True", "1", "")),
        *((values.identifier(str), text) for text in ("", "-a", "A", "a_b", "a.b", "a" * 33, "é")),
        *((values.path, text) for text in ("a\0b", "a\nb", "\ud800")),
        *((values.user, text) for text in ("no-such-user", "0", "\ud800")),
        *((values.moment, text) for text in ("soon", "2030-02-31", "31.01.2030", "2030", "2030-01-31T12")),
        *((values.timezone, text) for text in ("CEST", "Europe", "posix/Europe/Rome", "/etc/localtime", "localtime")),
        *((values.schedule, text) for text in ("", "30m", "every", "every 30m 5s", "every 0s", "* * * *", "@daily")),
        *((values.schedule, text) for text in ("60 * * * *", "0 0 31 2 *", "*/0 * * * *", "0 0 1 * 1", "0 0 * * 8")),
    ],
)
def test_invalid_texts(reader: Reader[Any], text: str) -> None:
    with pytest.raises(InvalidValue):
        read(reader, text)


@pytest.mark.parametrize(
    ("cron", "names"),
    [
        ("*", "*"),
        ("0", "sun"),
        ("7", "sun"),
        ("1", "mon"),
        ("1-5", "mon,tue,wed,thu,fri"),
        ("mon-fri", "mon,tue,wed,thu,fri"),
        ("5-7", "sun,fri,sat"),
        ("fri-mon", "sun,mon,fri,sat"),
        ("sat-sun", "sun,sat"),
        ("0,6", "sun,sat"),
        ("*/2", "sun,tue,thu,sat"),
        ("1-5/2", "mon,wed,fri"),
        ("0-6", "*"),
        ("", None),
        ("8", None),
        ("1/2", None),
        ("foo", None),
        ("1-", None),
        ("1,,2", None),
        ("*/0", None),
    ],
)
def test_days_of_the_week_are_those_of_cron(cron: str, names: str | None) -> None:
    assert weekdays(cron) == names


def test_a_cron_line_fires_on_the_day_that_cron_means() -> None:
    """APScheduler takes 1 for Tuesday."""
    from datetime import UTC, datetime

    from apscheduler.triggers.cron import CronTrigger

    schedule = read(values.schedule, "0 3 * * 1")
    first = CronTrigger.from_crontab(schedule.cron, timezone=UTC).get_next_fire_time(
        None, datetime(2024, 1, 2, tzinfo=UTC)
    )
    assert first == datetime(2024, 1, 8, 3, tzinfo=UTC)  # a Monday


@given(st.integers(1, 9999), st.sampled_from("smhd"))
def test_a_duration_is_read_as_it_was_written(number: int, unit: str) -> None:
    duration = timedelta(seconds=number * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit])
    assert read(values.duration, format_duration(duration)) == duration
    assert read(values.schedule, str(Schedule(every=duration))) == Schedule(every=duration)


def test_files_that_have_to_be_there(tmp_path: Path) -> None:
    make_minisign_key(tmp_path / "a.pub")
    make_certificate(tmp_path / "a.pem")
    (tmp_path / "folder").mkdir()
    assert read(values.file, "a.pub", tmp_path) == tmp_path / "a.pub"
    assert read(values.certificates, "a.pem", tmp_path) == tmp_path / "a.pem"
    for reader, name, found in (
        *((reader, "nowhere", "does not exist") for reader in (values.file, values.certificates)),
        *((reader, "folder", "which is no file") for reader in (values.file, values.certificates)),
        (values.certificates, "a.pub", "which holds none"),
    ):
        document = ConfigDocument(tmp_path / "x.yaml")
        assert reader.convert(node(name, document)) == tmp_path / name, "a start goes on without"
        assert [(problem.key, found in problem.found) for problem in document.nonfatal] == [("key", True)]


def test_a_share_is_at_most_all() -> None:
    document = ConfigDocument(Path("x.yaml"))
    assert values.share.convert(node("150%", document)) == 1.0, "a start goes on with what it means"
    assert [(problem.expected, problem.found) for problem in document.nonfatal] == [("a share up to 100%", "'150%'")]


def test_a_socket_path_fits_into_an_address() -> None:
    assert read(values.socket_path, "/" + "x" * 106) == Path("/" + "x" * 106)
    with pytest.raises(InvalidValue, match="at most 107 bytes"):
        read(values.socket_path, "/" + "x" * 107)

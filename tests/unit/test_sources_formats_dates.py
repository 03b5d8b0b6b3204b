"""Dates of records: what real lists write is read, equal instants are equal bytes, and nothing else is a date."""

from __future__ import annotations

import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.sources.formats import dates
from blocklistd.sources.formats.dates import DATES, canonical_date, is_zone, zone_names
from blocklistd.sources.intake.form import check_line

INSTANT = "2026-11-20T09:20:00Z"


@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-20T09:20:00Z", "2026-11-20 09:20:00Z", "2026-11-20T09:20Z", "2026-11-20t09:20:00.5z"),
        *("2026-11-20T10:20:00+01:00", "2026-11-20T10:20:00.123456789+0100", "2026-11-20 10:20:00,9 +01"),
        *("2026-11-20 09:20:00 UTC", "2026-11-20T09:20:00-00:00", "2026-11-19T23:20:00-10:00"),
        *("2026-11-20 10:20", "2026-11-20T10:20:00"),  # the time of Warsaw, in winter
    ],
)
def test_equal_instants_are_equal_bytes(text: str) -> None:
    assert {canonical_date(key, text, "Europe/Warsaw") for key in DATES} == {INSTANT}


@pytest.mark.parametrize(
    "text",
    [
        *("", "soon", "2026", "2026-11", "20261120", "2026-W47-5", "2026-324", "20.11.2026", "11/20/2026", "26-11-20"),
        *("2026-13-01", "2026-02-30", "2027-02-29", "0000-00-00", "0000-00-00 00:00:00", "0000-01-01"),
        *(
            "2026-11-20T",
            "2026-11-20T24:00:00",
            "2026-11-20T12",
            "2026-11-20T12:60",
            "2026-11-20 at noon",
            "1764370000",
        ),
        *("2026-11-20T12:00:00+24:00", "2026-11-20T12:00:00 CET", "2026-11-20  12:00", "2026-11-20T12:00:00ZZ"),
        *("٢٠٢٦-11-20", "2026-11-20\n", "2026-11-20T12:00:00Z\n", "9" * 5000),
    ],
)
def test_any_other_text_is_no_date(text: str) -> None:
    assert [canonical_date(key, text, "Europe/Warsaw") for key in DATES] == [None, None]


@pytest.mark.parametrize(
    ("zone", "ends"),
    [
        ("UTC", "2026-11-21T00:00:00Z"),
        ("Europe/Warsaw", "2026-11-20T23:00:00Z"),
        ("America/New_York", "2026-11-21T05:00:00Z"),
        ("Asia/Kathmandu", "2026-11-20T18:15:00Z"),
        ("Pacific/Kiritimati", "2026-11-20T10:00:00Z"),
    ],
)
def test_an_expiry_that_is_a_day_lasts_through_the_end_of_that_day_in_the_zone(zone: str, ends: str) -> None:
    assert canonical_date("expires", "2026-11-20", zone) == ends
    assert canonical_date("verified_at", "2026-11-20", zone) == "2026-11-20"


@pytest.mark.parametrize(
    ("text", "zone", "instant"),
    [
        ("2026-03-29 02:30", "Europe/Warsaw", "2026-03-29T01:30:00Z"),  # skipped: as if the clocks had not changed
        ("2026-10-25 02:30", "Europe/Warsaw", "2026-10-25T00:30:00Z"),  # repeated: the first
        ("2018-11-03", "America/Sao_Paulo", "2018-11-04T03:00:00Z"),  # midnight of the next day was skipped
        ("2010-11-06", "America/St_Johns", "2010-11-07T03:30:00Z"),  # at 00:01 back to 23:01: midnight came twice
        ("2011-12-29", "Pacific/Apia", "2011-12-30T10:00:00Z"),  # the next day was skipped
    ],
)
def test_a_time_that_the_clocks_skip_or_repeat_has_a_rule(text: str, zone: str, instant: str) -> None:
    assert canonical_date("expires", text, zone) == instant


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (1_795_906_000, "2026-11-28T22:46:40Z"),
        (1_000_000_000, "2001-09-09T01:46:40Z"),
        (253_402_300_799, "9999-12-31T23:59:59Z"),
        *((number, None) for number in (0, 1, -1, 20261120, 999_999_999, 253_402_300_800, 1_795_906_000_000, 10**400)),
        *((boolean, None) for boolean in (True, False)),
    ],
)
def test_a_number_is_unix_seconds_unless_it_may_be_a_day_or_milliseconds(found: int, expected: str | None) -> None:
    assert [canonical_date(key, found) for key in DATES] == [expected, expected]


def test_the_ends_of_the_calendar_are_times() -> None:
    assert canonical_date("expires", "9999-12-31", "America/New_York") == "9999-12-31T23:59:59Z"
    assert canonical_date("expires", "9999-12-31T23:00:00-12:00") == "9999-12-31T23:59:59Z"
    assert canonical_date("verified_at", "0001-01-01T00:00:00+12:00") == "0001-01-01T00:00:00Z"


@given(st.datetimes(timezones=st.timezones()), st.sampled_from(sorted(zone_names())), st.sampled_from(DATES))
def test_a_canonical_date_is_canonical_in_every_zone(moment: datetime, zone: str, key: str) -> None:
    for text in (moment.date().isoformat(), moment.replace(tzinfo=None).isoformat(" ")):
        made = canonical_date(key, text, zone)
        assert made is not None
        assert canonical_date(key, made, "Asia/Tokyo") == made
        check_line(b'{"type":"domain","value":"a.example","%b":"%b"}' % (key.encode(), made.encode()))


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=2))
def test_texts_of_instants_sort_by_time(moments: list[datetime]) -> None:
    texts = [canonical_date("expires", moment.isoformat()) for moment in sorted(moments)]
    assert all(str(before) <= str(after) for before, after in pairwise(texts))


@given(st.dates(max_value=datetime.max.date() - timedelta(days=1)), st.sampled_from(["UTC", "Europe/Warsaw"]))
def test_each_instant_of_the_day_is_before_the_expiry(day: datetime, zone: str) -> None:
    last = datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=zoneinfo.ZoneInfo(zone))
    ends = canonical_date("expires", day.isoformat(), zone)
    assert str(canonical_date("expires", last.replace(tzinfo=None).isoformat(), zone)) < str(ends)


def test_a_long_text_is_not_kept() -> None:
    dates._canonical.cache_clear()
    assert canonical_date("expires", "2026-11-20" * 1000) is None
    assert dates._canonical.cache_info().currsize == 0


def test_names_of_files_that_differ_between_machines_are_no_zones() -> None:
    assert all(map(is_zone, ("UTC", "Europe/Warsaw")))
    assert not any(map(is_zone, ("localtime", "Factory", "posix/UTC", "right/UTC", "Europe", "../UTC", "/UTC", "")))


def test_nothing_is_imported_once_the_sandbox_is_entered() -> None:
    """In a process that has only what the job has loaded before."""
    program = """
import sys
from blocklistd.sources.formats.dates import canonical_date, load_zone
from blocklistd.sources.intake import job
load_zone("Europe/Paris")
loaded = set(sys.modules)
for text in ("2030-01-31", "2030-01-31T12:00:00Z", "2030-01-31T12:00:00", "2030-01-31 12:00 +01", "no date"):
    canonical_date("expires", text, "Europe/Paris")
print(*(set(sys.modules) - loaded))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"

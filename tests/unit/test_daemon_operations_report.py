"""Reports of lists: periods, comparison with the year before, and their forms for people, spreadsheets and print."""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import insert, update

from blocklistd.compose.figures import ALL
from blocklistd.config import Config
from blocklistd.daemon.commands.report import COMMANDS, comparison, day, written_csv
from blocklistd.daemon.commands.report_svg import drawing
from blocklistd.daemon.operations.report import Period, ReportOperations, median, percent
from blocklistd.errors import RefusedError
from blocklistd.model import ListId
from blocklistd.store.schema import daily_figures
from tests.versions_of import LIST, NOW, Versions


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    made = Versions(tmp_path, "hotline")
    yield made
    made.close()


def put(versions: Versions, day: str, added: int, category: str = ALL, source: str = ALL, **others: Any) -> None:
    values = {"removed": 0, "live": 0, "expired": 0, "corrected": 0, "lives": {}} | others
    row = {"list": LIST, "day": day, "source": source, "category": category, "added": added, **values}
    with versions.database.write() as connection:
        connection.execute(insert(daily_figures).values(row))


def reports(versions: Versions) -> ReportOperations:
    config = cast(Config, SimpleNamespace(lists={LIST: None}))
    return ReportOperations(lambda: config, versions.database, lambda: NOW)


@pytest.fixture
def hotline(versions: Versions) -> Versions:
    """A hotline's first halves of 2006 and 2007. In 2007 it confirmed 16.4 % more pages."""
    live = 400
    for year, entries in ((2006, (180, 155, 160, 190, 165, 150)), (2007, (200, 190, 188, 210, 196, 180))):
        for month, added in enumerate(entries, 1):
            lives = {"3": added // 4, "20": added // 4, "91": added // 8}
            removed = sum(lives.values())
            live += added - removed
            shown: dict[str, Any] = {"removed": removed, "expired": removed // 3, "corrected": 2, "lives": lives}
            put(versions, f"{year}-{month:02}-10", added, live=live, **shown)
            put(versions, f"{year}-{month:02}-10", added // 3, "=HYPERLINK(A1)", live=live // 3)
            put(versions, f"{year}-{month:02}-10", added - added // 3, '<script>&"', live=live - live // 3)
            put(versions, f"{year}-{month:02}-10", added, source="hotline", live=live)
            put(versions, f"{year}-{month:02}-10", added, '<script>&"', source="hotline", live=live)
    return versions


async def test_the_change_against_the_same_period_of_the_year_before(hotline: Versions) -> None:
    made = await reports(hotline).report(LIST, "2007-01-10", "2007-06-30")
    assert (made["total"]["added"], made["year_before"]["total"]["added"]) == (1164, 1000)
    assert made["total"]["change_percent"]["added"] == 16.4
    assert comparison(made) == (
        "Added entries: 16.4 % more than in the same period of the year before (2006-01-10 to 2006-06-30)."
    )
    assert made["total"]["median_life_days"] == 20
    assert made["total"]["expired"] < made["total"]["removed"]
    assert made["sources"]["hotline"]["categories"]['<script>&"']["added"] == 1164
    assert sum(step["added"] for step in made["course"]) == 1164
    assert len(made["course"]) == len(made["year_before"]["course"]) == 25


async def test_a_period_without_figures_is_refused_and_is_never_zero(hotline: Versions) -> None:
    ask = reports(hotline).report
    with pytest.raises(RefusedError, match="no figures before 2006-01-10: choose --from 2006-01-10"):
        await ask(LIST, "2006-01-01", "2006-02-01")
    with pytest.raises(RefusedError, match="--from 2007-02-01 is after --to 2007-01-01"):
        await ask(LIST, "2007-02-01", "2007-01-01")
    with pytest.raises(RefusedError, match="--to 2026-11-21 is in the future: give 2026-11-20"):
        await ask(LIST, "2007-02-01", "2026-11-21")
    with pytest.raises(RefusedError, match="expected one of: national"):
        await ask(ListId("other"), "2007-02-01", "2007-03-01")
    made = await ask(LIST, "2007-01-01", "2007-06-30")
    assert made["year_before"] is None, "nine days of it have no figures"
    assert "change_percent" not in made["total"]
    assert comparison(made) == "There are no figures of the whole same period of the year before."
    quiet = await ask(LIST, "2006-01-11", "2006-01-20")
    assert (quiet["total"]["added"], quiet["total"]["live"]) == (0, quiet["course"][0]["live"])
    assert quiet["total"]["live"] > 0


async def test_a_list_without_figures_says_so(versions: Versions) -> None:
    with pytest.raises(RefusedError, match="has no figures yet"):
        await reports(versions).report(LIST, "2026-11-01", "2026-11-20")


@pytest.mark.parametrize(
    ("start", "end", "before"),
    [
        ("2007-01-01", "2007-06-30", ("2006-01-01", "2006-06-30")),
        ("2024-02-29", "2024-02-29", ("2023-02-28", "2023-02-28")),
        ("2024-02-01", "2024-02-29", ("2023-02-01", "2023-03-01")),
        ("2025-02-01", "2025-02-28", ("2024-02-01", "2024-02-28")),
    ],
)
def test_the_year_before_has_as_many_days(start: str, end: str, before: tuple[str, str]) -> None:
    period = Period(date.fromisoformat(start), date.fromisoformat(end))
    assert (str(period.year_before.start), str(period.year_before.end)) == before
    assert period.year_before.days == period.days


def test_the_steps_of_a_period_cover_each_day_once() -> None:
    for days in range(1, 800):
        period = Period(date(2023, 2, 5), date(2023, 2, 5) + timedelta(days=days - 1))
        steps = period.steps()
        assert (steps[0], steps[-1], len(set(steps))) == (0, days, len(steps))
        assert steps == sorted(steps)


def test_percent_and_median() -> None:
    assert (percent(1164, 1000), percent(0, 4), percent(5, 0)) == (16.4, -100, None)
    assert (median(Counter()), median(Counter({3: 1})), median(Counter({1: 2, 4: 2}))) == (None, 3, 2.5)


@pytest.mark.parametrize("text", ["", "2026-13-01", "20261120", "2026-W01-1", "1.1.2026", "=1+1", None])
def test_dates_are_checked(text: object) -> None:
    with pytest.raises(RefusedError, match=r"YYYY-MM-DD|UTF-8"):
        day(text)
    assert day("2026-11-20") == "2026-11-20"


async def test_the_csv_has_no_formula(hotline: Versions) -> None:
    made = await reports(hotline).report(LIST, "2007-01-10", "2007-06-30")
    total, *rows = csv.DictReader(io.StringIO(written_csv(made)))
    assert (total["group"], total["added"], total["added_year_before"]) == ("total", "1164", "1000")
    assert total["added_change_percent"] == "16.4"
    assert {row["name"] for row in rows} == {"'=HYPERLINK(A1)", '<script>&"', "hotline"}


async def test_the_drawing_is_self_contained_and_escapes_names(hotline: Versions) -> None:
    made = await reports(hotline).report(LIST, "2007-01-10", "2007-06-30")
    svg = drawing(made, comparison(made))
    root = ElementTree.fromstring(svg)
    texts = [found.text for found in root.iter("{http://www.w3.org/2000/svg}text")]
    assert 'category <script>&"' in texts
    assert "+16.4 %" in texts
    assert {"entries", "first day of each week", "Entries added", "Entries removed"} <= set(texts)
    assert "<script" not in svg
    assert svg.count("http") == 1, "the name space alone"
    short = await reports(hotline).report(LIST, "2006-01-10", "2006-01-10")
    ElementTree.fromstring(drawing(short, comparison(short)))


@pytest.mark.parametrize("factor", [1, 10_000])
async def test_the_text_fits_in_80_columns(
    hotline: Versions, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, factor: int
) -> None:
    with hotline.database.write() as connection:
        connection.execute(update(daily_figures).values(live=daily_figures.c.live * factor))
        connection.execute(update(daily_figures).values(added=daily_figures.c.added * factor))
    monkeypatch.setattr("os.isatty", lambda descriptor: True)
    monkeypatch.setenv("COLUMNS", "80")
    made = await reports(hotline).report(LIST, "2007-01-10", "2007-06-30")
    (command,) = COMMANDS
    command.show(made, {"csv": False, "svg": False})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    (total,) = (line.split() for line in lines if line.startswith("total"))
    assert total[1] == str(1164 * factor)
    assert total[-2:] == ["+16.4", "%"]

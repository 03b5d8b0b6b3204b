"""The page of the dashboard: what it shows and in which order, its bounds, and that it can load and run nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest

from blocklistd.dashboard.facts import (
    ALL_LISTS,
    DAYS,
    NO_REPORTS,
    AlarmFacts,
    Course,
    DashboardFacts,
    DayFacts,
    DecisionFacts,
    DiskFacts,
    GuardFacts,
    HeldFacts,
    ListFacts,
    ProtectFacts,
    SecondaryFacts,
    SourceFacts,
    SubscriberFacts,
    ZoneFacts,
    sum_of_days,
)
from blocklistd.dashboard.forecast import DiskForecast, FillsWhen
from blocklistd.dashboard.page import headers, page, style
from blocklistd.language import ENGLISH, LANGUAGES, language_of
from blocklistd.telemetry import ALARMS

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
QUIET = DashboardFacts(NOW, "0.7.0", "host.example", 200, Course(NOW.date(), {}, {}, {}))
GUARD_DAYS = [0] * (DAYS - 3) + [2, 0, 1]


def list_facts(name: str = "national", **more: object) -> ListFacts:
    return replace(ListFacts(name, 7, 1234, NOW - timedelta(minutes=5), NOW, added=3, removed=1), **more)  # type: ignore[arg-type]


def source(name: str, **more: object) -> SourceFacts:
    found = SourceFacts(name, "unchanged", 60.0, 86400.0, 90.0, False, False, False, True, 10)
    return replace(found, **more)  # type: ignore[arg-type]


def subscriber(name: str, **more: object) -> SubscriberFacts:
    return replace(SubscriberFacts(name, 2, 0, 0, 0, 0.0, 900.0, NOW), **more)  # type: ignore[arg-type]


def secondary(name: str, **more: object) -> SecondaryFacts:
    found = SecondaryFacts("rpz.example", name, "192.0.2.1", 7, 0.0, NOW, False, False)
    return replace(found, **more)  # type: ignore[arg-type]


def full() -> DashboardFacts:
    """DashboardFacts with something in each place."""
    days = {name: [DayFacts(100 + day, day, 1) for day in range(DAYS)] for name in ("national", "second")}
    protect = [NO_REPORTS] * (DAYS - 2) + [ProtectFacts(2.0, 40.0, 9)] * 2
    course = Course(
        NOW.date(),
        {**days, ALL_LISTS: sum_of_days(list(days.values()))},
        {ALL_LISTS: protect, "national": protect},
        {"max_removed": GUARD_DAYS},
    )
    return replace(
        QUIET,
        course=course,
        lists=[list_facts(held=1), list_facts("second", frozen=True)],
        sources=[source("hotline"), source("broken", outcome="failed", overdue=True)],
        held=[HeldFacts("c-1", "national", NOW - timedelta(hours=3), 5, 600, ["max_removed"], 1)],
        guards=[GuardFacts("max_removed", 1, GUARD_DAYS)],
        subscribers=[subscriber("good"), subscriber("tardy", late=1, lag=1000.0), subscriber("mute", silent=1)],
        zones=[ZoneFacts("rpz.example", "national", 7, 2468, False, False, 2, 1)],
        secondaries=[secondary("good"), secondary("tardy", late=True, lag=5000.0)],
        decisions=[DecisionFacts(NOW, "alice", "candidate approve", "c-0")],
        alarms=[AlarmFacts("source_overdue", "broken", "source broken is overdue: call")],
        disk=DiskFacts(2**30, 2**33, DiskForecast(FillsWhen.FULL, 9, 2**20, NOW.date() + timedelta(days=10))),
        withheld={"never_block": 4},
    )


class Outline(HTMLParser):
    """The tags of a page with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)

    handle_startendtag = handle_starttag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag]


def text_of(made: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", made, flags=re.S)))


def places(made: str, *parts: str) -> list[int]:
    found = text_of(made)
    assert all(part in found for part in parts), [part for part in parts if part not in found]
    return [found.index(part) for part in parts]


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("facts", [QUIET, full()], ids=["empty", "full"])
def test_the_page_loads_and_runs_nothing(facts: DashboardFacts, code: str) -> None:
    made = page(facts, language_of(code))
    outline = Outline(made)
    assert outline.all("html") == [{"lang": code}]
    assert not {"script", "img", "link", "iframe", "form", "object", "embed"} & {name for name, _ in outline.tags}
    for _, attributes in outline.tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert (attributes.get("href") or "?").startswith(("?", "#"))
    assert "url(" not in style()
    assert "@import" not in style()
    written = made.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(written.encode()).digest()).decode()
    policy = headers()["Content-Security-Policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")


@pytest.mark.parametrize("code", LANGUAGES)
def test_it_can_be_read_without_eyes(code: str) -> None:
    made = page(full(), language_of(code))
    outline = Outline(made)
    assert outline.headings[0] == "h1"
    assert outline.headings.count("h1") == 1
    for before, after in zip(outline.headings, outline.headings[1:], strict=False):
        assert int(after[1]) <= int(before[1]) + 1
    assert len(re.findall("<caption>", made)) == len(outline.all("table")) > 8
    assert {found.get("scope") for found in outline.all("th")} == {"col", "row"}
    ids = [found["id"] for _, found in outline.tags if "id" in found]
    assert len(ids) == len(set(ids))
    for found in outline.all("svg"):
        assert found.get("aria-hidden") or found.get("aria-label") or found.get("aria-labelledby")
        for name in (found.get("aria-labelledby") or "").split():
            assert name in ids
    assert len(outline.all("desc")) == len(outline.all("details")) == 3


def test_what_is_wrong_stands_first() -> None:
    made = page(full(), ENGLISH)
    order = places(
        made, "one alarm is active", "source broken is overdue", "Live entries", "Live since", "The last 30 days"
    )
    assert order == sorted(order)
    body = made.partition('id="subscribers"')[2]
    order = [body.index(name) for name in ("tardy", "mute", "good")]
    assert order == sorted(order)
    body = made.partition('id="sources"')[2]
    assert body.index("broken") < body.index("hotline")


def test_one_sentence_says_how_it_is() -> None:
    assert "Every list and zone is served; no alarm is active." in text_of(page(QUIET, ENGLISH))
    assert "Not every list and zone is served." in text_of(
        page(replace(full(), down=["list x is not served"]), ENGLISH)
    )
    unread = text_of(page(replace(QUIET, readable=False), ENGLISH))
    assert "The database can't be read." in unread
    assert "is configured" not in unread
    remark = text_of(page(replace(QUIET, notes=["zone x has no serial yet"]), ENGLISH))
    assert "with a remark" in remark
    assert "zone x has no serial yet" in remark


def test_a_text_that_a_person_wrote_is_not_repeated() -> None:
    made = text_of(page(replace(QUIET, alarms=[AlarmFacts("policy_rejected", "national", None)]), ENGLISH))
    assert ALARMS["policy_rejected"] in made


def test_every_id_is_escaped() -> None:
    bad = '"><script>alert(1)</script>'
    facts = replace(
        full(),
        host=bad,
        lists=[list_facts(bad)],
        sources=[source(bad)],
        subscribers=[subscriber(bad)],
        secondaries=[secondary(bad)],
        decisions=[DecisionFacts(NOW, bad, bad, bad)],
        alarms=[AlarmFacts("source_overdue", bad, bad)],
        down=[bad],
        held=[HeldFacts(bad, bad, NOW, 1, 1, [bad], 1)],
        withheld={bad: 1},
        zones=[ZoneFacts(bad, bad, 1, 1, False, False, 0, 0)],
    )
    made = page(facts, ENGLISH, bad).replace("<wbr>", "")
    assert made.count("&lt;script&gt;") > 12
    assert not Outline(made).all("script")


def test_tables_are_bounded_and_say_how_much_they_lack() -> None:
    facts = replace(
        full(),
        sources=[source(f"s{number:03}") for number in range(100)],
        lists=[list_facts(f"l{number:02}") for number in range(50)],
        subscribers=[subscriber(f"isp-{number:04}") for number in range(1000)],
        secondaries=[secondary(f"isp-{number:04}") for number in range(1000)],
        alarms=[AlarmFacts("node_late", f"isp-{number:04}", "late") for number in range(500)],
    )
    made = page(facts, ENGLISH)
    assert len(made) < 300_000
    text = text_of(made)
    assert "and 75 more" in text  # sources
    assert "and 975 more" in text  # subscribers
    assert "and 975 more" in text  # secondaries
    assert "and 475 more" in text  # alarms
    assert "2,000" in text  # nodes


def test_the_plots_are_of_the_chosen_list() -> None:
    assert "Shown: all lists." in text_of(page(full(), ENGLISH))
    chosen = page(full(), ENGLISH, "national")
    assert "Shown: list national." in text_of(chosen)
    assert "From 100 to 129" in text_of(chosen)
    assert "From 200 to 258" in text_of(page(full(), ENGLISH))
    assert page(full(), ENGLISH, "unknown") == page(full(), ENGLISH)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (DiskForecast(FillsWhen.YOUNG, 1), "no forecast yet"),
        (DiskForecast(FillsWhen.STEADY, 9), "is not filling"),
        (DiskForecast(FillsWhen.FAR, 9, 5.0), "not full within two years"),
        (DiskForecast(FillsWhen.FULL, 9, 5.0, NOW.date() + timedelta(days=20)), "full on 20 December 2026"),
    ],
)
def test_the_forecast_is_a_sentence(found: DiskForecast, text: str) -> None:
    assert text in text_of(page(replace(QUIET, disk=DiskFacts(10, 100, found)), ENGLISH))


def test_numbers_and_dates_are_of_the_language() -> None:
    assert "1.234" in text_of(page(full(), language_of("de")))
    assert "1,234" in text_of(page(full(), ENGLISH))
    assert "30 novembre 2026" in text_of(page(full(), language_of("fr")))

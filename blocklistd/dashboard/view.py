"""What all sections of the dashboard write alike: ages, times, states, and the rest of a bounded table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from markupsafe import Markup

from blocklistd.dashboard.facts import ALL_LISTS, DashboardFacts
from blocklistd.dashboard.html import Child, Column, joined, table, tag
from blocklistd.language import Language
from blocklistd.times import rfc3339

SIGNS: Final = {"bad": "●", "warn": "▲", "good": "✓", "calm": "○"}
"""The sign of each state, so that no state is shown by its colour alone."""
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
ROWS: Final = 25
"""Rows of a table at most; of lists twice as many, since each is a link."""


@dataclass(frozen=True, slots=True)
class View:
    """The facts for one reader. `chosen`: the list whose plots are shown, or ALL_LISTS."""

    facts: DashboardFacts
    language: Language
    chosen: str = ALL_LISTS

    def number(self, value: float | None) -> str | None:
        """A number; None for None."""
        return None if value is None else self.language.number(value).replace("-", "−")

    def signed(self, value: int) -> str:
        """A number with its sign; 0 has none."""
        return f"+{self.number(value)}" if value > 0 else str(self.number(value))

    def span(self, seconds: float | None) -> str | None:
        """A time span; None for None."""
        return None if seconds is None else self.language.duration(seconds).replace(" ", "\u00a0")

    def ago(self, time: datetime | None) -> Markup | None:
        """The time since then, with the time itself behind it; None for None."""
        if time is None:
            return None
        span = self.language.duration(max(0.0, (self.facts.now - time).total_seconds()))
        return self.time(time, self.language.text("{span} ago", span=span).replace(" ", "\u00a0"))

    def time(self, time: datetime, text: str) -> Markup:
        """A text that stands for a time."""
        return tag("time", text, datetime=rfc3339(time), title=self.language.moment(time))

    def day(self, day: date) -> str:
        """A date without its year, for an axis."""
        match self.language.code:
            case "de":
                return f"{day.day}.{day.month}."
            case "fr":
                return f"{day.day:02}/{day.month:02}"
            case _:
                return f"{day.day} {day:%b}"

    def octets(self, value: float) -> str:
        """An amount of bytes with three digits."""
        place = 0
        while abs(value) >= 1000 and place < len(_UNITS) - 1:
            value, place = value / 1024, place + 1
        digits = 0 if abs(value) >= 100 or not place else 1
        return f"{self.language.number(value, digits)}\u00a0{_UNITS[place]}".replace("-", "−")

    def state(self, kind: str, text: str) -> Markup:
        """A state in words, with its colour and sign. `kind`: one of SIGNS."""
        return tag("span", tag("span", SIGNS[kind], aria_hidden="true"), f" {text}", class_=f"state {kind}")

    def message(self, text: str) -> Markup:
        """A message of the program, in the language of the reader if it has a translation."""
        made = self.language.message(text)
        foreign = self.language.code != "en" and made == text
        return tag("span", with_code(made), lang="en" if foreign else None)

    def rows(
        self, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Child]], total: int, *, name: str = ""
    ) -> Markup:
        """A table with its first rows, and how many there are more."""
        more = None
        if total > len(rows):
            text = self.language.plural("and {count} more", "and {count} more", total - len(rows))
            more = tag("p", text, class_="more")
        return joined([table(caption, columns, rows, name=name), more])

    def empty(self, text: str) -> Markup:
        """In the place of a table without rows."""
        said = text if self.facts.readable else self.language.text("This can't be read now.")
        return tag("p", said, class_="none")


def name(text: str) -> Markup:
    """An id or a name, which may be broken after a dot or a hyphen."""
    first, *more = re.split(r"(?<=[.-])(?=.)", text)
    return tag("span", first, *(joined([tag("wbr"), part]) for part in more), class_="id")


def with_code(text: str) -> Markup:
    """The text, with what is between backticks as code."""
    return joined(tag("code", part) if place % 2 else part for place, part in enumerate(text.split("`")))


def section(name: str, heading: str, *children: Child, wide: bool = False) -> Markup:
    """A section of the page with its heading."""
    return tag(
        "section",
        tag("h2", heading, id=f"h-{name}"),
        *children,
        id=name,
        aria_labelledby=f"h-{name}",
        class_="wide" if wide else None,
    )

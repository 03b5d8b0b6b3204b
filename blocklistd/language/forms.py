"""How numbers and dates are written in each language."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NARROW: Final = "\u202f"  # a narrow space at which no line is broken
FIXED: Final = "\u00a0"  # a space at which no line is broken


@dataclass(frozen=True, slots=True)
class Forms:
    """`point`: before the decimals. `group`: between groups of three digits. `percent`: before the percent sign.
    `day`: a date, with the places {day}, {month} (its name) and {year}."""

    point: str
    group: str
    percent: str
    day: str
    months: tuple[str, ...]
    first: str = "1"


FORMS: Final = {
    "en": Forms(
        ".",
        ",",
        " ",
        "{day} {month} {year}",
        (
            *("January", "February", "March", "April", "May", "June"),
            *("July", "August", "September", "October", "November", "December"),
        ),
    ),
    "fr": Forms(
        ",",
        NARROW,
        FIXED,
        "{day} {month} {year}",
        (
            *("janvier", "février", "mars", "avril", "mai", "juin"),
            *("juillet", "août", "septembre", "octobre", "novembre", "décembre"),
        ),
        first="1er",
    ),
    "de": Forms(
        ",",
        ".",
        FIXED,
        "{day}. {month} {year}",
        (
            *("Januar", "Februar", "März", "April", "Mai", "Juni"),
            *("Juli", "August", "September", "Oktober", "November", "Dezember"),
        ),
    ),
}
"""The forms of each language, by its code."""

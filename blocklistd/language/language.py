"""A language: its texts, and how it writes numbers, dates and time spans."""

from __future__ import annotations

import gettext
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from blocklistd.language.forms import FORMS, Forms
from blocklistd.language.messages import KnownMessages

_UNITS: Final = (("{number} d", 86400), ("{number} h", 3600), ("{number} min", 60))


@dataclass(frozen=True, slots=True)
class Language:
    """A language of people. `code`: as in `language:` of the configuration and in HTML's `lang` (BCP 47).

    The English text is the key of each translation; a text without one stays English.
    """

    code: str
    translations: gettext.NullTranslations
    messages: KnownMessages
    forms: Forms

    def text(self, text: str, /, **values: object) -> str:
        """The translation of an English text. With `values`, the text is a template with a {name} for each."""
        made = self.translations.gettext(text) if text else ""
        return made.format_map(values) if values else made

    def plural(self, one: str, many: str, count: int, /, **values: object) -> str:
        """The translation of a text in the form for `count`. The templates may also use {count}."""
        return self.translations.ngettext(one, many, count).format_map({"count": count, **values})

    def message(self, text: str) -> str:
        """The translation of a finished English message with the values in it: of an error, or of a reason."""
        return self.messages.translate(text)

    def number(self, value: float, digits: int = 0) -> str:
        """A number with so many decimals: `1,234.5`, `1.234,5`."""
        made = f"{value:,.{digits}f}"
        return made.translate({ord(","): self.forms.group, ord("."): self.forms.point})

    def decimal(self, value: float, digits: int) -> str:
        """A number with so many decimals, and without groups of digits: `1234.5`, `1234,5`."""
        return f"{value:.{digits}f}".replace(".", self.forms.point)

    def percent(self, value: float, digits: int = 1, *, signed: bool = False) -> str:
        """A share in percent, from 0 to 100: `12.5 %`, `12,5 %`. `signed`: with a plus sign above 0."""
        sign = "+" if signed and value > 0 else ""
        return f"{sign}{self.number(value, digits)}{self.forms.percent}%"

    def duration(self, seconds: float) -> str:
        """A time span, in its largest unit of which it has two: `42 s`, `5 min`, `3 h`, `2 d`."""
        for unit, size in _UNITS:
            if seconds >= 2 * size:
                return self.text(unit, number=self.decimal(seconds / size, 0))
        return self.text("{number} s", number=self.decimal(seconds, 0))

    def day(self, day: date) -> str:
        """A date: `1 December 2026`, `1er décembre 2026`, `1. Dezember 2026`."""
        number = self.forms.first if day.day == 1 else str(day.day)
        return self.forms.day.format(day=number, month=self.forms.months[day.month - 1], year=day.year)

    def moment(self, moment: datetime) -> str:
        """A time in UTC with its date: `1 December 2026, 14:05 UTC`."""
        moment = moment.astimezone(UTC)
        return f"{self.day(moment.date())}, {moment:%H:%M} UTC"


ENGLISH: Final = Language("en", gettext.NullTranslations(), KnownMessages(), FORMS["en"])
"""The language of the source code: every text is its own translation."""

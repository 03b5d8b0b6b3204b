"""`list report`: statistics for a hotline's or an authority's report, as text, CSV or SVG."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import date
from typing import Any, Final, NamedTuple

import click

from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Document, Exit, Values, word
from blocklistd.daemon.commands.report_svg import drawing
from blocklistd.daemon.commands.text import paragraph, table
from blocklistd.errors import RefusedError
from blocklistd.language.context import N_, _, in_force

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula."""
_DATE: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
NOTE: Final = N_("An entry that several sources list counts for each of them: the sources do not add up to the total.")


def day(value: object) -> str:
    """Reads a date of the form YYYY-MM-DD. Raises RefusedError."""
    text = word(value)
    try:
        found = date.fromisoformat(text)
        if str(found) != text:
            raise ValueError
    except ValueError:
        if _DATE.fullmatch(text):
            raise RefusedError(
                f"found {text}, which is no day of a calendar, expected a date such as 2026-11-20 (YYYY-MM-DD)"
            ) from None
        raise RefusedError("expected a date such as 2026-11-20 (YYYY-MM-DD)") from None
    if found.year < 1971:
        raise RefusedError("expected a date from 1971 on")
    return text


def comparison(document: Document) -> str:
    """A sentence that compares the added entries with those of the year before."""
    before = document["year_before"]
    if before is None:
        return _("There are no figures of the whole same period of the year before.")
    when = {"first": before["from"], "last": before["to"]}
    change = document["total"]["change_percent"]["added"]
    if change is None:
        return _("No entry was added in the same period of the year before ({first} to {last}).", **when)
    if change == 0:
        return _("As many entries were added as in the same period of the year before ({first} to {last}).", **when)
    share = in_force().percent(abs(change))
    if change > 0:
        text = N_("Added entries: {share} more than in the same period of the year before ({first} to {last}).")
    else:
        text = N_("Added entries: {share} fewer than in the same period of the year before ({first} to {last}).")
    return _(text, share=share, **when)


class ReportLine(NamedTuple):
    """A line of a report: the figures of the total, a category or a source."""

    group: str
    name: str
    found: dict[str, Any]


def report_lines(document: Document) -> Iterator[ReportLine]:
    """The lines: the total, each category, each source."""
    yield ReportLine("total", "", document["total"])
    for group, key in (("category", "categories"), ("source", "sources")):
        for name, found in document[key].items():
            yield ReportLine(group, name, found)


def _show(document: Document, values: Values) -> None:
    if values["svg"]:
        click.echo(drawing(document, comparison(document)), nl=False)
    elif values["csv"]:
        click.echo(written_csv(document), nl=False)
    else:
        _text(document)


def _text(document: Document) -> None:
    period = {"list": document["list"], "first": document["from"], "last": document["to"]}
    paragraph(_("list {list}, {first} to {last} (days in UTC)", **period))
    paragraph(comparison(document))
    paragraph(_("figures since {time}", time=document["figures_since"]))
    table(
        ("GROUP", "ADDED", "REMOVED", "EXPIRED", "CORRECTED", "LIVE", "LIFE", "CHANGE", "NAME"),
        [
            (
                *(_(group), found["added"], found["removed"], found["expired"], found["corrected"], found["live"]),
                *(_days(found["median_life_days"]), _percent(found), name),
            )
            for group, name, found in report_lines(document)
        ],
        optional=("CORRECTED", "EXPIRED"),
    )
    paragraph(_("LIFE: median days live of removed entries. CHANGE: of the added entries in a year."))
    paragraph(_(NOTE))


def _days(days: float | None) -> str:
    return "" if days is None else _("{number} d", number=f"{days:g}".replace(".", in_force().forms.point))


def _percent(found: dict[str, Any]) -> str:
    change = found.get("change_percent", {}).get("added")
    return "" if change is None else in_force().percent(change, signed=True)


def written_csv(document: Document) -> str:
    """The figures as CSV (RFC 4180). A name that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    before = document["year_before"]
    figures = ("added", "removed", "expired", "corrected", "live", "median_life_days")
    writer.writerow(("list", "from", "to", "group", "name", *figures, "added_year_before", "added_change_percent"))
    earlier = {(group, name): found for group, name, found in report_lines(before)} if before else {}
    period = document["list"], document["from"], document["to"]
    for group, name, found in report_lines(document):
        compared = earlier.get((group, name), {}).get("added", 0 if before else None)
        change = found.get("change_percent", {}).get("added")
        writer.writerow((*period, group, _cell(name), *(found[figure] for figure in figures), compared, change))
    return out.getvalue()


def _cell(name: str) -> str:
    return f"'{name}" if name.startswith(FORMULA) else name


def _one_format(values: Values) -> Exit | None:
    return Exit(1, "--csv and --svg: choose one of them") if values["csv"] and values["svg"] else None


_JSON: Final = """\
`{"list","from","to","days","figures_since","step","total":FIGURES,"categories":{NAME:FIGURES},"sources":{NAME:\
{…FIGURES,"categories"}},"course":[{"from","to","added","removed","live"}…],"year_before"}`. FIGURES: `"added",\
"removed","expired","corrected","live","median_life_days","change_percent":{"added","removed","live"}`.

- `expired` and `corrected` are parts of `removed`. The median is null if it is not known.
- `"year_before"`: the same for the period of the year before, null if its figures are not complete; there is then no
  `"change_percent"`. A change is null if there were none a year before.
- `step`: the steps of `course` are a day, a week or a month."""

COMMANDS: Final = (
    Command(
        "list report",
        "Report a list's figures of a period: entries added, removed and live, by category and source, and the change "
        "against the same period of the year before.",
        OPERATOR,
        lambda daemon, call: daemon.report.report(call["list"], call["from"], call["to"]),
        _show,
        (
            Argument("list", metavar="LIST", read=word),
            Argument("from", "The first day of the period (UTC).", "--from", "DATE", day, required=True),
            Argument("to", "The last day of the period (UTC).", "--to", "DATE", day, required=True),
            Argument("csv", "Print CSV, for a spreadsheet.", "--csv", flag=True, local=True),
            Argument("svg", "Print a drawing (SVG), for a document.", "--svg", flag=True, local=True),
        ),
        check=_one_format,
        json=_JSON,
    ),
)

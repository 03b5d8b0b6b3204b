"""Prints results for people: tables, colours and time spans."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import click

from blocklistd.change import NOT_MEASURED
from blocklistd.language.context import _, in_force, known

if TYPE_CHECKING:
    from rich.text import Text

WRAPPED_WIDTH: Final = 24  # characters that a wrapped column gets before `optional` columns are kept
MIN_WRAPPED_WIDTH: Final = 12  # the fewest characters of the last column
COLUMNS: Final = 80  # characters in a line of a paragraph
GAP: Final = 1  # characters between two columns
COLOURS: Final = {
    "failed": "bold red",
    "rejected": "red",
    "OVERDUE": "bold red",
    "LATE": "bold red",
    "SILENT": "bold red",
    "FAILED": "bold red",
    "WIDE": "bold red",
    "held": "bold yellow",
    "FROZEN": "bold yellow",
    "quarantine": "yellow",
    "distrusted": "bold red",
    "refused": "red",
}
"""Styles of words in the cells of `coloured` columns. The whole cells of a column named HELD have that style."""

Cells = Sequence[str]


def table(
    columns: Cells,
    rows: Iterable[Sequence[object]],
    *,
    optional: Cells = (),
    wrapped: Cells = (),
    coloured: Cells = (),
) -> None:
    """Prints a table on a terminal; into a pipe, a line of headers and lines of all columns, separated by tabs.

    Headers are English texts, which are printed in the language in force; so are the keys of rows without headers.
    On a narrow terminal, `optional` columns are omitted, in their order there, until the others fit. The last column
    is wrapped, and the `wrapped` columns between words; the others are not, so that an id can be copied. Empty headers
    are not printed: the rows are then keys and values.
    """
    shown = [[_cell(value) for value in row] for row in rows]
    names = columns
    columns = [_(name) for name in names]
    if not any(names):
        shown = [[_(key), *values] for key, *values in shown]
    if not os.isatty(1):
        for row in [columns] * any(columns) + shown:
            click.echo("\t".join(row))
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    widths = [max(cell_len(cell) for cell in [name, *(row[n] for row in shown)]) for n, name in enumerate(columns)]
    wraps = {names.index(name) for name in wrapped} | {len(columns) - 1}
    least = [min(width, MIN_WRAPPED_WIDTH) if n in wraps else width for n, width in enumerate(widths)]
    for n in (names.index(name) for name in wrapped):
        words = (word for cell in (columns[n], *(row[n] for row in shown)) for word in cell.split())
        least[n] = max(map(cell_len, words), default=0)
    kept = _fitting(widths, wraps, [names.index(name) for name in optional], console.width)
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0), show_header=any(columns))
    for number in kept:
        are_counts = bool(shown) and all(row[number].isdigit() or not row[number] for row in shown)
        made.add_column(
            columns[number],
            overflow="fold",
            min_width=least[number],
            justify="right" if are_counts and any(columns) else "left",
        )
    # in rows of keys and values, only the value is coloured
    bright = {n for n, name in enumerate(names) if name in coloured and (n or name)}
    for row in shown:
        made.add_row(*(_colour(row[n], names[n]) if n in bright else row[n] for n in kept))
    console.width = max(console.width, sum(least[n] + GAP for n in kept) - GAP)
    console.print(made)


def _fitting(widths: Sequence[int], wraps: Collection[int], optional: Iterable[int], width: int) -> list[int]:
    """The indexes of the columns that are shown at this width."""
    kept = list(range(len(widths)))
    for number in optional:
        if _needed(kept, widths, wraps) > width:
            kept.remove(number)
    return kept


def _needed(kept: Sequence[int], widths: Sequence[int], wraps: Collection[int]) -> int:
    """The width of a line in which each wrapped column has WRAPPED_WIDTH characters, or fewer if it needs fewer."""
    return sum((min(widths[n], WRAPPED_WIDTH) if n in wraps else widths[n]) + GAP for n in kept) - GAP


def _colour(cell: str, column: str) -> Text:
    from rich.text import Text

    text = Text(cell, COLOURS.get(column.lower(), ""))
    for word, style in COLOURS.items():
        text.highlight_regex(rf"\b{re.escape(_(word))}\b", style)
    return text


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return _("yes") if value else _("no")
        case dict():
            return counts(value)
        case list():
            return ", ".join(map(_cell, value))
    return str(value)


def counts(figures: Mapping[str, object]) -> str:
    """Names and figures in one line: `public_suffix 3, type ip 9`."""
    return ", ".join(f"{_(name)} {_cell(found)}".rstrip() for name, found in figures.items())


def moved(added: int, removed: int, changed: int) -> str:
    """The counts of a change: `+5 -3`, `+5 -3, 2 changed`."""
    if not changed:
        return f"+{added} -{removed}"
    return _("+{added} -{removed}, {changed} changed", added=added, removed=removed, changed=changed)


def total(figures: Mapping[str, int]) -> str:
    """The sum of the figures, then each: `12 (public_suffix 3, type ip 9)`; `0` where there are none."""
    return f"{sum(figures.values())} ({counts(figures)})" if figures else "0"


def escaped(text: str) -> str:
    """The text in printable ASCII: every other character is an escape of JSON."""
    return json.dumps(text)[1:-1].replace("\x7f", "\\u007f")


def paragraph(text: str, indent: str = "", *, fg: str | None = None, err: bool = False) -> None:
    """Prints a text: on a terminal in lines of at most COLUMNS characters, in a pipe in one line. Ids, names and dates
    are not divided. `indent` begins the first line, and twice each further one. `fg`: its colour on a terminal; `err`:
    on stderr."""
    if os.isatty(2 if err else 1):
        wrapper = textwrap.TextWrapper(COLUMNS, indent, 2 * indent, break_on_hyphens=False, break_long_words=False)
        text = wrapper.fill(text)
    else:
        text = indent + text
    click.secho(text, fg=fg, err=err)


def held_by(reason: Mapping[str, str]) -> str:
    """Why a candidate is held: the guard, what it found, and its limit."""
    if reason["guard"] in NOT_MEASURED:
        return f"{reason['guard']}: {known(reason['found'])}"
    found, limit = known(reason["found"]), known(reason["limit"])
    return _("{guard}: found {found}, limit {limit}", guard=reason["guard"], found=found, limit=limit)


def at(name: str, number: int | None) -> str:
    """A list at a version, or a zone at a serial."""
    return _("{name} at {number}", name=name, number=serial(number))


def serial(value: int | None) -> str:
    """A zone's serial; `?` where none is known."""
    return "?" if value is None else str(value)


def age(seconds: float | None) -> str:
    """A time span in seconds as text: `42 s`, `5 min`, `3 h`, `2 d`; `never` for None."""
    if seconds is None:
        return _("never")
    return in_force().duration(seconds)


def until(seconds: float | None) -> str:
    """A future time in `seconds` from now as text: `in 5 min`, `now`; "" for None."""
    if seconds is None:
        return ""
    return _("now") if seconds < 1 else _("in {duration}", duration=age(seconds))


def duration(seconds: float) -> str:
    """A duration in seconds as text: `0.42 s`, `5 min`."""
    return _("{number} s", number=in_force().decimal(seconds, 2)) if seconds < 10 else age(seconds)


def age_of(time: str) -> str:
    """The time since `time` (RFC 3339), as text."""
    return age(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()))

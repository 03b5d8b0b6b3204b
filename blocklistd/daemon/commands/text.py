"""How answers are printed for people: tables and time spans."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import click

NO_LIMIT: Final = 100_000  # characters
FOLDED: Final = 24  # characters that the last column of a table has at least


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; in a pipe, lines with columns apart by tabs.

    The last column is folded where the terminal is narrow; the others stay whole, so that an id can be copied.
    """
    shown = [[_cell(value) for value in row] for row in rows]
    if not os.isatty(1):
        for row in shown:
            click.echo("\t".join(row))
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    made = Table(box=None, header_style="bold", pad_edge=False, show_header=any(columns))
    for number, column in enumerate(columns):
        longest = max(cell_len(cell) for cell in [column, *(row[number] for row in shown)])
        least = longest if number < len(columns) - 1 else min(longest, FOLDED)
        made.add_column(column, overflow="fold", min_width=least)
    for row in shown:
        made.add_row(*row)
    console = Console(highlight=False, markup=False)
    wanted = Measurement.get(console, console.options.update(max_width=NO_LIMIT), made)
    console.width = max(console.width, wanted.minimum)
    console.print(made)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name} {_cell(found)}".rstrip() for name, found in value.items())
        case list():
            return ", ".join(map(_cell, value))
    return str(value)


def counted(counts: Mapping[str, int]) -> str:
    """Counts by what was counted: `12 (public_suffix 3, type ip 9)`, `0` where there are none."""
    by_name = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{sum(counts.values())} ({by_name})" if by_name else "0"


def serial(value: int | None) -> str:
    """A zone's serial; `?` where none is known."""
    return "?" if value is None else str(value)


def age(seconds: float | None) -> str:
    """A time span as a person says it."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

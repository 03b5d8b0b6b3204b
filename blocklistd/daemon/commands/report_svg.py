"""Draws a report as SVG: self-contained, readable in black and white, with the labels of all axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final

from blocklistd.language.context import N_, _, in_force

WIDTH: Final = 800
LEFT: Final = 84  # of the plots
RIGHT: Final = 776
PLOT: Final = 150  # height of a plot
ROWS: Final = 12  # categories, and sources, that have a row in the table; the others are in the text and CSV
NAME: Final = 34  # characters of a name in the table
FONT: Final = "Helvetica, Arial, 'Liberation Sans', sans-serif"
COLUMNS: Final = (
    ("added", 330),
    ("removed", 405),
    ("expired", 476),
    ("corrected", 555),
    ("live", 618),
)


LIVE: Final = {
    "day": N_("Entries live at the end of each day"),
    "week": N_("Entries live at the end of each week"),
    "month": N_("Entries live at the end of each month"),
}
UNITS: Final = {"day": N_("day"), "week": N_("first day of each week"), "month": N_("first day of each month")}


def number(value: float) -> str:
    """A number with a narrow space between groups of three digits."""
    return f"{value:,.0f}".replace(",", "\u202f")


def drawing(document: dict[str, Any], sentence: str) -> str:
    """The SVG document. `sentence`: the comparison with the year before."""
    before = document["year_before"]
    course, earlier = document["course"], before["course"] if before else []
    parts = [
        _text(24, 36, _("List {name}", name=document["list"]), size=22, weight="bold"),
        _text(24, 60, _("{first} to {last} (days in UTC)", first=document["from"], last=document["to"]), size=14),
        _text(24, 82, sentence, size=14),
    ]
    top = 118
    for title, figure in ((N_("Entries added"), "added"), (N_("Entries removed"), "removed")):
        parts.append(_bars(top, _(title), figure, course, earlier, document["step"]))
        top += PLOT + 74
    parts.append(_line(top, course, document["step"]))
    top += PLOT + 80
    parts.append(_table(top, document))
    shown = 3 + min(ROWS, len(document["categories"])) + min(ROWS, len(document["sources"]))
    height = top + 24 * shown + 34
    parts.append(
        _text(24, height - 34, _("Median life: days that removed entries were live. Change: against the year before."))
    )
    parts.append(_text(24, height - 18, _("An entry that several sources list counts for each of these sources.")))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'role="img" font-family="{FONT}" font-size="12" fill="#000">\n'
        f"<title>{_safe(sentence)}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _safe(text: object) -> str:
    """The text for XML, without characters that XML 1.0 forbids."""
    return escape("".join(c if c.isprintable() and c not in "\ufffe\uffff" else " " for c in str(text)))


def _text(x: float, y: float, text: object, *, size: int = 12, anchor: str = "start", weight: str = "normal") -> str:
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{_safe(text)}</text>'


def _step(highest: float) -> int:
    """The distance of the lines of a grid: 1, 2 or 5 times a power of ten, so that there are 2 to 5 lines."""
    rough = max(highest, 1) / 4
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    return next(int(factor * power) for factor in (1, 2, 5, 10) if factor * power >= rough)


def _frame(top: float, title: str, highest: float, course: Sequence[dict[str, Any]], unit: str) -> tuple[str, float]:
    """The title, grid and axes of a plot, and the highest value of its vertical axis."""
    step = _step(highest)
    limit = max(1, math.ceil(highest / step)) * step
    parts = [_text(24, top, title, size=14, weight="bold")]
    base = top + 16 + PLOT
    for value in range(0, limit + 1, step):
        y = base - PLOT * value / limit
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}" stroke="#bbb" stroke-width="0.6"/>')
        parts.append(_text(LEFT - 8, y + 4, number(value), size=11, anchor="end"))
    parts.append(f'<line x1="{LEFT}" y1="{base}" x2="{RIGHT}" y2="{base}" stroke="#000"/>')
    width = (RIGHT - LEFT) / len(course)
    every = math.ceil(len(course) * 74 / (RIGHT - LEFT))
    for place in range(0, len(course), every):
        x = LEFT + (place + 0.5) * width
        if x > RIGHT - 26 and place:
            continue  # its label would leave the page
        parts.append(f'<line x1="{x:.1f}" y1="{base}" x2="{x:.1f}" y2="{base + 4}" stroke="#000"/>')
        parts.append(_text(round(x, 1), base + 17, course[place]["from"], size=11, anchor="middle"))
    parts.append(_text((LEFT + RIGHT) / 2, base + 33, _(UNITS[unit]), size=11, anchor="middle"))
    middle = base - PLOT / 2
    label = _text(20, middle, _("entries"), size=11, anchor="middle")
    parts.append(f'<g transform="rotate(-90 20 {middle:g})">{label}</g>')
    return "\n".join(parts), limit


def _bars(
    top: float,
    title: str,
    figure: str,
    course: Sequence[dict[str, Any]],
    earlier: Sequence[dict[str, Any]],
    unit: str,
) -> str:
    highest = max([step[figure] for step in [*course, *earlier]], default=0)
    frame, limit = _frame(top, title, highest, course, unit)
    base = top + 16 + PLOT
    width = (RIGHT - LEFT) / len(course)
    bar = min(width * (0.38 if earlier else 0.7), 40)
    parts = [frame]
    series = [(earlier, "#fff", -bar), (course, "#333", 0.0)] if earlier else [(course, "#333", -bar / 2)]
    for steps, fill, shift in series:
        for place, step in enumerate(steps):
            high = PLOT * step[figure] / limit
            x = LEFT + (place + 0.5) * width + shift
            parts.append(
                f'<rect x="{x:.1f}" y="{base - high:.1f}" width="{bar:.1f}" height="{high:.1f}" fill="{fill}" '
                f'stroke="#333" stroke-width="0.8"/>'
            )
    if earlier:
        for x, fill, text in ((520, "#333", N_("this period")), (630, "#fff", N_("the year before"))):
            parts.append(f'<rect x="{x}" y="{top - 10}" width="12" height="12" fill="{fill}" stroke="#333"/>')
            parts.append(_text(x + 18, top, _(text), size=12))
    return "\n".join(parts)


def _line(top: float, course: Sequence[dict[str, Any]], unit: str) -> str:
    values = [step["live"] or 0 for step in course]
    frame, limit = _frame(top, _(LIVE[unit]), max(values), course, unit)
    base = top + 16 + PLOT
    width = (RIGHT - LEFT) / len(course)
    points = [(LEFT + (place + 0.5) * width, base - PLOT * value / limit) for place, value in enumerate(values)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "\n".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    return f'{frame}\n<polyline points="{path}" fill="none" stroke="#000" stroke-width="1.8"/>\n{dots}'


def _days(days: float) -> str:
    return _("{number} days", number=f"{days:g}".replace(".", in_force().forms.point))


def _table(top: float, document: dict[str, Any]) -> str:
    heads = [*COLUMNS, (N_("median life"), 706), (N_("change"), 776)]
    parts = [_text(x, top, _(name), anchor="end", weight="bold") for name, x in heads]
    parts.append(f'<line x1="24" y1="{top + 7}" x2="{RIGHT}" y2="{top + 7}" stroke="#000"/>')
    rows: list[tuple[str, dict[str, Any]]] = [(_("all entries"), document["total"])]
    for label, key in (("category", "categories"), ("source", "sources")):
        largest = sorted(document[key].items(), key=lambda item: (-item[1]["added"], -item[1]["live"], item[0]))
        rows += [(f"{_(label)} {name}", found) for name, found in largest[:ROWS]]
    for place, (name, found) in enumerate(rows):
        y = top + 24 * (place + 1)
        shown = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
        parts.append(_text(24, y, shown, weight="bold" if not place else "normal"))
        parts += [_text(x, y, number(found[figure]), anchor="end") for figure, x in COLUMNS]
        days, change = found["median_life_days"], found.get("change_percent", {}).get("added")
        parts.append(_text(706, y, "–" if days is None else _days(days), anchor="end"))
        parts.append(_text(776, y, "–" if change is None else in_force().percent(change, signed=True), anchor="end"))
        parts.append(f'<line x1="24" y1="{y + 7}" x2="{RIGHT}" y2="{y + 7}" stroke="#ccc" stroke-width="0.6"/>')
    return "\n".join(parts)

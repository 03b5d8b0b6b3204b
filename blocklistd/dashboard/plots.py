"""Draws the plots of the dashboard as SVG within the page. The page's style sheet has the colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Final

from markupsafe import Markup

from blocklistd.dashboard.facts import DayFacts, ProtectFacts
from blocklistd.dashboard.html import tag

WIDTH: Final = 420
HEIGHT: Final = 190
LEFT: Final = 60  # of the area of a plot
RIGHT: Final = 412
TOP: Final = 10
BASE: Final = 166
SPARK_WIDTH: Final = 84
SPARK_HEIGHT: Final = 20
TIMES: Final = (1.0, 10.0, 60.0, 600.0, 3600.0, 21600.0, 86400.0, 604800.0)
"""The lines of the grid of times, in seconds; the axis is logarithmic."""

Label = Callable[[float], str]


def grid_step(highest: float) -> int:
    """The distance of the lines of a grid: 1, 2 or 5 times a power of ten, so that there are 2 to 5 lines."""
    rough = max(highest, 1) / 4
    power = 10 ** math.floor(math.log10(rough)) if rough >= 1 else 1
    return next(int(factor * power) for factor in (1, 2, 5, 10) if factor * power >= rough)


def _x(place: int, count: int) -> float:
    return LEFT + (place + 0.5) * (RIGHT - LEFT) / count


def _text(x: float, y: float, text: str, anchor: str = "end") -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _line(y: float, class_: str = "grid") -> Markup:
    return tag("line", x1=LEFT, y1=f"{y:.1f}", x2=RIGHT, y2=f"{y:.1f}", class_=class_)


def _days(days: Sequence[date], label: Callable[[date], str]) -> list[Markup]:
    """A label for each week, the newest day first."""
    made = []
    for place in range(len(days) - 1, -1, -7):
        x = _x(place, len(days))
        anchor = "end" if place == len(days) - 1 else "middle"
        x = RIGHT if anchor == "end" else x
        made.append(_text(x, BASE + 17, label(days[place]), anchor))
    return made


def _svg(name: str, title: str, description: str, *parts: Markup) -> Markup:
    return tag(
        "svg",
        tag("title", title, id=f"{name}-t"),
        tag("desc", description, id=f"{name}-d"),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-t {name}-d",
        class_="plot",
    )


def entries_plot(
    days: Sequence[date], course: Sequence[DayFacts], title: str, said: str, number: Label, label: Callable[[date], str]
) -> Markup:
    """Live entries at the end of each day, from zero on. `said`: the description."""
    highest = max((one.live or 0 for one in course), default=0)
    step = grid_step(highest)
    limit = max(1, math.ceil(highest / step)) * step
    parts = []
    for value in range(0, limit + 1, step):
        y = BASE - (BASE - TOP) * value / limit
        parts += [_line(y, "axis" if value == 0 else "grid"), _text(LEFT - 6, y + 4, number(value))]
    points = [
        (_x(place, len(course)), BASE - (BASE - TOP) * one.live / limit)
        for place, one in enumerate(course)
        if one.live is not None
    ]
    if points:
        written = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        area = f"M{points[0][0]:.1f},{BASE} L{written.replace(' ', ' L')} L{points[-1][0]:.1f},{BASE} Z"
        parts += [tag("path", d=area, class_="area"), tag("polyline", points=written, class_="line")]
        parts.append(tag("circle", cx=f"{points[-1][0]:.1f}", cy=f"{points[-1][1]:.1f}", r=3, class_="dot"))
    return _svg("p-entries", title, said, *parts, *_days(days, label))


def changes_plot(
    days: Sequence[date], course: Sequence[DayFacts], title: str, said: str, number: Label, label: Callable[[date], str]
) -> Markup:
    """Entries added (upwards) and removed (downwards) on each day."""
    added, removed = max((one.added for one in course), default=0), max((one.removed for one in course), default=0)
    step = grid_step(added + removed)
    above, below = max(1, math.ceil(added / step)) * step, math.ceil(removed / step) * step
    unit = (BASE - TOP) / (above + below)
    zero = TOP + above * unit
    parts = []
    for value in range(-below, above + 1, step):
        y = zero - value * unit
        parts += [_line(y, "axis" if value == 0 else "grid"), _text(LEFT - 6, y + 4, number(value))]
    wide = (RIGHT - LEFT) / max(1, len(course)) * 0.66
    for place, one in enumerate(course):
        x = _x(place, len(course)) - wide / 2
        for count, class_ in ((one.added, "added"), (one.removed, "removed")):
            if count:
                high = max(1.0, count * unit)
                y = zero - high if class_ == "added" else zero
                said_of = f"{label(days[place])}: {number(count if class_ == 'added' else -count)}"
                bar = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{wide:.1f}", "height": f"{high:.1f}"}
                parts.append(tag("rect", tag("title", said_of), class_=class_, **bar))
    return _svg("p-changes", title, said, *parts, *_days(days, label))


def protect_plot(
    days: Sequence[date],
    course: Sequence[ProtectFacts],
    title: str,
    said: str,
    time: Label,
    label: Callable[[date], str],
) -> Markup:
    """The median time until a version was live at a node, and the time of nine in ten, on a logarithmic axis."""
    known = [(place, one) for place, one in enumerate(course) if one.reports]
    slowest = max((one.slow for _, one in known), default=TIMES[2])
    fastest = min((one.median for _, one in known), default=TIMES[0])
    low = max((one for one in TIMES if one <= fastest), default=TIMES[0])
    high = min((one for one in TIMES if one >= max(slowest, low * 10)), default=TIMES[-1])
    parts = []
    for value in (one for one in TIMES if low <= one <= high):
        y = _time_y(value, low, high)
        parts += [_line(y, "axis" if value == low else "grid"), _text(LEFT - 6, y + 4, time(value))]
    for of, class_ in (("slow", "line second"), ("median", "line")):
        points = [(_x(place, len(course)), _time_y(getattr(one, of), low, high)) for place, one in known]
        if points:
            parts.append(tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_))
            last = points[-1]
            dot = "dot second" if of == "slow" else "dot"
            parts.append(tag("circle", cx=f"{last[0]:.1f}", cy=f"{last[1]:.1f}", r=3, class_=dot))
    return _svg("p-protect", title, said, *parts, *_days(days, label))


def _time_y(seconds: float, low: float, high: float) -> float:
    inside = min(max(seconds, low), high)
    return BASE - (BASE - TOP) * math.log(inside / low) / math.log(high / low)


def spark_line(values: Sequence[int | None], said: str) -> Markup:
    """A small line of values, between their lowest and their highest."""
    known = [(place, value) for place, value in enumerate(values) if value is not None]
    low, high = min((v for _, v in known), default=0), max((v for _, v in known), default=0)

    def y(value: int) -> float:
        return SPARK_HEIGHT / 2 if high == low else SPARK_HEIGHT - 2 - (SPARK_HEIGHT - 4) * (value - low) / (high - low)

    wide = SPARK_WIDTH / max(1, len(values) - 1)
    points = " ".join(f"{place * wide:.1f},{y(value):.1f}" for place, value in known)
    return _spark(said, tag("polyline", points=points, class_="line") if len(known) > 1 else None)


def spark_bars(values: Sequence[int], said: str) -> Markup:
    """Small bars of counts, from zero on."""
    high, wide = max([1, *values]), SPARK_WIDTH / max(1, len(values))
    bars = [
        tag(
            "rect",
            x=f"{place * wide:.1f}",
            y=f"{SPARK_HEIGHT - max(2.0, (SPARK_HEIGHT - 2) * value / high):.1f}",
            width=f"{wide * 0.7:.1f}",
            height=f"{max(2.0, (SPARK_HEIGHT - 2) * value / high):.1f}",
            class_="added",
        )
        for place, value in enumerate(values)
        if value
    ]
    ground = tag("line", x1=0, y1=SPARK_HEIGHT - 0.5, x2=SPARK_WIDTH, y2=SPARK_HEIGHT - 0.5, class_="grid")
    return _spark(said, ground, *bars)


def _spark(said: str, *parts: Markup | None) -> Markup:
    box = f"0 0 {SPARK_WIDTH} {SPARK_HEIGHT}"
    size = {"width": SPARK_WIDTH, "height": SPARK_HEIGHT}
    return tag("svg", tag("title", said), *parts, viewBox=box, role="img", aria_label=said, class_="spark", **size)

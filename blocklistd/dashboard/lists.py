"""The dashboard's sections on lists, and the plots of DAYS days."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from markupsafe import Markup

from blocklistd.dashboard import plots
from blocklistd.dashboard.facts import ALL_LISTS, DAYS, NO_REPORTS, DayFacts, ListFacts, ProtectFacts, days_until
from blocklistd.dashboard.html import NAMES, NUMBERS, STATES, Child, Column, joined, table, tag
from blocklistd.dashboard.view import ROWS, View, name, section


def lists(view: View) -> Markup:
    """The live version of each list, and since when. Each list is a link that chooses the list of the plots."""
    language, facts = view.language, view.facts
    heading = language.text("Lists")
    if not facts.lists:
        return section("lists", heading, view.empty(language.text("No list is configured.")), wide=True)
    columns = [
        Column(language.text("List"), NAMES),
        Column(language.text("State"), STATES),
        Column(language.text("Version"), NUMBERS),
        Column(language.text("Live since"), NUMBERS),
        Column(language.text("Entries"), NUMBERS),
        Column(language.text("Last change"), NUMBERS),
        Column(language.text("Withheld"), NUMBERS),
        Column(language.text("Entries in {days} days", days=DAYS)),
    ]
    shown = sorted(facts.lists, key=lambda one: (_rank(one), one.id))[: 2 * ROWS]
    rows = [
        (
            _link(view, one.id, name(one.id)),
            _state(view, one),
            view.number(one.version) if one.version else None,
            view.ago(one.published),
            view.number(one.entries),
            _change(view, one) if one.version else None,
            view.number(one.withheld),
            _spark(view, one.id),
        )
        for one in shown
    ]
    made = view.rows(language.text("Lists and their live versions"), columns, rows, len(facts.lists), name="lists")
    return section("lists", heading, made, wide=True)


def _rank(one: ListFacts) -> int:
    return 0 if not one.version else 1 if one.frozen else 2 if one.held else 3


def _state(view: View, one: ListFacts) -> Child:
    language = view.language
    if not one.version:
        return view.state("warn", language.text("no version yet"))
    parts = []
    if one.frozen:
        parts.append(view.state("warn", language.text("frozen")))
    if one.held:
        parts.append(view.state("warn", language.plural("one change held", "{count} changes held", one.held)))
    return joined([parts[0], " ", *parts[1:]]) if parts else view.state("good", language.text("live"))


def _change(view: View, one: ListFacts) -> str:
    return f"+{view.number(one.added)}\u00a0\u00a0−{view.number(one.removed)}"


def _spark(view: View, name: str) -> Markup | None:
    course = view.facts.course.days.get(name, ())
    known = [one.live for one in course if one.live is not None]
    if len(known) < 2:
        return None
    first, last = (view.number(one) for one in (known[0], known[-1]))
    said = view.language.text("{count} days: from {first} to {last} entries", count=len(known), first=first, last=last)
    return plots.spark_line([one.live for one in course], said)


def _link(view: View, list_id: str, text: Child) -> Markup:
    here = view.chosen == list_id
    query = f"?list={quote(list_id)}&lang={view.language.code}" if list_id else f"?lang={view.language.code}"
    return tag("a", text, href=f"{query}#course", aria_current="true" if here else None)


def course(view: View) -> Markup:
    """The plots of the chosen list, each with its figures in a table."""
    language, found = view.language, view.facts.course
    days = days_until(found.today)
    empty = [DayFacts(None, 0, 0)] * len(days)
    figures = found.days.get(view.chosen, empty)
    protect = found.protect.get(view.chosen, [NO_REPORTS] * len(days))
    of = language.text("list {list}", list=view.chosen) if view.chosen else language.text("all lists")
    choice: list[Child] = [language.text("Shown: {what}.", what=of)]
    if view.chosen:
        choice += [" ", _link(view, ALL_LISTS, language.text("Show all lists"))]
    elif len(view.facts.lists) > 1:
        choice += [" ", language.text("Choose a list above to see it alone.")]
    return section(
        "course",
        language.text("The last {days} days", days=DAYS),
        tag("p", *choice, class_="choice"),
        tag("div", _entries(view, figures), _changes(view, figures), _protect(view, protect), class_="plots"),
        wide=True,
    )


def _entries(view: View, figures: Sequence[DayFacts]) -> Markup:
    language, days = view.language, days_until(view.facts.course.today)
    known = [one.live for one in figures if one.live is not None]
    title = language.text("Live entries")
    if not known:
        return _figure(title, view.empty(language.text("There are no figures yet: they begin with the next version.")))
    said = language.text(
        "From {first} to {last}; lowest {low}, highest {high}.",
        first=view.number(known[0]),
        last=view.number(known[-1]),
        low=view.number(min(known)),
        high=view.number(max(known)),
    )
    plot = plots.entries_plot(days, figures, title, said, lambda value: str(view.number(value)), view.day)
    rows = [(view.day(day), view.number(one.live)) for day, one in zip(days, figures, strict=True)]
    columns = [Column(language.text("Day")), Column(language.text("Entries"), NUMBERS)]
    return _figure(title, plot, said, _behind(view, title, columns, rows))


def _changes(view: View, figures: Sequence[DayFacts]) -> Markup:
    language, days = view.language, days_until(view.facts.course.today)
    title = language.text("Changes a day")
    added, removed = sum(one.added for one in figures), sum(one.removed for one in figures)
    if not added and not removed:
        return _figure(title, view.empty(language.text("Nothing has changed.")))
    said = language.text(
        "{added} entries added, {removed} removed.", added=view.number(added), removed=view.number(removed)
    )
    plot = plots.changes_plot(days, figures, title, said, lambda value: str(view.number(value)), view.day)
    rows = [
        (view.day(day), view.number(one.added), view.number(one.removed))
        for day, one in zip(days, figures, strict=True)
    ]
    columns = [
        Column(language.text("Day")),
        Column(language.text("Added"), NUMBERS),
        Column(language.text("Removed"), NUMBERS),
    ]
    legend = _legend((("added", language.text("added")), ("removed", language.text("removed"))))
    return _figure(title, plot, joined([legend, said]), _behind(view, title, columns, rows))


def _protect(view: View, protect: Sequence[ProtectFacts]) -> Markup:
    language, days = view.language, days_until(view.facts.course.today)
    title = language.text("Time to protect")
    known = [one for one in protect if one.reports]
    if not known:
        text = language.text("No node has reported a version yet: receipts and transfers of zones show it.")
        return _figure(title, view.empty(text))
    last = known[-1]
    said = language.text(
        "On the last day with reports, half of the nodes had a version within {median}, nine in ten within {slow}.",
        median=view.span(last.median),
        slow=view.span(last.slow),
    )
    plot = plots.protect_plot(days, protect, title, said, lambda value: str(view.span(value)), view.day)
    rows = [
        (view.day(day), view.span(one.median), view.span(one.slow), view.number(one.reports))
        if one.reports
        else (view.day(day), None, None, view.number(0))
        for day, one in zip(days, protect, strict=True)
    ]
    columns = [
        Column(language.text("Day")),
        Column(language.text("Median"), NUMBERS),
        Column(language.text("Nine in ten"), NUMBERS),
        Column(language.text("Reports"), NUMBERS),
    ]
    legend = _legend((("line", language.text("median")), ("line second", language.text("nine in ten"))))
    return _figure(title, plot, joined([legend, said]), _behind(view, title, columns, rows))


def _figure(title: str, drawn: Child, said: Child = None, behind: Child = None) -> Markup:
    caption = tag("p", said, class_="said") if said is not None else None
    return tag("div", tag("h3", title), drawn, caption, behind, class_="figure")


def _legend(items: Sequence[tuple[str, str]]) -> Markup:
    made = (
        tag(
            "span",
            tag("svg", tag("line", x1=0, y1=5, x2=16, y2=5, class_=class_), viewBox="0 0 16 10", aria_hidden="true")
            if class_.startswith("line")
            else tag(
                "svg",
                tag("rect", x=3, y=0, width=10, height=10, class_=class_),
                viewBox="0 0 16 10",
                aria_hidden="true",
            ),
            text,
        )
        for class_, text in items
    )
    return tag("span", *made, class_="legend")


def _behind(view: View, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Child]]) -> Markup:
    """The figures of a plot, the newest day first."""
    return tag(
        "details",
        tag("summary", view.language.text("Figures as a table")),
        table(caption, columns, list(reversed(rows)), name="behind"),
    )

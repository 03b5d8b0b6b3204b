"""The dashboard's sections on sources, and on what guards hold."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from blocklistd.dashboard import plots
from blocklistd.dashboard.facts import DAYS, SourceFacts
from blocklistd.dashboard.html import NAMES, NUMBERS, STATES, Child, Column, joined, tag
from blocklistd.dashboard.view import ROWS, View, name, section


def sources(view: View) -> Markup:
    """The sources, those with a fault first."""
    language, facts = view.language, view.facts
    heading = language.text("Sources")
    if not facts.sources:
        return section("sources", heading, view.empty(language.text("No source is configured.")))
    columns = [
        Column(language.text("Source"), NAMES),
        Column(language.text("State"), STATES),
        Column(language.text("Age"), NUMBERS),
        Column(language.text("Entries"), NUMBERS),
        Column(language.text("Next pull in"), NUMBERS),
    ]
    shown = sorted(facts.sources, key=lambda one: (one.is_good, one.id))[:ROWS]
    rows = [
        (
            name(one.id),
            _source_state(view, one),
            _age(view, one),
            view.number(one.entries),
            view.span(one.next_in),
        )
        for one in shown
    ]
    caption = language.text("Sources, their age and next pull")
    return section("sources", heading, view.rows(caption, columns, rows, len(facts.sources)))


def _source_state(view: View, one: SourceFacts) -> Markup:
    language, parts = view.language, []
    if one.overdue:
        parts.append(view.state("bad", language.text("overdue")))
    if one.frozen:
        parts.append(view.state("warn", language.text("unchanged for too long")))
    match one.outcome:
        case None:
            parts.append(view.state("calm", language.text("never pulled")))
        case "failed":
            parts.append(view.state("bad", language.text("last pull failed")))
        case "held":
            parts.append(view.state("warn", language.text("held")))
        case "published":
            parts.append(view.state("good", language.text("published")))
        case _ if not one.overdue and not one.frozen:
            parts.append(view.state("good", language.text("unchanged")))
    if one.quarantine:
        parts.append(view.state("calm", language.text("in quarantine")))
    if not one.proved:
        parts.append(view.state("calm", language.text("origin not proved")))
    return _spaced(parts)


def _age(view: View, one: SourceFacts) -> Child:
    if one.age is None:
        return None
    limit = view.language.text("max. {limit}", limit=view.span(one.max_age))
    return joined([view.span(one.age), " ", tag("span", limit, class_="quiet below")])


def _spaced(parts: Sequence[Markup]) -> Markup:
    return Markup(" ").join(parts)


def held(view: View) -> Markup:
    """The held candidates, and the guards with their trend."""
    language, facts = view.language, view.facts
    made: list[Child] = []
    rows: list[Sequence[Child]]
    if facts.held:
        columns = [
            Column(language.text("Candidate"), NAMES),
            Column(language.text("List")),
            Column(language.text("Held for"), NUMBERS),
            Column(language.text("Change"), NUMBERS),
            Column(language.text("Guards"), NAMES),
            Column(language.text("Approvals missing"), NUMBERS),
        ]
        rows = [
            (
                tag("code", one.id),
                name(one.list),
                view.time(one.created, str(view.span((facts.now - one.created).total_seconds()))),
                f"+{view.number(one.added)}\u00a0\u00a0−{view.number(one.removed)}",
                ", ".join(one.guards),
                view.number(one.missing),
            )
            for one in facts.held[:ROWS]
        ]
        made.append(view.rows(language.text("Held changes, the oldest first"), columns, rows, len(facts.held)))
        made.append(
            tag("p", language.text("To decide: {command}", command="blocklistd candidate show ID"), class_="hint")
        )
    else:
        made.append(view.empty(language.text("Nothing waits for a reviewer.")))
    if facts.guards:
        columns = [
            Column(language.text("Guard"), NAMES),
            Column(language.text("Holds now"), NUMBERS),
            Column(language.text("Last 7 days"), NUMBERS),
            Column(language.text("7 days before"), NUMBERS),
            Column(language.text("New in {days} days", days=DAYS)),
        ]
        rows = [
            (
                name(one.name),
                view.number(one.held),
                view.number(sum(one.days[-7:])),
                view.number(sum(one.days[-14:-7])),
                plots.spark_bars(one.days, language.text("{count} in {days} days", count=sum(one.days), days=DAYS)),
            )
            for one in facts.guards[:ROWS]
        ]
        made.append(tag("h3", language.text("By guard")))
        caption = language.text("Changes that guards hold, and how many they began to hold")
        made.append(view.rows(caption, columns, rows, len(facts.guards)))
    if facts.withheld:
        columns = [Column(language.text("Rule"), NAMES), Column(language.text("Entries withheld"), NUMBERS)]
        withheld = sorted(facts.withheld.items(), key=lambda item: (-item[1], item[0]))
        rows = [(name(rule), view.number(count)) for rule, count in withheld[:ROWS]]
        made.append(tag("h3", language.text("Withheld from live lists")))
        caption = language.text("Entries that rules keep out of the live lists")
        made.append(view.rows(caption, columns, rows, len(withheld)))
    return section("held", language.text("Held by guards"), *made)

"""The dashboard's sections on subscribers, zones and secondaries, decisions, and the disk."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from blocklistd.dashboard.facts import SecondaryFacts, SubscriberFacts
from blocklistd.dashboard.forecast import MIN_DAYS, FillsWhen
from blocklistd.dashboard.html import NAMES, NUMBERS, STATES, Child, Column, joined, tag
from blocklistd.dashboard.overview import outlook
from blocklistd.dashboard.view import ROWS, View, name, section


def subscribers(view: View) -> Markup:
    """Each subscriber's lag against its objective: late ones first, then silent ones."""
    language, facts = view.language, view.facts
    heading = language.text("Subscribers")
    if not facts.subscribers:
        return section("subscribers", heading, view.empty(language.text("There is no subscriber yet.")))
    columns = [
        Column(language.text("Subscriber"), NAMES),
        Column(language.text("State"), STATES),
        Column(language.text("Nodes"), NUMBERS),
        Column(language.text("Lag"), NUMBERS),
        Column(language.text("Objective"), NUMBERS),
        Column(language.text("Seen"), NUMBERS),
    ]
    rows = [
        (
            name(one.id),
            _subscriber_state(view, one),
            view.number(one.nodes),
            view.span(one.lag),
            view.span(one.objective),
            view.ago(one.seen),
        )
        for one in sorted(facts.subscribers, key=lambda one: (one.rank, -(one.lag or 0.0), one.id))[:ROWS]
    ]
    caption = language.text("Subscribers: lag against objective, late and silent ones first")
    return section("subscribers", heading, view.rows(caption, columns, rows, len(facts.subscribers)))


def _subscriber_state(view: View, one: SubscriberFacts) -> Markup:
    language, parts = view.language, []
    if one.late:
        parts.append(view.state("bad", language.plural("one node late", "{count} nodes late", one.late)))
    if one.silent:
        parts.append(view.state("warn", language.plural("one node silent", "{count} nodes silent", one.silent)))
    if one.failed_probes:
        text = language.plural("one failed probe", "{count} failed probes", one.failed_probes)
        parts.append(view.state("warn", text))
    if not one.nodes:
        parts.append(view.state("calm", language.text("no node known")))
    if not parts:
        text = language.text("in time") if one.objective is not None else language.text("no objective")
        parts.append(view.state("good" if one.objective is not None else "calm", text))
    return Markup(" ").join(parts)


def zones(view: View) -> Markup:
    """The zones, and the secondaries that are behind or silent first."""
    language, facts = view.language, view.facts
    heading = language.text("Zones and secondaries")
    if not facts.zones:
        return section("zones", heading, view.empty(language.text("No zone is configured.")))
    columns = [
        Column(language.text("Zone"), NAMES),
        Column(language.text("State"), STATES),
        Column(language.text("Serial"), NUMBERS),
        Column(language.text("Rules"), NUMBERS),
        Column(language.text("Secondaries"), NUMBERS),
    ]
    rows: list[Sequence[Child]] = [
        (
            name(one.name),
            view.state("bad", language.text("damaged"))
            if one.damaged
            else view.state("bad", language.text("behind its list"))
            if one.behind
            else view.state("good", language.text("served")),
            str(one.serial) if one.serial is not None else None,
            view.number(one.records),
            language.text("{current} of {known} current", current=one.current, known=one.secondaries)
            if one.secondaries
            else "0",
        )
        for one in sorted(facts.zones, key=lambda one: (not (one.behind or one.damaged), one.name))[:ROWS]
    ]
    made: list[Child] = [view.rows(language.text("Zones"), columns, rows, len(facts.zones))]
    if facts.secondaries:
        columns = [
            Column(language.text("Secondary"), NAMES),
            Column(language.text("State"), STATES),
            Column(language.text("Serial"), NUMBERS),
            Column(language.text("Lag"), NUMBERS),
            Column(language.text("Seen"), NUMBERS),
        ]
        rows = [
            (
                joined([name(one.subscriber), " ", tag("span", f"{one.address}, {one.zone}", class_="quiet below")]),
                _secondary_state(view, one),
                str(one.serial) if one.serial is not None else None,
                view.span(one.lag),
                view.ago(one.seen),
            )
            for one in sorted(facts.secondaries, key=lambda one: (one.rank, -one.lag, one.zone, one.address))[:ROWS]
        ]
        made.append(tag("h3", language.text("Secondaries")))
        caption = language.text("Secondaries, late and silent ones first")
        made.append(view.rows(caption, columns, rows, len(facts.secondaries)))
    return section("zones", heading, *made)


def _secondary_state(view: View, one: SecondaryFacts) -> Markup:
    language = view.language
    if one.late:
        return view.state("bad", language.text("late"))
    if one.silent:
        return view.state("warn", language.text("silent"))
    return view.state("good", language.text("current")) if not one.lag else view.state("calm", language.text("behind"))


def decisions(view: View) -> Markup:
    """The newest decisions of people, by their ids."""
    language, facts = view.language, view.facts
    heading = language.text("Decisions")
    if not facts.decisions:
        return section("decisions", heading, view.empty(language.text("No person has decided anything lately.")))
    columns = [
        Column(language.text("Command")),
        Column(language.text("Object")),
        Column(language.text("Person")),
        Column(language.text("When"), NUMBERS),
    ]
    rows = [(one.action, tag("code", one.object), one.actor, view.ago(one.time)) for one in facts.decisions]
    made = view.rows(language.text("The newest decisions of people, from the audit"), columns, rows, len(rows))
    return section(
        "decisions", heading, made, tag("p", language.text("All: {command}", command="blocklistd audit"), class_="hint")
    )


def disk(view: View) -> Markup | None:
    """The disk of the state_dir, with the day on which it is full."""
    language, found = view.language, view.facts.disk
    if found is None:
        return None
    used = found.size - found.free
    share = used / found.size * 100 if found.size else 0.0
    said = language.text(
        "{used} of {size} used ({share}), {free} free",
        used=view.octets(used),
        size=view.octets(found.size),
        share=language.percent(share, 0),
        free=view.octets(found.free),
    )
    bar = tag(
        "svg",
        tag("title", said),
        tag("rect", x=0, y=0, width=100, height=6, class_="track"),
        tag("rect", x=0, y=0, width=f"{share:.1f}", height=6, class_="used"),
        viewBox="0 0 100 6",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
        class_="bar",
    )
    made = found.forecast
    if made.outlook is FillsWhen.YOUNG:
        basis = language.text(
            "A forecast needs samples over {days} days; there are samples over {known}.",
            days=MIN_DAYS,
            known=language.plural("one day", "{count} days", made.days),
        )
    elif made.lost > 0:
        basis = language.text(
            "The free space shrinks by {amount} a day (samples over {days} days).",
            amount=view.octets(made.lost),
            days=made.days,
        )
    else:
        basis = language.text("The free space does not shrink (samples over {days} days).", days=made.days)
    rows: list[Child] = [bar, tag("p", said), tag("p", tag("strong", outlook(view, made)), ". ", basis)]
    if view.facts.root_days is not None:
        text = language.plural(
            "root.json expires in one day.", "root.json expires in {count} days.", view.facts.root_days
        )
        rows.append(tag("p", text, class_="quiet"))
    return section("disk", language.text("Disk and keys"), *rows)

"""The first part of the dashboard: what is wrong, and the figures of the whole system."""

from __future__ import annotations

from markupsafe import Markup

from blocklistd.dashboard.facts import AlarmFacts
from blocklistd.dashboard.forecast import DiskForecast, FillsWhen
from blocklistd.dashboard.html import Child, joined, tag
from blocklistd.dashboard.view import ROWS, View, name, with_code
from blocklistd.telemetry import ALARMS


def banner(view: View) -> Markup:
    """One sentence on the state of the system, and what is wrong."""
    facts, language = view.facts, view.language
    alarms = language.plural("one alarm is active", "{count} alarms are active", len(facts.alarms))
    if facts.down:
        kind, text = "bad", language.text("Not every list and zone is served.")
    elif not facts.readable:
        kind, text = "bad", language.text("The database can't be read. The live versions stay served.")
    elif facts.alarms or facts.notes:
        kind, text = "warn", language.text("Every list and zone is served; {alarms}.", alarms=alarms)
        if not facts.alarms:
            text = language.text("Every list and zone is served, with a remark.")
    else:
        kind, text = "good", language.text("Every list and zone is served; no alarm is active.")
    lines = [*(tag("li", view.message(line)) for line in (*facts.down, *facts.notes)[:ROWS])]
    lines += [_alarm(view, one) for one in facts.alarms[:ROWS]]
    left = max(0, len(facts.down) + len(facts.notes) - ROWS) + max(0, len(facts.alarms) - ROWS)
    if left:
        lines.append(tag("li", language.plural("and {count} more", "and {count} more", left)))
    return tag(
        "section",
        tag("p", view.state(kind, text), class_="verdict"),
        tag("ul", *lines, class_="alarms") if lines else None,
        id="state",
        aria_label=language.text("State"),
        class_=f"banner {kind}",
    )


def _alarm(view: View, one: AlarmFacts) -> Markup:
    """What the kind of alarm means, what it is about, and what to do."""
    meaning = with_code(view.language.text(ALARMS[one.kind]))
    head = tag("strong", name(one.subject or one.kind), ":")
    text = view.message(one.text) if one.text is not None else None
    return tag("li", head, " ", meaning, tag("span", text, class_="detail") if text is not None else None)


def tiles(view: View) -> Markup:
    """The figures of the whole system, each a link to its section."""
    facts, language = view.facts, view.language
    nodes = sum(one.nodes for one in facts.subscribers)
    late, silent = sum(one.late for one in facts.subscribers), sum(one.silent for one in facts.subscribers)
    newest = max((one.published for one in facts.lists if one.published is not None), default=None)
    bad_sources = sum(not one.is_good for one in facts.sources)
    made = [
        _tile(
            "lists",
            language.text("Live entries"),
            view.number(sum(one.entries for one in facts.lists)),
            language.plural("in one list", "in {count} lists", len(facts.lists)),
        ),
        _tile("lists", language.text("Newest version"), view.ago(newest), _newest(view)),
        _tile(
            "sources",
            language.text("Sources"),
            view.number(len(facts.sources)),
            view.state("bad", language.plural("one needs attention", "{count} need attention", bad_sources))
            if bad_sources
            else language.text("all in time"),
        ),
        _tile(
            "held",
            language.text("Held changes"),
            view.number(len(facts.held)),
            view.state("warn", language.text("wait for a reviewer"))
            if facts.held
            else language.text("nothing waits for a reviewer"),
        ),
        _tile("subscribers", language.text("Nodes"), view.number(nodes), _nodes(view, late, silent)),
    ]
    if facts.disk is not None:
        free = view.octets(facts.disk.free)
        made.append(_tile("disk", language.text("Free disk space"), free, outlook(view, facts.disk.forecast)))
    return tag("nav", *made, class_="tiles", aria_label=language.text("Figures"))


def _tile(to: str, label: str, figure: Child, said: Child) -> Markup:
    return tag(
        "a",
        tag("span", label, class_="label"),
        tag("span", figure if figure is not None else "–", class_="figure"),
        tag("span", said, class_="said"),
        href=f"#{to}",
    )


def _newest(view: View) -> str | None:
    known = [one for one in view.facts.lists if one.published is not None]
    newest = max(known, key=lambda one: (one.published, one.id), default=None)
    if newest is None:
        return view.language.text("no list has a version yet")
    return view.language.text("{list}, version {version}", list=newest.id, version=view.number(newest.version))


def _nodes(view: View, late: int, silent: int) -> Child:
    language = view.language
    if not late and not silent:
        return language.text("none is late or silent")
    parts = []
    if late:
        parts.append(view.state("bad", language.plural("one late", "{count} late", late)))
    if silent:
        parts.append(view.state("warn", language.plural("one silent", "{count} silent", silent)))
    return joined([parts[0], " ", *parts[1:]])


def outlook(view: View, found: DiskForecast) -> Child:
    """The forecast of the disk in words."""
    language = view.language
    match found.outlook:
        case FillsWhen.YOUNG:
            return language.text("no forecast yet")
        case FillsWhen.STEADY:
            return language.text("is not filling")
        case FillsWhen.FAR:
            return language.text("not full within two years")
        case FillsWhen.FULL:
            assert found.full is not None
            left = (found.full - view.facts.now.date()).days
            text = language.text("full on {day}", day=language.day(found.full))
            return text if left > 60 else view.state("bad" if left <= 14 else "warn", text)

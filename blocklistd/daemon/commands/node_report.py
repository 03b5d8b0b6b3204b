"""`subscriber report`: how long versions took to be live at a subscriber's nodes, and the text of nodes in `status`."""

from __future__ import annotations

from typing import Any, Final

import click

from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Document, Values, word
from blocklistd.daemon.commands.report import day
from blocklistd.daemon.commands.text import age, age_of, paragraph, table
from blocklistd.language.context import N_, _
from blocklistd.limits import NODES_SHOWN

_NOTE: Final = N_(
    "LIVE: nodes at which the version, or a later one, is live. MISSING: the others. SLOWEST: where it took longest."
)


def _show(document: Document, values: Values) -> None:
    period = {"id": document["id"], "first": document["from"], "last": document["to"]}
    paragraph(_("subscriber {id}, {first} to {last} (days in UTC)", **period))
    objective = document["objective"]
    if objective:
        paragraph(_("objective: {duration}", duration=age(objective)))
    else:
        paragraph(_("no objective: no node is late"))
    if document["from"] < document["kept_since"][:10]:
        paragraph(_("receipts before {time} are no longer kept", time=document["kept_since"]))
    for name, found in document["lists"].items():
        click.echo()
        _show_subject(_("list {name}", name=name), "VERSION", found)
    for name, found in document["zones"].items():
        click.echo()
        _show_subject(_("zone {name}", name=name), "SERIAL", found)
    click.echo()
    for title, key in ((N_("late"), "late"), (N_("silent"), "silent"), (N_("failed probe"), "failed_probes")):
        for one in document[key]:
            subject = _("list {name}", name=one["list"]) if "list" in one else _("zone {name}", name=one["zone"])
            paragraph(f"{_(title)}: {one['node']} ({subject}), {_since(one)}")
    if not any(document[key] for key in ("late", "silent", "failed_probes")):
        click.echo(_("no node is late or silent, and no probe failed"))


def _since(one: dict[str, Any]) -> str:
    if "lag" in one:
        return _("{duration} behind", duration=age(one["lag"]))
    if "seen" in one:
        return _("seen {duration} ago", duration=age_of(one["seen"]))
    return _("version {version}, {time}", version=one["version"], time=one["time"])


def _show_subject(title: str, number: str, found: dict[str, Any]) -> None:
    if not found["versions"]:
        paragraph(_("{subject}: no version in this period", subject=title))
        return
    paragraph(_("{subject}, versions in this period: {count}", subject=title, count=len(found["versions"])))
    if not found["nodes"]:
        paragraph(_("no node is known"))
        return
    table(
        (number, "PUBLISHED", "LIVE", "MISSING", "LATE", "MEDIAN", "WORST", "SLOWEST"),
        [
            (
                *(one["version"], one["published"], one["live"], one["missing"], one["late"]),
                *(*_times(one), one["slowest_node"]),
            )
            for one in found["versions"]
        ],
        optional=("MEDIAN",),
    )
    paragraph(_(_NOTE))
    click.echo()
    table(
        ("MEDIAN", "WORST", "LIVE", "MISSING", "LATE", "BLOCKED", "RESOLVES", "NODE"),
        [
            (*_times(one), one["live"], one["missing"], one["late"], one["blocked"], one["resolves"], one["node"])
            for one in found["nodes"]
        ],
        optional=("BLOCKED",),
    )


def _times(one: dict[str, Any]) -> tuple[str, str]:
    """The median and the longest time of a row."""
    typical, longest = ("" if one[key] is None else age(one[key]) for key in ("median", "slowest"))
    return typical, longest


def wrong_nodes(subscriber: dict[str, Any]) -> list[str]:
    """Lines about the nodes of a subscriber, as `status` has it, that are late, silent, or failed a probe."""
    nodes = [(node["node"], node) for node in subscriber["nodes"]]
    nodes += [(found["address"], found) for zone in subscriber["zones"].values() for found in zone["secondaries"]]
    lines = []
    for title, key, wrong in (
        ("late", "late", True),
        ("silent", "silent", True),
        (N_("failed probe"), "probe", "resolves"),
    ):
        names = sorted({name for name, one in nodes if one.get(key) == wrong})
        if names:
            shown = ", ".join(names[:NODES_SHOWN])
            if len(names) > NODES_SHOWN:
                shown = _("{names} and {count} more", names=shown, count=len(names) - NODES_SHOWN)
            lines.append(f"{_(title)}: {shown}")
    return lines


_JSON: Final = """\
`{"id","from","to","objective","kept_since","lists":{LIST:SUBJECT},"zones":{ZONE:SUBJECT},"late":[{"node","list" or \
"zone","version","lag"}…],"silent":[{…,"seen"}…],"failed_probes":[{…,"version","time"}…]}`. SUBJECT: `{"versions":\
[{"version","published","fastest","median","slowest","slowest_node","live","missing","late","nodes":{NODE:{"seconds",\
"late","state","reason","probe"}}}…],"nodes":[{"node","version","seen","fastest","median","slowest","live","missing",\
"late","blocked","resolves","late_now","silent","failed_probe"}…]}`. Times are seconds from the publication.

- A version is live at a node once the node has reported it, or a later one, as `applied` or `partial`; for a \
secondary, once it has the serial, or a later one. `live` counts where it is, `missing` where it is not; `late` where \
that took, or takes, longer than the objective.
- `seconds` is null where the version is not live; `state`, `reason` and `probe` where there is no receipt for it. \
`"nodes"` of a version is omitted in a long report.
- `late`, `silent` and `failed_probes` are about now, not about the period."""

COMMANDS: Final = (
    Command(
        "subscriber report",
        "Report how long each version took to be live at each node of a subscriber, against its objective; late and "
        "silent nodes; failed probes.",
        OPERATOR,
        lambda daemon, call: daemon.node_report.report(call["id"], call["from"], call["to"]),
        _show,
        (
            Argument("id", metavar="ID", read=word),
            Argument("from", "The first day of the period (UTC).", "--from", "DATE", day, required=True),
            Argument("to", "The last day of the period (UTC).", "--to", "DATE", day, required=True),
        ),
        json=_JSON,
    ),
)

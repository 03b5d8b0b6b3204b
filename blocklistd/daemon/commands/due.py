"""`entry due | keep`."""

from __future__ import annotations

from typing import Final

from blocklistd.daemon.commands.candidate import WHY
from blocklistd.daemon.commands.command import OPERATOR, REVIEWER, Argument, Command, Document, Values, entry_id
from blocklistd.daemon.commands.lists import LIST
from blocklistd.daemon.commands.text import paragraph, table
from blocklistd.language.context import _

_ENTRY: Final = '{"id","type","ref","sources","term","since","due","days"}'


def _due(found: Document, values: Values) -> None:
    table(
        ("ENTRY", "DAYS", "TERM", "DUE", "TYPE", "REF", "SOURCES"),
        [
            (one["id"], one["days"], one["term"], one["due"], one["type"], one.get("ref"), ", ".join(one["sources"]))
            for one in found["entries"]
        ],
        optional=("TYPE", "DUE"),
        wrapped=("REF",),
    )
    if found["total"] > len(found["entries"]):
        shown = {"list": found["list"], "total": found["total"], "shown": len(found["entries"])}
        paragraph(_("{total} entries of list {list} are due; the first {shown} are shown", **shown))


def _kept(done: Document, values: Values) -> None:
    for one in done["entries"]:
        named = {"list": done["list"], "id": one["id"], "type": one["type"]}
        paragraph(_("{list}: entry {id} ({type}) is kept: its lifetime begins again", **named))


COMMANDS: Final = (
    Command(
        "entry due",
        "List the entries whose `lifetime` has come: the first 1,000, with their ages in days and the term. They stay "
        "live until an expiry; under `at_end: review` until somebody delists them.",
        OPERATOR,
        lambda daemon, call: daemon.due.due(call["list"]),
        _due,
        (LIST,),
        json=f'`{{"list","total","entries":[{_ENTRY}…]}}`. `since`, `due`: when the term began, and ended. '
        "`total`: of all that are due. `ref`: the source's reference; null without one, or if it contains the entry.",
    ),
    Command(
        "entry keep",
        "Confirm entries that are due: their lifetime begins again. Exit 1, and nothing is changed, if one of them is "
        "not due. A held expiry is made again without them.",
        REVIEWER,
        lambda daemon, call: daemon.due.keep(call["list"], call["ids"], call["why"], call.act),
        _kept,
        (LIST, Argument("ids", metavar="ID…", read=entry_id, many=True), WHY),
        changes=True,
        json=f'`{{"list","entries":[{_ENTRY}…]}}`.',
    ),
)

"""`entry delist | restore | embargo | release | corrections`."""

from __future__ import annotations

from typing import Final

from blocklistd.daemon.commands.candidate import WHY
from blocklistd.daemon.commands.command import (
    EDITOR,
    OPERATOR,
    Argument,
    Command,
    Document,
    Effect,
    Exit,
    Values,
    free_text,
)
from blocklistd.daemon.commands.entry_text import ENTRY
from blocklistd.daemon.commands.lists import LIST
from blocklistd.daemon.commands.moments import coming
from blocklistd.daemon.commands.text import paragraph, table
from blocklistd.language.context import _

_T: Final = "a time like 2030-01-31T12:00:00Z, or how long from now, like 7d."
_PLACED_JSON: Final = (
    '`{"list","kind","version","until","entries":[{"id","type","covered_by":[ID…]}]}`. `version`: the one without the '
    "entries, null if none was live. `covered_by`: live entries that still block the name."
)
_ENDED_JSON: Final = (
    '`{"list","outcome","reason","candidate","version","entries":[{"id","type","kind"}]}`. `outcome`: published, held, '
    "unchanged (the entry is not live for another reason), failed."
)


def _placed(done: Document, values: Values) -> None:
    for entry in done["entries"]:
        text = _placed_text(done, entry)
        if not entry["live"] and done["version"] is not None:
            text = _("{text}, too: a source may list the name as one tomorrow", text=text)
        paragraph(text)
        if entry["covered_by"]:
            paragraph(_("the name stays blocked by entry {ids}", ids=", ".join(entry["covered_by"])))
    if done["version"] is not None:
        paragraph(_("released as version {version}", version=done["version"]))
    else:
        paragraph(_("no version was made: the entry is not live; it will not be published while this is in force"))


def _placed_text(done: Document, entry: Document) -> str:
    named = {"list": done["list"], "id": entry["id"], "type": entry["type"], "until": done["until"]}
    if done["kind"] == "delisted":
        if done["until"]:
            return _("{list}: entry {id} ({type}) is delisted until {until}", **named)
        return _("{list}: entry {id} ({type}) is delisted", **named)
    return _("{list}: entry {id} ({type}) is embargoed until {until}", **named)


def _ended(done: Document, values: Values) -> None:
    for entry in done["entries"] if done["outcome"] in ("published", "unchanged") else ():
        named = {"list": done["list"], "id": entry["id"], "type": entry["type"]}
        if entry["kind"] == "delisted":
            paragraph(_("{list}: entry {id} ({type}) is not delisted any more", **named))
        else:
            paragraph(_("{list}: entry {id} ({type}) is not embargoed any more", **named))
    if done["outcome"] == "published":
        paragraph(_("released as version {version}", version=done["version"]))
    elif done["outcome"] == "unchanged":
        paragraph(_("no version was made: no source asserts the entry now, or another rule withholds it"))


def _ended_exit(done: Document, values: Values) -> Exit | None:
    if done["outcome"] == "held":
        candidate = done["candidate"]
        return Exit(
            4,
            f"list {done['list']}: held as {candidate} ({done['reason']}): the entry stays out until a reviewer "
            f"approves: run `blocklistd candidate show {candidate}`",
        )
    return Exit(1, f"list {done['list']}: {done['reason']}") if done["outcome"] == "failed" else None


def _corrections(found: Document, values: Values) -> None:
    table(
        ("ENTRY", "TYPE", "KIND", "SINCE", "UNTIL", "BY", "OWNER", "HELD", "WHY"),
        [
            (
                *(one["entry"], one["type"], _(one["kind"]), one["since"], one["until"]),
                *(one["user"], one["owner"], one["candidate"], one["why"]),
            )
            for one in found
        ],
        optional=("TYPE", "OWNER", "SINCE", "BY", "UNTIL"),
    )


def _begin(name: str, summary: str, effect: Effect, *arguments: Argument) -> Command:
    """A command that places a correction."""
    return Command(
        name, summary, EDITOR, effect, _placed, (LIST, ENTRY, WHY, *arguments), changes=True, json=_PLACED_JSON
    )


def _end(name: str, summary: str, effect: Effect) -> Command:
    """A command that ends a correction."""
    return Command(
        name, summary, EDITOR, effect, _ended, (LIST, ENTRY, WHY), changes=True, end=_ended_exit, json=_ENDED_JSON
    )


COMMANDS: Final = (
    _begin(
        "entry delist",
        "Take an entry out of a list at once, in a new version. It stays out, whatever its sources say, until "
        "`entry restore`. Exit 1, and nothing is changed, if it is not live.",
        lambda daemon, call: daemon.corrections.delist(
            call["list"], call["entry"], call["why"], call["until"], call.act
        ),
        Argument("until", f"When the entry comes back by itself: {_T}", "--until", "T", coming),
    ),
    _end(
        "entry restore",
        "Bring a delisted entry back. This lengthens the list: its guards and its release rule decide (exit 4: held).",
        lambda daemon, call: daemon.corrections.restore(call["list"], call["entry"], call["why"], call.act),
    ),
    _begin(
        "entry embargo",
        "Keep an entry unpublished until a time, whether it is live or no source has it yet.",
        lambda daemon, call: daemon.corrections.embargo(
            call["list"], call["entry"], call["why"], call["until"], call["owner"], call.act
        ),
        Argument("until", f"When the embargo ends by itself: {_T}", "--until", "T", coming, required=True),
        Argument("owner", "Who asked for it, for the audit.", "--owner", read=free_text, required=True),
    ),
    _end(
        "entry release",
        "End an embargo. If a source asserts the entry, this lengthens the list: its guards and its release rule "
        "decide (exit 4: held).",
        lambda daemon, call: daemon.corrections.release(call["list"], call["entry"], call["why"], call.act),
    ),
    Command(
        "entry corrections",
        "List the delistings and embargoes of a list that are in force, by the ids of their entries.",
        OPERATOR,
        lambda daemon, call: daemon.corrections.list(call["list"]),
        _corrections,
        (LIST,),
        json='`[{"entry","type","kind","since","until","user","owner","why","candidate"}…]`. `candidate`: of its end.',
    ),
)

"""`entry explain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from blocklistd.daemon.commands.command import OPERATOR, Command, Document, Values
from blocklistd.daemon.commands.entry_text import ENTRY
from blocklistd.daemon.commands.lists import LIST
from blocklistd.daemon.commands.text import table
from blocklistd.language.context import N_, _, known, ngettext

SHOWN_VERSIONS: Final = 10
"""The newest periods in the list that the text shows; `--json` has all."""
_STATES: Final = {
    "offered": N_("not released yet"),
    "quarantine": N_("in quarantine"),
    "not taken": N_("not taken by the policy in force"),
}
_CHANGES: Final = {
    "added": N_("{candidate}: it would be added ({guards})"),
    "removed": N_("{candidate}: it would be removed ({guards})"),
    "changed": N_("{candidate}: it would be changed ({guards})"),
}
_JSON: Final = (
    '`{"list","id","type","live","since","sources":[{"source","ref","since","expires","state"}],"versions":[{"added_in",'
    '"removed_in","added","removed"}],"known_from","delisted":null|{"user","since","until","owner","why"},"embargo",'
    '"excepted","test","lifetime":null|{"term","since","ends","due"},"kept":null|{"user","since","why"},"withheld","held":[{"candidate","change","guards"}],"why_not":null|{"rule","text"},"covered_by":[ID…],'
    '"related":[ID…],"others":[…]}`. `versions`: from `added_in` to before `removed_in` (null: it is live). '
    "`known_from`: before this version nothing is known (null: all versions are known). `since` of a source: null if "
    "not known. `withheld`: the rule. `test`: whether it is a test entry. "
    "`others`: the same for other types of the text that the list knows."
)


def _show(found: Document, values: Values) -> None:
    for number, one in enumerate([found, *found["others"]]):
        if number:
            click.echo()
        table(("", ""), list(_rows(found["list"], one)), coloured=("",))


def _rows(list_id: str, one: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "entry", _("{id} ({type}) of list {list}", id=one["id"], type=one["type"], list=list_id)
    yield "live", _live(one)
    if one["why_not"]:
        yield "why not", known(one["why_not"]["text"])
    if one["test"]:
        yield "source", _("a test entry of the configuration")
    for source in one["sources"]:
        yield "source", _source(source)
    for made in one["versions"][-SHOWN_VERSIONS:]:
        yield "versions", _versions(made)
    if len(one["versions"]) > SHOWN_VERSIONS:
        count = len(one["versions"]) - SHOWN_VERSIONS
        yield "", ngettext("and {count} earlier period: see --json", "and {count} earlier periods: see --json", count)
    if one["known_from"]:
        before = one["known_from"]
        yield "", _("before version {version} it is not known: those deltas are not kept", version=before)
    if one["lifetime"]:
        yield "lifetime", _lifetime(one["lifetime"])
    if one["kept"]:
        yield "kept", _correction(one["kept"] | {"until": None, "owner": None})
    for name in ("delisted", "embargo", "excepted"):
        if one[name]:
            yield name, _correction(one[name])
    for held in one["held"]:
        named = {"candidate": held["candidate"], "guards": ", ".join(held["guards"])}
        yield "held", _(_CHANGES.get(held["change"], "{candidate} ({guards})"), **named)
    if one["covered_by"]:
        ids = ", ".join(one["covered_by"])
        yield "blocked by", _("{ids}: live entries that block its name, too", ids=ids)


def _live(one: dict[str, Any]) -> str:
    if not one["live"]:
        return _("no")
    return _("yes, since {since}", since=one["since"]) if one["since"] else _("yes")


def _source(one: dict[str, Any]) -> str:
    parts = [str(one["source"])]
    if one["ref"] is not None:
        parts.append(_("reference {ref}", ref=one["ref"]))
    if one["since"]:
        parts.append(_("since {since}", since=one["since"]))
    if one["expires"]:
        parts.append(_("expires {time}", time=one["expires"]))
    if one["state"] in _STATES:
        parts.append(_(_STATES[one["state"]]))
    return ", ".join(parts)


def _versions(made: dict[str, Any]) -> str:
    first, last = f"{made['added_in']} ({made['added']})", f"{made['removed_in']} ({made['removed']})"
    if made["added_in"]:
        return (
            _("from {first} to before {last}", first=first, last=last)
            if made["removed_in"]
            else _("from {first} on", first=first)
        )
    return _("from an earlier one to before {last}", last=last) if made["removed_in"] else _("from an earlier one on")


def _lifetime(one: dict[str, Any]) -> str:
    named = {"ends": one["ends"], "term": one["term"], "since": one["since"]}
    if one["due"]:
        return _("due since {ends} ({term}, since {since}): `blocklistd entry keep` begins it again", **named)
    return _("until {ends} ({term}, since {since})", **named)


def _correction(one: dict[str, Any]) -> str:
    named = {"user": one["user"], "since": one["since"], "until": one["until"]}
    made = (
        _("by {user} since {since} until {until}", **named) if one["until"] else _("by {user} since {since}", **named)
    )
    if one["owner"]:
        made = _("{correction}, for {owner}", correction=made, owner=one["owner"])
    return f"{made}: {one['why']}"


COMMANDS: Final = (
    Command(
        "entry explain",
        "Explain an entry of a list: which source asserts it, under which reference, since when, in which versions it "
        "is, and under which delisting or embargo; and why not, if it is not live. The answer does not repeat the "
        "entry.",
        OPERATOR,
        lambda daemon, call: daemon.explain.explain(call["list"], call["entry"], call.act),
        _show,
        (LIST, ENTRY),
        audited=True,
        json=_JSON,
    ),
)

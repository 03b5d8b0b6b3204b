"""`entry explain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import click

from blocklistd.daemon.commands.command import OPERATOR, Command, Document, Values
from blocklistd.daemon.commands.entry_text import ENTRY
from blocklistd.daemon.commands.lists import LIST
from blocklistd.daemon.commands.text import table

SHOWN_VERSIONS: Final = 10
"""The newest periods in the list that the text shows; `--json` has all."""
_STATES: Final = {
    "offered": "not released yet",
    "quarantine": "in quarantine",
    "not taken": "not taken by the policy in force",
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
    yield "entry", f"{one['id']} ({one['type']}) of list {list_id}"
    yield "live", _live(one)
    if one["why_not"]:
        yield "why not", one["why_not"]["text"]
    if one["test"]:
        yield "source", "a test entry of the configuration"
    for source in one["sources"]:
        yield "source", _source(source)
    for made in one["versions"][-SHOWN_VERSIONS:]:
        yield "versions", _versions(made)
    if len(one["versions"]) > SHOWN_VERSIONS:
        yield "", f"and {len(one['versions']) - SHOWN_VERSIONS} earlier periods: see --json"
    if one["known_from"]:
        yield "", f"before version {one['known_from']} it is not known: those deltas are not kept"
    if one["lifetime"]:
        yield "lifetime", _lifetime(one["lifetime"])
    if one["kept"]:
        yield "kept", _correction(one["kept"] | {"until": None, "owner": None})
    for name in ("delisted", "embargo", "excepted"):
        if one[name]:
            yield name, _correction(one[name])
    for held in one["held"]:
        yield "held", f"{held['candidate']}: it would be {held['change']} ({', '.join(held['guards'])})"
    if one["covered_by"]:
        yield "blocked by", f"{', '.join(one['covered_by'])}: live entries that block its name, too"


def _live(one: dict[str, Any]) -> str:
    if not one["live"]:
        return "no"
    return f"yes, since {one['since']}" if one["since"] else "yes"


def _source(one: dict[str, Any]) -> str:
    parts = [str(one["source"])]
    if one["ref"] is not None:
        parts.append(f"reference {one['ref']}")
    if one["since"]:
        parts.append(f"since {one['since']}")
    if one["expires"]:
        parts.append(f"expires {one['expires']}")
    if one["state"] in _STATES:
        parts.append(_STATES[one["state"]])
    return ", ".join(parts)


def _versions(made: dict[str, Any]) -> str:
    begin = f"from {made['added_in']} ({made['added']})" if made["added_in"] else "from an earlier one"
    return f"{begin} to before {made['removed_in']} ({made['removed']})" if made["removed_in"] else f"{begin} on"


def _lifetime(one: dict[str, Any]) -> str:
    term = f"{one['term']}, since {one['since']}"
    if one["due"]:
        return f"due since {one['ends']} ({term}): `blocklistd entry keep` begins it again"
    return f"until {one['ends']} ({term})"


def _correction(one: dict[str, Any]) -> str:
    until = f" until {one['until']}" if one["until"] else ""
    owner = f", for {one['owner']}" if one["owner"] else ""
    return f"by {one['user']} since {one['since']}{until}{owner}: {one['why']}"


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

"""`candidate show`: the figures of a candidate, or its entries."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any, Final

import click
import orjson

from blocklistd.daemon.commands.candidate import CANDIDATE, cause_of, missing
from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Document, Values, yes_or_no
from blocklistd.daemon.commands.lists import Array
from blocklistd.daemon.commands.text import escaped, held_by, moved, table
from blocklistd.language.context import _

SHOWN_HITS: Final = 20
"""Ids of entries that a guard file withholds, for each rule, in the table; `--json` has all."""
BARS: Final = "▁▂▃▄▅▆▇█"
FIGURES: Final = ("entries", "added", "removed", "changed")
_JSON: Final = (
    '`{"id","list","kind","source","cause","base","created","brought_by","approvals":[USER…],"missing","reasons":[{"guard",'
    '"limit","found"}],"entries","added","removed","changed","categories":{NAME:{"added","removed","changed"}},'
    '"by_source","suffixes","withheld":{RULE:N},"hits":{RULE:[ID…]},"trend":[{"version","time","entries"}],"decisions",'
    '"state","why","version","same_change":[ID…]}`. '
    "An entry whose category changes counts as removed from one and added to the other. "
    'With --show-entries an array of `{"add":ENTRY}` and `{"remove":ENTRY}`.'
)


def _show(response: Any, values: Values) -> None:
    """Prints the figures, or the entries."""
    if values["show_entries"]:
        _entries(response, values)
        return
    body = response.read()
    if values["json"]:
        click.echo(body.decode())
        return
    table(("", ""), list(_rows(orjson.loads(body))), coloured=("",))


def _entries(response: Any, values: Values) -> None:
    if not values["json"]:
        for line in response:
            click.echo(entry_line(line))
        return
    out = Array(sys.stdout.buffer)
    shutil.copyfileobj(response, out)
    out.close()
    sys.stdout.buffer.flush()


def entry_line(line: bytes) -> str:
    """The text of a line of a delta: `+` or `-`, the id, the type, the value, and the other attributes as JSON."""
    ((change, entry),) = orjson.loads(line).items()
    shown = [entry.pop(name, "") for name in ("id", "type", "value")]
    more = f" {json.dumps(entry)}" if entry else ""
    return f"{'+' if change == 'add' else '-'} {' '.join(map(escaped, shown))}{more}"


def _rows(one: Document) -> Iterator[tuple[str, object]]:
    for key in ("id", "state", "list", "kind", "source", "created", "base", *FIGURES, "why", "version"):
        if one[key] in (None, ""):
            continue
        if (key, one["kind"]) == ("kind", "rollback"):
            yield key, cause_of(one)
        else:
            yield key, _(one[key]) if key in ("kind", "state") else one[key]
    if len(one.get("trend", ())) > 1:
        yield "trend", _trend(one["trend"])
    if one.get("same_change"):
        yield "same change", " ".join(one["same_change"])
    for reason in one["reasons"]:
        yield "held by", held_by(reason)
    if len(one.get("by_source", {})) > 1:
        for source, counts in one["by_source"].items():
            yield "by source", f"{_moved(counts)} {source}"
    if any(name != "(none)" for name in one.get("categories", {})):
        for name, counts in one["categories"].items():
            yield "category", f"{_moved(counts)} {name}"
    for suffix, count in one["suffixes"].items():
        yield _("under {suffix}", suffix=f".{suffix.removeprefix('.')}"), _moved(count)
    for rule, number in one["withheld"].items():
        yield "withheld", f"{rule}: {number}"
    for rule, ids in one.get("hits", {}).items():
        shown = " ".join(ids[:SHOWN_HITS])
        if len(ids) > SHOWN_HITS:
            shown = _("{names} and {count} more", names=shown, count=len(ids) - SHOWN_HITS)
        yield _("hits of {rule}", rule=rule), shown
    yield from _people(one)


def _people(one: Document) -> Iterator[tuple[str, str]]:
    if one.get("brought_by"):
        yield "brought by", one["brought_by"]
    for decision in one["decisions"]:
        made = f"{decision['user']} {decision['time']}"
        if decision.get("excepted"):
            made = _("{decision}, without {ids}", decision=made, ids=" ".join(decision["excepted"]))
        yield "approved" if decision["approve"] else "rejected", made
    if one.get("missing"):
        others = [name for name in dict.fromkeys([*one["approvals"], one["brought_by"]]) if name]
        yield "missing", missing(one["missing"], others if one["missing"] + len(one["approvals"]) > 1 else [])


def _moved(count: int | dict[str, int]) -> str:
    """The counts of one label. A candidate held by version 0.2 has only their sum."""
    if isinstance(count, int):
        return str(count)
    return moved(count["added"], count["removed"], count.get("changed", 0))


def _trend(versions: list[dict[str, Any]]) -> str:
    """The entries of the newest versions: bars on a terminal, from the lowest number to the highest; else numbers."""
    numbers = [one["entries"] for one in versions]
    if not os.isatty(1) or not (sys.stdout.encoding or "").lower().startswith("utf"):
        return " ".join(map(str, numbers))
    low, high = min(numbers), max(numbers)
    span = {"low": low, "high": high, "first": versions[0]["version"], "last": versions[-1]["version"]}
    if low == high:
        return f"{bars(numbers)} {_('{low} entries, versions {first} to {last}', **span)}"
    return f"{bars(numbers)} {_('{low} to {high} entries, versions {first} to {last}', **span)}"


def bars(numbers: list[int]) -> str:
    """A bar for each number: the lowest for the smallest, the highest for the largest."""
    low, high = min(numbers), max(numbers)
    steps = len(BARS) - 1
    return "".join(BARS[(number - low) * steps // (high - low) if high > low else steps // 2] for number in numbers)


COMMANDS: Final = (
    Command(
        "candidate show",
        "Show a candidate: the guards that hold it with their limits and figures, its counts of added and removed "
        "entries by source, category and last label, the newest versions of the list, what the list then withholds, "
        "and the decisions. With --show-entries (role examiner; audited) print its entries: + added, - removed.",
        OPERATOR,
        lambda daemon, call: daemon.candidates.show(
            call["candidate"], call["show_entries"], call.caller.roles, call.act
        ),
        _show,
        (
            CANDIDATE,
            Argument(
                "show_entries",
                "Print the entries that it adds (+) and removes (-), in place of the figures.",
                "--show-entries",
                read=yes_or_no,
                flag=True,
                default=False,
            ),
        ),
        copied=True,
        json=_JSON,
    ),
)

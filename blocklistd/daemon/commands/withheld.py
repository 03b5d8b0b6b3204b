"""`list withheld`."""

from __future__ import annotations

from typing import Final

import click

from blocklistd.daemon.commands.command import OPERATOR, Argument, Command, Document, Values, yes_or_no
from blocklistd.daemon.commands.lists import LIST
from blocklistd.daemon.commands.text import escaped, paragraph, table
from blocklistd.language.context import _
from blocklistd.limits import MAX_HITS


def _show(found: Document, values: Values) -> None:
    if found.get("rolled_back"):
        paragraph(
            _(
                "list {list} has the content of an earlier version: what its sources assert is counted again after "
                "`blocklistd list resume {list}`",
                list=found["list"],
            )
        )
    withheld, hits = found["withheld"], found["hits"]
    if not withheld:
        named = {"list": found["list"], "version": found["version"]}
        if withheld is None:
            click.echo(_("list {list}, version {version}: not counted yet: pull a source of it", **named))
        else:
            click.echo(_("list {list}, version {version}: withholds no entry of its sources", **named))
        return
    numbers = [
        (rule, count, _("{shown} of {count} shown", shown=len(hits[rule]), count=count) if rule in hits else "")
        for rule, count in sorted(withheld.items())
    ]
    table(("RULE", "ENTRIES", "BY ID"), numbers)
    rows = [(rule, *_hit(one)) for rule, ones in hits.items() for one in ones]
    if rows:
        click.echo()
        names = ("TYPE", "ENTRY") if values["show_entries"] else ()
        table(("RULE", "SINCE", "ID", *names), rows, optional=("SINCE", *names[:1]))


def _hit(one: Document) -> tuple[str, ...]:
    return one["since"], one["id"], *(escaped(one[name]) for name in ("type", "value") if name in one)


COMMANDS: Final = (
    Command(
        "list withheld",
        "Count the entries of its sources that the live version of a list withholds, by rule. Show the ids of those "
        f"that hit a name of the guards (never_block, own_name, shared_hosts), of at most {MAX_HITS}. With "
        "--show-entries (role examiner; audited) print their types and values, too.",
        OPERATOR,
        lambda daemon, call: daemon.lists.withheld(call["list"], call["show_entries"], call.caller.roles, call.act),
        _show,
        (
            LIST,
            Argument(
                "show_entries",
                "Print the entries that hit a name, too.",
                "--show-entries",
                read=yes_or_no,
                flag=True,
                default=False,
            ),
        ),
        json='`{"list","version","withheld":null|{RULE:N},"hits":{RULE:[{"id","since"}]},"rolled_back"}`. `withheld`: '
        "null if no version has counted yet. `hits`: also with `type` and `value` under --show-entries.",
    ),
)

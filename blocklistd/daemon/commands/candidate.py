"""`candidate list | show | approve | reject`."""

from __future__ import annotations

from typing import Any, Final

import click

from blocklistd.daemon.commands.command import (
    OPERATOR,
    REVIEWER,
    Argument,
    Command,
    Document,
    Exit,
    Values,
    free_text,
    word,
)
from blocklistd.daemon.commands.text import age_of, table

CANDIDATE: Final = Argument("candidate", metavar="ID", read=word)
WHY: Final = Argument(
    "why",
    "Reason for the audit: one line that contains no listed entry.",
    option="--why",
    read=free_text,
    required=True,
)


def _list(held: Document, values: Values) -> None:
    table(
        ("CANDIDATE", "AGE", "LIST", "SOURCE", "CREATED", "ADDED", "REMOVED", "BECAUSE"),
        [_line(one) for one in held],
        optional=("CREATED", "SOURCE", "AGE"),
    )


def _line(one: dict[str, Any]) -> tuple[object, ...]:
    counts = one["added"], one["removed"]
    return one["id"], age_of(one["created"]), one["list"], one["source"], one["created"], *counts, _because(one)


def _because(candidate: dict[str, Any]) -> str:
    return "; ".join(f"{r['guard']} {r['found']}" for r in candidate["reasons"])


def _show(one: Document, values: Values) -> None:
    figures = ("entries", "added", "removed", "changed")
    plain = ("id", "state", "list", "kind", "source", "created", "base", *figures, "why", "version")
    rows = [(key, one[key]) for key in plain if one[key] is not None]
    rows += [("held by", f"{r['guard']}: found {r['found']}, limit {r['limit']}") for r in one["reasons"]]
    rows += [("withheld", f"{rule}: {count}") for rule, count in one["withheld"].items()]
    rows += [(f"under .{suffix.removeprefix('.')}", _moved(count)) for suffix, count in one["suffixes"].items()]
    for decision in one["decisions"]:
        rows.append(("approved" if decision["approve"] else "rejected", f"{decision['user']} {decision['time']}"))
    table(("", ""), rows, coloured=("",))


def _moved(count: int | dict[str, int]) -> str:
    """The counts of one label. A candidate held by version 0.2 has only their sum."""
    if isinstance(count, int):
        return str(count)
    changed = f", {count['changed']} changed" if count.get("changed") else ""
    return f"+{count['added']} -{count['removed']}{changed}"


def _approved(done: Document, values: Values) -> None:
    if done["candidate"] is None:
        what = f"released as version {done['version']}" if done["released"] else "approved; nothing in the list changed"
        click.echo(f"{done['id']}: {what}")


def _approve_exit(done: Document, values: Values) -> Exit | None:
    if done["candidate"] is None:
        return None
    new = done["candidate"]
    return Exit(
        4,
        f"{done['id']} was not released: the list has a newer version, on which the change has another delta, now "
        f"held as {new}: run `blocklistd candidate show {new}`",
    )


COMMANDS: Final = (
    Command(
        "candidate list",
        "List the candidates that wait for a reviewer.",
        OPERATOR,
        lambda daemon, call: daemon.candidates.list(),
        _list,
    ),
    Command(
        "candidate show",
        "Show a candidate. Prints the guards that hold it with their limits and figures, the counts of added and "
        "removed entries by last label, and the decisions.",
        OPERATOR,
        lambda daemon, call: daemon.candidates.show(call["candidate"]),
        _show,
        (CANDIDATE,),
    ),
    Command(
        "candidate approve",
        "Approve and release a held candidate. Exactly the delta that `candidate show` counts is released. Exit 4: the "
        "list has a newer version, on which the change has another delta; that is held as a new candidate.",
        REVIEWER,
        lambda daemon, call: daemon.candidates.approve(call["candidate"], call.act),
        _approved,
        (CANDIDATE,),
        changes=True,
        end=_approve_exit,
    ),
    Command(
        "candidate reject",
        "Reject a held candidate. It stays rejected until the source offers other entries.",
        REVIEWER,
        lambda daemon, call: daemon.candidates.reject(call["candidate"], call["why"], call.act),
        lambda done, values: click.echo(f"{done['id']}: rejected"),
        (CANDIDATE, WHY),
        changes=True,
    ),
)

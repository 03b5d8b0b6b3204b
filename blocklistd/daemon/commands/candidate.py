"""`candidate list | approve | reject`."""

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
    entry_id,
    free_text,
    word,
)
from blocklistd.daemon.commands.text import age_of, table

CANDIDATE: Final = Argument("candidate", metavar="ID", read=word)
EXCEPT: Final = Argument(
    "excepted",
    "Withhold this entry, which the candidate adds or changes, until `entry restore`; the rest is released.",
    option="--except",
    metavar="e-…",
    read=entry_id,
    many=True,
)
WHY: Final = Argument(
    "why",
    "Reason for the audit: one line that contains no listed entry.",
    option="--why",
    read=free_text,
    required=True,
)


def _list(held: Document, values: Values) -> None:
    table(
        ("CANDIDATE", "AGE", "LIST", "CAUSE", "CREATED", "ADDED", "REMOVED", "BECAUSE"),
        [_line(one) for one in held],
        optional=("CREATED", "CAUSE", "AGE"),
    )


def _line(one: dict[str, Any]) -> tuple[object, ...]:
    counts = one["added"], one["removed"]
    return one["id"], age_of(one["created"]), one["list"], cause_of(one), one["created"], *counts, _because(one)


def cause_of(one: dict[str, Any]) -> str:
    """What brought a candidate: its source, the version to which a list is rolled back, or the kind of the change."""
    if one["kind"] == "rollback":
        return f"rollback to version {one['cause']}"
    return str(one["source"] or one["kind"])


def _because(candidate: dict[str, Any]) -> str:
    approved = [f"approved by {', '.join(candidate['approvals'])}"] if candidate.get("approvals") else []
    same = [f"the same change as {' '.join(candidate['same_change'])}"] if candidate.get("same_change") else []
    return "; ".join([*(f"{r['guard']} {r['found']}" for r in candidate["reasons"]), *approved, *same])


def missing(count: int, others: list[str]) -> str:
    """How many approvals are missing, and by whom they can't be."""
    return f"{count} approval{'s' if count > 1 else ''}" + (
        f", by another user than {', '.join(others)}" * bool(others)
    )


def _approved(done: Document, values: Values) -> None:
    if done.get("missing"):
        click.echo(f"{done['id']}: approved; not released yet: {missing(done['missing'], ['you'])}")
    elif done["candidate"] is None:
        what = f"released as version {done['version']}" if done["released"] else "approved; nothing in the list changed"
        click.echo(f"{done['id']}: {what}")
        if done.get("excepted"):
            click.echo(f"withheld until `blocklistd entry restore`: {' '.join(done['excepted'])}")


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
        json='`[{"id","list","kind","source","cause","created","added","removed","changed","reasons":[{"guard","limit",'
        '"found"}],"approvals":[USER…],"missing","same_change":[ID…],…}…]`. '
        "`kind`: source, policy, expiry, correction or rollback. Those of same_change are held, too. "
        "`source`: of the kind source, else null. `cause`: the source; of a rollback the version whose content it "
        "brings back; of a correction that ends its number and that of the request, as 12.1; else empty.",
    ),
    Command(
        "candidate approve",
        "Approve and release a held candidate. Exactly the delta that `candidate show` counts is released. A list with "
        "`release: two-person` needs two approvals, by different users, neither of whom brought the change; two "
        "approvals by one user count once. Exit 4: the list has a newer version, on which the change has another "
        "delta; that is held as a new candidate.",
        REVIEWER,
        lambda daemon, call: daemon.candidates.approve(call["candidate"], call["excepted"], call.act),
        _approved,
        (CANDIDATE, EXCEPT),
        changes=True,
        end=_approve_exit,
        json='`{"id","released","version","candidate","missing","excepted":[ID…]}`. `missing`: approvals by other '
        "users. `candidate`: the one that is held instead.",
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

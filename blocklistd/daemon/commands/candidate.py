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
from blocklistd.language.context import _, known, ngettext

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
        return _("rollback to version {version}", version=one["cause"])
    return str(one["source"] or _(one["kind"]))


def _because(candidate: dict[str, Any]) -> str:
    parts = [f"{reason['guard']} {known(reason['found'])}" for reason in candidate["reasons"]]
    if candidate.get("approvals"):
        parts.append(_("approved by {users}", users=", ".join(candidate["approvals"])))
    if candidate.get("same_change"):
        parts.append(_("the same change as {candidates}", candidates=" ".join(candidate["same_change"])))
    return "; ".join(parts)


def missing(count: int, others: list[str]) -> str:
    """How many approvals are missing, and by whom they can't be."""
    if not others:
        return ngettext("{count} approval", "{count} approvals", count)
    return ngettext(
        "{count} approval, by another user than {others}",
        "{count} approvals, by another user than {others}",
        count,
        others=", ".join(others),
    )


def _approved(done: Document, values: Values) -> None:
    if done.get("missing"):
        rest = missing(done["missing"], [_("you")])
        click.echo(_("{id}: approved; not released yet: {approvals}", id=done["id"], approvals=rest))
    elif done["candidate"] is None:
        if done["released"]:
            click.echo(_("{id}: released as version {version}", id=done["id"], version=done["version"]))
        else:
            click.echo(_("{id}: approved; nothing in the list changed", id=done["id"]))
        if done.get("excepted"):
            ids = " ".join(done["excepted"])
            click.echo(_("withheld until `blocklistd entry restore`: {ids}", ids=ids))


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
        lambda done, values: click.echo(_("{id}: rejected", id=done["id"])),
        (CANDIDATE, WHY),
        changes=True,
    ),
)

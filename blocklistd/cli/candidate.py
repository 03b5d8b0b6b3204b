"""`candidate list | show | approve | reject`."""

from __future__ import annotations

from typing import Any

import click

from blocklistd.cli.common import Session, common, table
from blocklistd.cli.failures import Failed


@click.group("candidate")
def command() -> None:
    """What is held, and the decision on it."""


@command.command("list")
@common
def list_(session: Session) -> None:
    """What waits for a reviewer."""
    session.answer(
        session.ask("GET", "candidates"),
        lambda held: table(
            ("CANDIDATE", "LIST", "SOURCE", "CREATED", "ADDED", "REMOVED", "BECAUSE"),
            [(c["id"], c["list"], c["source"], c["created"], c["added"], c["removed"], _because(c)) for c in held],
        ),
    )


@command.command("show")
@click.argument("candidate")
@common
def show(session: Session, candidate: str) -> None:
    """Which guard, which figures, what would change by last label, and who decided what."""
    session.answer(session.ask("GET", "candidates", candidate), _show)


def _show(one: dict[str, Any]) -> None:
    figures = ("entries", "added", "removed", "changed")
    plain = ("id", "state", "list", "kind", "source", "created", "base", *figures, "why", "version")
    rows = [(key, one[key]) for key in plain if one[key] is not None]
    rows += [("held by", f"{r['guard']}: found {r['found']}, limit {r['limit']}") for r in one["reasons"]]
    rows += [("withheld", f"{rule}: {count}") for rule, count in one["withheld"].items()]
    rows += [("under", f".{suffix.removeprefix('.')}: {count}") for suffix, count in one["suffixes"].items()]
    for decision in one["decisions"]:
        rows.append(("approved" if decision["approve"] else "rejected", f"{decision['user']} {decision['time']}"))
    table(("", ""), rows)


@command.command("approve")
@click.argument("candidate")
@common
def approve(session: Session, candidate: str) -> None:
    """Release a held candidate: exactly the difference that was shown (exit 4: it comes to another one by now)."""
    done = session.ask("POST", "candidates", candidate, "approve", body={})
    if done["candidate"] is not None:
        session.answer(done, lambda _: None)
        new = done["candidate"]
        raise Failed(
            f"{candidate} was not released: the list has moved on, and it comes to another difference now, which is "
            f"held as {new}: see `blocklistd candidate show {new}`",
            4,
        )
    what = f"released as version {done['version']}" if done["released"] else "approved; nothing in the list changed"
    session.answer(done, lambda _: click.echo(f"{candidate}: {what}"))


@command.command("reject")
@click.argument("candidate")
@click.option("--why", required=True, help="For the record.")
@common
def reject(session: Session, candidate: str, why: str) -> None:
    """Refuse a held candidate: this content is never published."""
    done = session.ask("POST", "candidates", candidate, "reject", body={"why": why})
    session.answer(done, lambda _: click.echo(f"{candidate}: rejected"))


def _because(candidate: dict[str, Any]) -> str:
    return "; ".join(f"{r['guard']} {r['found']}" for r in candidate["reasons"])

"""`source list | show | pull`."""

from __future__ import annotations

from typing import Any

import click

from blocklistd.cli.common import Session, age, common, table
from blocklistd.cli.failures import Failed

EXIT = {"published": 0, "unchanged": 0, "held": 4, "failed": 1}


@click.group("source")
def command() -> None:
    """What the hotlines said, and pulls by hand."""


@command.command("list")
@common
def list_(session: Session) -> None:
    """Each source's last pull."""
    rows = session.ask("GET", "sources")
    session.answer(
        rows,
        lambda sources: table(
            ("SOURCE", "OUTCOME", "ACCEPTED", "ENTRIES", "REJECTED", "REASON"),
            [
                (name, s["outcome"], age(s["age"]), s["entries"], sum(s["rejected"].values()), s["reason"])
                for name, s in sources.items()
            ],
        ),
    )


@command.command("show")
@click.argument("source")
@common
def show(session: Session, source: str) -> None:
    """One source: its counts, and its last pulls."""
    session.answer(session.ask("GET", "sources", source), _show)


def _show(source: dict[str, Any]) -> None:
    history = source.pop("history")
    table(("", ""), [(key, value) for key, value in source.items() if value not in (None, {})])
    click.echo()
    table(
        ("TIME", "SECONDS", "OUTCOME", "RECORDS", "REASON"),
        [(p["time"], p["seconds"], p["outcome"], p["records"], p["reason"]) for p in history],
    )


@command.command("pull")
@click.argument("source")
@common
def pull(session: Session, source: str) -> None:
    """Pull now, and wait for the outcome: published, unchanged, held (exit 4) or failed (exit 1)."""
    done = session.ask("POST", "sources", source, "pull", body={})
    session.answer(done, _say)
    if code := EXIT[done["outcome"]]:
        what = f"`blocklistd candidate show {done['candidate']}`: " if done["outcome"] == "held" else ""
        raise Failed(f"{source} {done['outcome']}: {what}{done['reason']}", code)


def _say(done: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in done["versions"].items())
    click.echo(f"{done['source']}: {done['outcome']} ({versions})")

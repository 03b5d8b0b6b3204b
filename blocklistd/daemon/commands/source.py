"""`source list | show | pull`."""

from __future__ import annotations

from typing import Any, Final

import click

from blocklistd.daemon.commands.command import EDITOR, OPERATOR, Argument, Command, Document, Exit, Values, word
from blocklistd.daemon.commands.text import age, duration, table, total, until
from blocklistd.language.context import _, known

SOURCE: Final = Argument("source", metavar="ID", read=word)
EXIT: Final = {"published": 0, "unchanged": 0, "held": 4, "failed": 1}


def _list(sources: Document, values: Values) -> None:
    table(
        ("SOURCE", "OUTCOME", "ACCEPTED", "NEXT", "ENTRIES", "REJECTED", "REASON"),
        [_line(name, one) for name, one in sources.items()],
        optional=("NEXT", "REJECTED", "ENTRIES"),
        coloured=("OUTCOME", "ACCEPTED"),
    )


def _line(name: str, one: dict[str, Any]) -> tuple[object, ...]:
    accepted = age(one["age"]) + (f" {_('OVERDUE')}" if one["overdue"] else "")
    outcome, reason = _(one["outcome"] or ""), known(one["reason"] or "")
    return name, outcome, accepted, until(one.get("next_in")), one["entries"], _rejected(one), reason


def _rejected(source: Document) -> int:
    """The number of rejected records that are not withheld by a rule."""
    return sum(count for reason, count in source["rejected"].items() if reason not in source["withheld"])


def _show(source: Document, values: Values) -> None:
    hidden = ("history", "lists", "next_in")
    plain = {key: value for key, value in source.items() if key not in hidden and value not in (None, {}, [])}
    plain["age"] = age(source["age"])
    if due := source.get("next_pull"):
        plain["next_pull"] = f"{due} ({until(source['next_in'])})"
    for name in ("outcome", "reason"):
        if name in plain:
            plain[name] = known(_(plain[name]))
    rows = [(key.replace("_", " "), value) for key, value in plain.items()]
    rows += [
        (_("withheld from {name}", name=name), total(one["withheld"])) for name, one in source.get("lists", {}).items()
    ]
    table(("", ""), rows, coloured=("",))
    click.echo()
    table(
        ("TIME", "TOOK", "OUTCOME", "RECORDS", "REASON"),
        [
            (p["time"], duration(p["seconds"]), _(p["outcome"] or ""), p["records"], known(p["reason"] or ""))
            for p in source["history"]
        ],
        optional=("TOOK", "RECORDS"),
        coloured=("OUTCOME",),
    )


def _pulled(done: Document, values: Values) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in done["versions"].items())
    click.echo(f"{done['source']}: {_(done['outcome'])} ({versions})")
    if done.get("records") is not None:
        counts = {"records": done["records"], "entries": done["entries"], "rejected": total(done["rejected"])}
        click.echo(_("records {records}, entries {entries}, rejected {rejected}", **counts))
    for name, rules in done.get("withheld", {}).items():
        if rules:
            click.echo(f"{_('withheld from {name}', name=name)}: {total(rules)}")


def _pull_exit(done: Document, values: Values) -> Exit | None:
    if not (code := EXIT[done["outcome"]]):
        return None
    is_candidate = done["outcome"] == "held" and done["candidate"] is not None
    what = f"run `blocklistd candidate show {done['candidate']}`: " if is_candidate else ""
    return Exit(code, f"{done['source']} {done['outcome']}: {what}{done['reason']}")


COMMANDS: Final = (
    Command(
        "source list",
        "List the sources and their last pulls.",
        OPERATOR,
        lambda daemon, call: daemon.sources.list(),
        _list,
    ),
    Command(
        "source show",
        "Show one source: its counts and its last pulls.",
        OPERATOR,
        lambda daemon, call: daemon.sources.show(call["source"]),
        _show,
        (SOURCE,),
    ),
    Command(
        "source pull",
        "Pull a source now. Waits for the outcome: published, unchanged, held (exit 4) or failed (exit 1).",
        EDITOR,
        lambda daemon, call: daemon.sources.pull(call["source"], call.act),
        _pulled,
        (SOURCE,),
        changes=True,
        end=_pull_exit,
    ),
)

"""Sentences for people who correct an entry: why it is not live, or under no correction. They name ids only. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from blocklistd.change import Correction, CorrectionKind
from blocklistd.model import ListId
from blocklistd.pipeline.list_context import ListContext
from blocklistd.store.entries import FoundEntry
from blocklistd.times import rfc3339

DONE: Final = {
    CorrectionKind.DELISTED: "delisted",
    CorrectionKind.EXCEPTED: "excepted from an approval",
    CorrectionKind.EMBARGOED: "embargoed",
}
"""What an entry is under a correction of each kind."""
ENDED_BY: Final = {
    CorrectionKind.DELISTED: "entry restore",
    CorrectionKind.EXCEPTED: "entry restore",
    CorrectionKind.EMBARGOED: "entry release",
}
"""The command that ends a correction of each kind."""


def why_not_live(context: ListContext, found: Sequence[FoundEntry]) -> str:
    """The refusal of a delisting: which of the entries is not live for which reason."""
    name = context.plan.id
    known = [entry for entry in found if entry.is_known]
    if not known:
        return f"list {name}: nothing was changed: {_never(found)}"
    reasons = "; ".join(f"entry {entry.id} ({entry.type}) is {_state(context, entry)}" for entry in known)
    return f"list {name}: nothing was changed, as the entry is not live: {reasons}"


def why_not_under(list_id: ListId, found: Sequence[FoundEntry], kinds: Collection[CorrectionKind]) -> str:
    """The refusal to end a correction that is not in force."""
    what = DONE[CorrectionKind.EMBARGOED if CorrectionKind.EMBARGOED in kinds else CorrectionKind.DELISTED]
    others = [f"{entry.id} is {_correction(one)}" for entry in found for one in entry.corrections]
    if others:
        return f"list {list_id}: nothing was changed: the entry is not {what}, but {'; '.join(others)}"
    live = [entry.id for entry in found if entry.live]
    state = f"; it is live as {', '.join(live)}" if live else "; it is not live either" if _known(found) else ""
    return (
        f"list {list_id}: nothing was changed: the entry is not {what}{state}: run "
        f"`blocklistd entry corrections {list_id}` for what is in force"
    )


def _known(found: Iterable[FoundEntry]) -> bool:
    return any(entry.is_known for entry in found)


def _never(found: Sequence[FoundEntry]) -> str:
    """The reason for entries that the list does not know. A URL and its host are different entries."""
    related = list(dict.fromkeys(other for entry in found for other in entry.related))
    if not related:
        return "no source ever asserted the entry to this list as it is now, and no candidate has it"
    return f"the entry is not listed: {another_entry(found[0].type, related)}: give that id if you mean it"


def another_entry(kind: str, related: Iterable[str]) -> str:
    """The entry that is listed in place of one of this type, in words. `related`: as in FoundEntry."""
    what = "its host is" if kind == "url" else "only URLs of this host are"
    return f"{what} listed, which is another entry ({', '.join(related)})"


def _state(context: ListContext, entry: FoundEntry) -> str:
    if entry.corrections:
        return " and ".join(map(_correction, entry.corrections))
    if entry.rule:
        return f"withheld by the rule {entry.rule}"
    if entry.held:
        return f"held in candidate {', '.join(entry.held)}: reject it, or approve it without the entry"
    if entry.type not in context.plan.types:
        return f"of the type {entry.type}, which the list does not take"
    if entry.accepted:
        return "asserted, but withheld by a rule of the list: see `blocklistd entry explain`"
    return "offered by a source, but not released"


def period(one: Correction) -> str:
    """Since when and until when a correction is in force, with a blank before."""
    since = f" since {rfc3339(one.created)}" if one.created is not None else ""
    until = f" until {rfc3339(one.until)}" if one.until is not None else ""
    return since + until


def _correction(one: Correction) -> str:
    return f"{DONE[one.kind]} already{period(one)}"

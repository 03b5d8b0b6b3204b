"""Sentences for people who correct an entry: why it is not live, or under no correction. They name ids only. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from blocklistd.change import Correction, CorrectionKind
from blocklistd.model import ListId
from blocklistd.store.entries import FoundEntry
from blocklistd.times import rfc3339

if TYPE_CHECKING:
    from blocklistd.pipeline.explain import Explanation

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


def why_not_live(list_id: ListId, explained: Sequence[Explanation]) -> str:
    """The refusal of a delisting: why each of the entries is not live. A URL and its host are different entries."""
    known = [one for one in explained if one.is_known]
    if known:
        reasons = "; ".join(f"entry {one.entry.id} ({one.entry.type}): {_why(one)}" for one in known)
        return f"list {list_id}: nothing was changed, as the entry is not live: {reasons}"
    named = next((one for one in explained if one.entry.related), explained[0])
    more = ": give that id if you mean it" if named.entry.related else ""
    return f"list {list_id}: nothing was changed: {_why(named)}{more}"


def _why(explained: Explanation) -> str:
    return explained.why_not.text if explained.why_not is not None else "it is live"


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


def another_entry(kind: str, related: Iterable[str]) -> str:
    """The entry that is listed in place of one of this type, in words. `related`: as in FoundEntry."""
    what = "its host is" if kind == "url" else "only URLs of this host are"
    return f"{what} listed, which is another entry ({', '.join(related)})"


def period(one: Correction) -> str:
    """Since when and until when a correction is in force, with a blank before."""
    since = f" since {rfc3339(one.created)}" if one.created is not None else ""
    until = f" until {rfc3339(one.until)}" if one.until is not None else ""
    return since + until


def _correction(one: Correction) -> str:
    return f"{DONE[one.kind]} already{period(one)}"

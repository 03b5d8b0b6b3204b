"""The operation of `entry explain`."""

from __future__ import annotations

from datetime import datetime

from blocklistd.change import Correction, CorrectionKind
from blocklistd.daemon.commands.command import Document
from blocklistd.lines.expiry import expiry_of
from blocklistd.model import Act, Entry, ListId
from blocklistd.pipeline.explain import Assertion, Explainer, Explanation
from blocklistd.store import audit
from blocklistd.store.database import Database
from blocklistd.times import Clock, rfc3339


class ExplainOperations:
    """The effect of `entry explain`. Its line of the audit, with the ids, is written before the answer."""

    def __init__(self, database: Database, explainer: Explainer, clock: Clock) -> None:
        self._database = database
        self._explainer = explainer
        self._clock = clock

    async def explain(self, list_id: ListId, text: str, act: Act) -> Document:
        """The entry that `text` names: the first that is live, else the first that the list knows. `others`: the other
        types of the text that the list knows."""
        self._database.require()
        found = await self._explainer.explain(list_id, text)
        first, *others = [one for number, one in enumerate(found) if number == 0 or one.is_known]
        ids = " ".join(dict.fromkeys(one.entry.id for one in (first, *others)))
        now = self._clock()
        await self._database.writing(
            lambda connection: audit.append(connection, act, ids, now=now, detail={"list": list_id})
        )
        return {"list": list_id, **_document(first), "others": [_document(one) for one in others]}


def _document(found: Explanation) -> Document:
    entry, made = found.entry, found.versions
    live = made.intervals[-1] if made.intervals and made.intervals[-1].removed_in is None else None
    return {
        "id": entry.id,
        "type": entry.type,
        "live": entry.live is not None,
        "since": _time(live.since) if live else None,
        "why_not": {"rule": found.why_not.rule, "text": found.why_not.text} if found.why_not else None,
        "withheld": found.rule,
        "test": found.is_test,
        "sources": [_source(one) for one in found.assertions],
        "versions": [
            {
                "added_in": one.added_in,
                "removed_in": one.removed_in,
                "added": _time(one.since),
                "removed": _time(one.until),
            }
            for one in made.intervals
        ],
        "known_from": made.known_from,
        "delisted": _correction(found, CorrectionKind.DELISTED),
        "embargo": _correction(found, CorrectionKind.EMBARGOED),
        "excepted": _correction(found, CorrectionKind.EXCEPTED),
        "lifetime": {
            "term": found.ending.term,
            "since": found.ending.since.decode(),
            "ends": found.ending.end.decode(),
            "due": found.is_due,
        }
        if found.ending is not None
        else None,
        "kept": {"user": found.kept.user, "since": _time(found.kept.time), "why": found.kept.why}
        if found.kept
        else None,
        "held": [
            {
                "candidate": one.candidate.id,
                "change": one.change,
                "guards": [reason.guard for reason in one.candidate.reasons],
            }
            for one in found.held
        ],
        "covered_by": list(found.covered_by),
        "related": list(entry.related),
    }


def _source(one: Assertion) -> Document:
    expiry = expiry_of(one.line)
    return {
        "source": one.source,
        "ref": Entry.from_line(one.line).reference,
        "since": _time(one.since),
        "expires": expiry.decode() if expiry is not None else None,
        "state": one.state,
    }


def _correction(found: Explanation, kind: CorrectionKind) -> Document | None:
    placed: Correction | None = next((one for one in found.corrections if one.kind is kind), None)
    if placed is None:
        return None
    return {
        "user": placed.user,
        "since": _time(placed.created),
        "until": _time(placed.until),
        "owner": placed.owner or None,
        "why": placed.why,
    }


def _time(time: datetime | None) -> str | None:
    return None if time is None else rfc3339(time)

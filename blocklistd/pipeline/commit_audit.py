"""The line of the audit that the transaction of a commit writes: of an approval, a correction or a rollback, or of a
version that was released without a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Connection

from blocklistd.change import Change
from blocklistd.model import AUTO, Version
from blocklistd.store import audit, corrections
from blocklistd.store.lists import NewVersion

if TYPE_CHECKING:
    from blocklistd.pipeline.commit import CommitRequest


def write_audit(connection: Connection, request: CommitRequest, version: Version, made: NewVersion | None) -> None:
    """Writes the line of the audit; none for a change without a version that no person asked for."""
    counts = {name: getattr(made, name) for name in ("added", "removed", "changed")} if made else {}
    detail = {"list": request.plan.id, "version": version if made else None, **counts}
    if request.act is not None and request.approved is not None:
        audit.append(
            connection,
            request.act,
            request.approved.id,
            now=request.now,
            detail={"released": made is not None, **detail, **_excepted(request.change)},
        )
    elif request.act is not None and request.change.places:
        object, more = corrections.for_audit(request.change.places)
        audit.append(connection, request.act, object, now=request.now, detail={**detail, **more})
    elif request.act is not None and request.freeze is not None:
        more = {"to": int(request.change.cause), "why": request.freeze.why}
        audit.append(connection, request.act, request.plan.id, now=request.now, detail={**detail, **more})
    elif made is not None:
        change = request.change
        cause = {"kind": change.kind.value, "cause": change.cause}
        audit.append(connection, AUTO, f"{request.plan.id} {version}", now=request.now, detail={**cause, **counts})


def _excepted(change: Change) -> dict[str, list[str]]:
    return {"excepted": [one.entry for one in change.places]} if change.places else {}

"""What a candidate is in JSON, and in the text of `candidate list` and `candidate show`."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest

from blocklistd.change import Candidate, Change, ChangeKind, Reason
from blocklistd.compose.guard import BY_PEOPLE
from blocklistd.daemon.commands import candidate as candidate_command
from blocklistd.daemon.commands import candidate_show
from blocklistd.model import CandidateId, Sha256, Version
from blocklistd.ops.status import candidate
from blocklistd.store.candidates import Case
from tests.versions_of import LIST, NOW, plan

CAUSES = [
    (ChangeKind.SOURCE, "7", "7", "7"),
    (ChangeKind.POLICY, "", None, "policy"),
    (ChangeKind.EXPIRY, "", None, "expiry"),
    (ChangeKind.CORRECTION, "12.1", None, "correction"),
    (ChangeKind.ROLLBACK, "7", None, "rollback to version 7"),
]


def document(kind: ChangeKind, cause: str) -> dict[str, Any]:
    change = Change(kind, cause, plan("7").policy, {})
    reasons = Reason("max_added", "20%", "57.1% (60 of 105)"), Reason("release", "review", BY_PEOPLE["review"])
    held = Candidate(CandidateId("c-1"), LIST, NOW, change, Version(8), Sha256("0" * 64), 1, 0, 0, 9, reasons)
    return candidate(Case(held, "held", (), None, None), {LIST: "auto"}, [])


@pytest.mark.parametrize(("kind", "cause", "source", "text"), CAUSES)
def test_only_the_candidate_of_a_source_has_a_source(
    kind: ChangeKind, cause: str, source: str | None, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(kind, cause)
    assert (found["kind"], found["cause"], found["source"]) == (kind.value, cause, source)
    candidate_command._list([found], {})
    assert f"\t{text}\t" in capsys.readouterr().out
    more: dict[str, Any] = {"suffixes": {}, "withheld": {}, "decisions": [], "why": None, "version": None}
    candidate_show._show(io.BytesIO(orjson.dumps(found | more)), {"show_entries": False, "json": False})
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    shown = dict(rows)
    assert shown["kind"] == (text if source is None else "source")
    assert shown.get("source") == source
    assert [value for key, value in rows if key == "held by"] == [
        "max_added: found 57.1% (60 of 105), limit 20%",
        "release: every version of this list is released by a reviewer",
    ]

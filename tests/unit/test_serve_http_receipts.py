"""The body of a receipt is checked strictly, and no problem quotes it."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.serve.http.problems import Problem
from blocklistd.serve.http.receipts import parse

GOOD: dict[str, Any] = {
    "session": "00000000-0000-4000-8000-000000000000",
    "version": 3,
    "node": "resolver-1.isp.example",
    "state": "failed",
    "reason": "the service unbound does not reload",
    "applied_at": "2026-11-20T12:00:00Z",
    "probe": "resolves",
}


def test_a_receipt() -> None:
    found = parse(json.dumps(GOOD).encode())
    assert (found.session, found.node) == (GOOD["session"], GOOD["node"])
    assert found.receipt.applied_at == datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    assert (found.receipt.state, found.receipt.probe) == ("failed", "resolves")
    few = {key: GOOD[key] for key in ("session", "version", "node", "applied_at")} | {"state": "applied"}
    assert parse(json.dumps(few).encode()).receipt.reason is None
    assert parse(json.dumps({**GOOD, "reason": " "}).encode()).receipt.reason is None


WRONG: dict[str, list[Any]] = {
    "version": [0, -1, 1.5, "3", True, None, 10**18, 10**300, [3]],
    "node": ["", "a" * 65, "a b", "a\n", "a\x1b[31m", 'a"}', "é", "a/b", None, 3, ["a"]],
    "state": ["", "Applied", None, 1, ["applied"], {}],
    "reason": [
        *("a" * 501, "a\nb", "\x1b[31mred", "\u202eabc", 5, [], "\x00"),
        *("see https://a.example/x", "hxxps://a[.]example", "a.example/x"),
    ],
    "applied_at": [
        *("", "now", "2026-11-20", "2026-11-20T12:00:00", 5, None),
        *("0001-01-01T00:00:00+23:59", "2026-13-20T12:00:00Z", "2026-11-20T12:00Z"),
    ],
    "probe": ["", "Blocked", 1, [], {}, False],
    "session": [None, 5],
    "more": ["x"],
}


@pytest.mark.parametrize(("key", "wrong"), [(key, wrong) for key, values in WRONG.items() for wrong in values])
def test_a_wrong_value_is_refused(key: str, wrong: Any) -> None:
    with pytest.raises(Problem) as refused:
        parse(json.dumps({**GOOD, key: wrong}).encode())
    assert refused.value.status == 400
    assert key in refused.value.detail or key == "more"
    assert "a.example" not in refused.value.detail
    assert "\x1b" not in refused.value.detail


@pytest.mark.parametrize("key", ["session", "version", "node", "state", "applied_at"])
def test_a_missing_value_is_refused(key: str) -> None:
    with pytest.raises(Problem, match=f"{key} is missing"):
        parse(json.dumps({name: value for name, value in GOOD.items() if name != key}).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff", b"[" * 4000, b'{"version":NaN}'])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Problem, match="the body"):
        parse(body)


WORDS = st.text("aB1.-_/: \x1b\n\u202e\ud800", max_size=20)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.one_of(st.none(), st.integers(), WORDS, st.floats())))
def test_no_values_lead_to_another_error(changes: dict[str, Any]) -> None:
    with contextlib.suppress(Problem):
        assert (parse(json.dumps({**GOOD, **changes}).encode()).receipt.reason or "").isprintable()

"""A log of actions is read as the plain dict of its open additions, in one piece and continued anywhere."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_LINE
from blocklistd.sources.formats.action_log import NO_ACTION, records, to_lines
from blocklistd.sources.formats.records import FormatOptions, Record, Reject
from blocklistd.sources.intake.entries import read_entries

FIELDS = {"value": "/DomainAddress", "ref": "/RegisterPositionId", "action": "/ActionType"}
OPTIONS = FormatOptions(FIELDS, {"type": "domain"})


def row(action: Any, name: str, ref: Any = None) -> bytes:
    fields = {"RegisterPositionId": ref, "DomainAddress": name, "ActionType": action}
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode() + b"\n"


def lines(log: bytes, earlier: bytes | None = None, options: FormatOptions = OPTIONS) -> bytes:
    out = io.BytesIO()
    to_lines(log, earlier, options, out)
    return out.getvalue()


def found(log: bytes, options: FormatOptions = OPTIONS) -> list[Record | Reject]:
    return list(records(io.BytesIO(lines(log, None, options)), options))


def names(log: bytes, options: FormatOptions = OPTIONS) -> list[str]:
    return [one.value for one in found(log, options) if isinstance(one, Record)]


def test_a_value_is_listed_as_long_as_one_of_its_additions_is_open() -> None:
    log = row("block", "a.example", 1) + row("block", "b.example", 2) + row("block", "a.example", 3)
    assert names(log) == ["a.example", "b.example", "a.example"]
    log += row("unblock", "a.example", 1)
    assert names(log) == ["b.example", "a.example"]
    log += row("unblock", "a.example", 3)
    assert names(log) == ["b.example"]
    assert names(log + row("block", "a.example", 4)) == ["b.example", "a.example"]


def test_a_removal_without_a_reference_ends_all_additions_of_its_value() -> None:
    log = row("block", "a.example", 1) + row("block", "A.example.", 3) + row("unblock", "a.example")
    assert found(log) == []


def test_a_log_without_references_has_the_last_action_of_each_value() -> None:
    options = FormatOptions({"value": "/DomainAddress", "action": "/ActionType"}, {"type": "domain"})
    log = row("block", "a.example", 1) + row("block", "b.example", 2) + row("unblock", "a.example", 9)
    assert names(log, options) == ["b.example"]


def test_a_removal_of_a_value_that_is_not_open_has_no_effect() -> None:
    assert names(row("unblock", "a.example", 1) + row("block", "a.example", 1)) == ["a.example"]
    assert names(row("block", "a.example", 1) + row("unblock", "a.example", 2)) == ["a.example"]


def test_other_words_and_pointers_can_be_configured() -> None:
    options = FormatOptions({"value": "/v", "action": "/do"}, {"type": "url"}, add="+", remove="-")
    log = b'{"v":"https://a.example/","do":"+"}\n{"v":"https://b.example/","do":"+"}\n'
    assert names(log + b'{"v":"https://a.example/","do":"-"}\n', options) == ["https://b.example/"]


def test_attributes_are_those_of_the_addition() -> None:
    options = FormatOptions({**FIELDS, "verified_at": "/InsertDate"}, {"type": "domain"})
    log = b'{"RegisterPositionId":7,"DomainAddress":"a.example","ActionType":"block","InsertDate":"2026-01-02"}\n'
    assert found(log, options) == [Record(1, "domain", "a.example", {"ref": "7", "verified_at": "2026-01-02"})]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (row("close", "a.example", 1), "unknown-action"),
        (row(None, "a.example", 1), "unknown-action"),
        (row(["block"], "a.example", 1), "unknown-action"),
        (row("block", "", 1), "no-value"),
        (row("unblock", "", 1), "no-value"),
        (b'{"DomainAddress":["a.example","b.example"],"ActionType":"block"}\n', "unknown-action"),
        (b"not JSON\n", "not-json"),
        (b'{"DomainAddress":"a.example","ActionType":"block","ActionType":"unblock"}\n', "duplicate-key"),
        (row("block", "a" * MAX_LINE, 1), "too-long"),
        (row("close", "a" * (MAX_LINE - 90), 1), "unknown-action"),
        (b"\xff\n", "not-utf8"),
    ],
)
def test_rejects_are_kept_when_the_log_is_continued(line: bytes, code: str) -> None:
    log = row("block", "b.example", 1) + b"\n" + line
    assert found(log)[1] == Reject(2, code)
    continued = lines(row("block", "c.example", 2), lines(log))
    assert list(records(io.BytesIO(continued), OPTIONS))[1] == Reject(2, code)
    assert lines(line + line, lines(line)) == lines(line), "equal rows are one reject"


def test_a_reject_may_become_the_first_line() -> None:
    added, removed = row("block", "a.example", 1), row("unblock", "a.example", 1)
    for reject in (b"<p>\n", b"\xef\xbb\xbf{}\n"):
        kept = lines(removed + row("block", "b.example", 2), lines(added + reject))
        assert kept.startswith(reject)
        read = read_entries(kept, "action-log", OPTIONS, None, io.BytesIO())
        assert (read.canonical.entries, read.canonical.first_rejected) == (1, {"not-json": 1})


def test_an_incomplete_last_row_is_read_with_its_rest() -> None:
    log = row("block", "a.example", 1) + row("block", "b.example", 2)
    assert names(log[:-9]) == ["a.example"]
    assert names(log[:-1]) == ["a.example", "b.example"], "complete, but for its newline"
    offset = log.index(b"\n") + 1
    assert lines(log[offset:], lines(log[:-9])) == lines(log)
    assert names(log[:20]) == []


def test_windows_newlines_and_a_byte_order_mark() -> None:
    log = row("block", "a.example", 1) + row("block", "b.example", 2)
    assert names(b"\xef\xbb\xbf" + log.replace(b"\n", b"\r\n")) == ["a.example", "b.example"]


def test_a_log_without_a_configured_action_is_an_error() -> None:
    with pytest.raises(ParseError, match=NO_ACTION.partition(":")[0]):
        lines(row("block", "a.example"), None, FormatOptions({"value": "/DomainAddress"}, {"type": "domain"}))


@pytest.mark.parametrize("log", [b"<html></html>", "{}\n".encode("utf-16")])
def test_a_body_that_is_no_log_is_refused(log: bytes) -> None:
    with pytest.raises(ParseError, match="not a list in the format action-log"):
        lines(log)


actions = st.tuples(
    st.sampled_from(["block", "unblock", "unblock", "close"]),
    st.sampled_from(["a.example", "A.EXAMPLE", "b.example", "not a name"]),
    st.sampled_from([None, 1, 2, "2"]),
)


def plainly(rows: list[tuple[str, str, Any]]) -> set[tuple[str, str]]:
    """The open (name, reference) after the actions."""
    open: dict[str, set[str]] = {}
    for action, name, ref in rows:
        references = open.setdefault(name.lower(), set())
        if action == "block":
            references.add(str(ref or ""))
        elif action == "unblock":
            references -= {str(ref)} if ref else set(references)
    return {(name, ref) for name, references in open.items() for ref in references}


@given(st.lists(actions, max_size=12), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_log_is_its_open_additions_wherever_it_is_continued(rows: list[Any], data: st.DataObject) -> None:
    log = b"".join(row(*one) for one in rows)
    whole = lines(log)
    listed = [
        (one.value.lower(), str(one.attributes.get("ref", "")))
        for one in records(io.BytesIO(whole), OPTIONS)
        if isinstance(one, Record)
    ]
    assert set(listed) == plainly(rows)
    assert len(listed) == len(set(listed))

    cut = data.draw(st.integers(0, len(log)))
    offset = log.rfind(b"\n", 0, cut) + 1
    before = lines(log[:cut])
    assert lines(log[offset:], before) == whole
    again = log.rfind(b"\n", 0, data.draw(st.integers(0, offset))) + 1
    repeated = lines(log[again:], lines(log[:offset]))
    assert sorted(repeated.split(b"\n")) == sorted(whole.split(b"\n")), "rows that are read twice change no line"

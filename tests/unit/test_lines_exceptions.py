"""Files of local exceptions: what they take out, when they end, and what is wrong in a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from blocklistd.lines.exceptions import Excepted, InvalidExceptions, in_force, parse_exceptions

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ID = f"e-{'0' * 32}"
END = {"reason": "ticket 7", "until": "2026-12-01T00:00:00+01:00"}


def parsed(*exceptions: Any) -> Excepted:
    return in_force(parse_exceptions(json.dumps({"exceptions": exceptions}).encode()), NOW)


def test_an_id_takes_out_one_entry_and_a_name_those_of_this_name() -> None:
    found = parsed({"id": ID, **END}, {"name": "shop.example", **END})
    assert len(found) == 2
    taken = {
        b'{"type":"url","value":"https://a.example/","id":"%b"}' % ID.encode(): True,
        b'{"type":"url","value":"https://shop.example/","id":"e-1"}': False,
        b'{"type":"host","value":"shop.example","id":"e-2"}': True,
        b'{"type":"domain","value":"shop.example","category":"A","id":"e-3"}': True,
        b'{"type":"domain","value":"www.shop.example","id":"e-4"}': False,
        b'{"type":"domain","value":"example","id":"e-5"}': False,
    }
    for again in (found, Excepted.from_bytes(found.to_bytes())):
        assert {line: again.takes_out(line) for line in taken} == taken


def test_exceptions_end() -> None:
    later = END | {"until": "2026-12-02T00:00:00Z"}
    given = parse_exceptions(
        json.dumps({"exceptions": [{"name": "a.example", **END}, {"name": "b.example", **later}]}).encode()
    )
    first = datetime(2026, 11, 30, 23, 0, tzinfo=UTC)
    assert in_force(given, NOW).next_end == first
    assert in_force(given, first - timedelta(seconds=1)).names == {"a.example", "b.example"}
    assert in_force(given, first).names == {"b.example"}
    assert not in_force(given, NOW + timedelta(days=30))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("[", "no JSON"),
        ("[]", "the key `exceptions` alone"),
        ('{"exceptions": {}}', "a list under it"),
        ('{"exceptions": [], "more": 1}', "the key `exceptions` alone"),
        ({}, "exception 1: expected an object with `id` or `name`"),
        ({"name": "a.example", "id": ID, **END}, "`id` or `name`"),
        ({"name": "a.example", "type": "host", **END}, "`id` or `name`"),
        ({"name": "A.example", **END}, "lower-case A-labels"),
        ({"name": "a.example.", **END}, "lower-case A-labels"),
        ({"name": "*.a.example", **END}, "lower-case A-labels"),
        ({"name": 7, **END}, "lower-case A-labels"),
        ({"id": "e-7", **END}, "32 hex digits"),
        ({"name": "a.example", "until": END["until"]}, "`reason`"),
        ({"name": "a.example", "until": END["until"], "reason": " "}, "`reason`"),
        ({"name": "a.example", "reason": "ticket"}, "`until`"),
        ({"name": "a.example", "reason": "ticket", "until": "2026-12-01"}, "`until`: expected a time like"),
    ],
)
def test_the_first_fault_is_named_without_a_name(content: object, found: str) -> None:
    text = content if isinstance(content, str) else json.dumps({"exceptions": [content]})
    with pytest.raises(InvalidExceptions) as raised:
        parse_exceptions(text.encode())
    assert found in str(raised.value)
    assert "a.example" not in str(raised.value).lower()

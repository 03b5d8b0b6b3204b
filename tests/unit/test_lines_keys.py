from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.lines.keys import key_of, keys_of, type_and_value
from blocklistd.model import Entry

KINDS = st.sampled_from(["url", "host", "md5", "sha256"])
VALUES = st.text('ab"\\,:}{é\n\x00', max_size=6) | st.text(st.characters(codec="utf-8"))
ATTRIBUTES = st.fixed_dictionaries({}, optional={"category": VALUES, "ref": VALUES, "verifiers": st.integers(0, 9)})


def test_the_key_ends_with_the_value() -> None:
    assert key_of(b'{"type":"host","value":"a.example","ref":"\\"1\\""}') == b'{"type":"host","value":"a.example"'
    assert key_of(b'{"type":"host","value":"a\\"\\\\"}\n') == b'{"type":"host","value":"a\\"\\\\"'


@given(kind=KINDS, value=VALUES, attributes=ATTRIBUTES)
def test_type_and_value_are_those_of_the_entry(kind: str, value: str, attributes: dict[str, str | int]) -> None:
    line = Entry(kind, value, attributes).line()
    assert type_and_value(line) == (kind.encode(), value.encode())
    assert key_of(line) == Entry(kind, value).line()[:-1]


@given(st.lists(st.tuples(KINDS, VALUES, ATTRIBUTES)))
def test_the_keys_of_lines_are_those_of_each(entries: list[tuple[str, str, dict[str, str | int]]]) -> None:
    lines = [Entry(*entry).line() for entry in entries]
    assert keys_of(b"".join(line + b"\n" for line in lines)) == list(map(key_of, lines))


@given(one=st.tuples(KINDS, VALUES, ATTRIBUTES), other=st.tuples(KINDS, VALUES, ATTRIBUTES))
def test_lines_sort_by_their_keys_whatever_their_attributes(
    one: tuple[str, str, dict[str, str | int]], other: tuple[str, str, dict[str, str | int]]
) -> None:
    lines = [Entry(*one).line(), Entry(*other).line()]
    keys = [key_of(line) for line in lines]
    if keys[0] != keys[1]:
        assert (lines[0] < lines[1]) == (keys[0] < keys[1])
        assert not keys[0].startswith(keys[1])


@pytest.mark.parametrize(
    "line", [b"", b"{}", b'{"type":"url"}', b'{"value":"a","type":"url"}', b'{"type":"url","value":"a']
)
def test_a_line_that_is_not_canonical_has_no_key(line: bytes) -> None:
    with pytest.raises(ValueError, match="canonical line"):
        key_of(line)
    with pytest.raises(ValueError, match="canonical line"):
        type_and_value(line)

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterator
from functools import partialmethod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.kinds import KINDS
from blocklistd.model import Entry
from blocklistd.sources.formats.records import Record, Reject
from blocklistd.sources.intake.canonical import Canonical, MemoryBudget, Notes, canonicalise, line_of

A = "https://a.example/"


def url(value: str, number: int = 1, **attributes: str | int) -> Record:
    return Record(number, "url", value, attributes)


def made(*records: Record | Reject) -> tuple[list[bytes], Canonical]:
    out = io.BytesIO()
    canonical = canonicalise(iter(records), out)
    return out.getvalue().splitlines(keepends=True), canonical


def duplicates(canonical: Canonical) -> int:
    """Records whose (type, value) an earlier one has."""
    return canonical.records - canonical.rejected.total() - canonical.entries


def test_records_become_canonical_lines_in_the_order_of_their_bytes() -> None:
    lines, canonical = made(
        url("HTTPS://B.example/x#part"),
        Record(2, "sha1", "AB" * 20, {}),
        url("https://a.example/é", category="A", verified_at="2026-11-20"),
        Record(4, "domain", "A.example.", {"ref": "naïve"}),
        Record(5, "host", "a.example", {}),
    )
    assert lines == [
        '{"type":"domain","value":"a.example","ref":"naïve"}\n'.encode(),
        b'{"type":"host","value":"a.example"}\n',
        b'{"type":"sha1","value":"abababababababababababababababababababab"}\n',
        b'{"type":"url","value":"https://a.example/%C3%A9","category":"A","verified_at":"2026-11-20"}\n',
        b'{"type":"url","value":"https://b.example/x"}\n',
    ]
    assert canonical.records == 5
    assert canonical.entries == 5
    assert canonical.types == Counter(url=2, domain=1, host=1, sha1=1)
    assert not canonical.rejected


def test_no_records_make_an_empty_file() -> None:
    lines, canonical = made()
    assert lines == []
    assert (canonical.records, canonical.entries) == (0, 0)


def test_rejects_and_refusals_are_counted_by_reason_with_the_first_line_of_each() -> None:
    _, canonical = made(
        Reject(1, "not-utf8"),
        url(A, 2),
        Record(3, "host", "*.a.example", {}),
        Record(4, "host", "*.b.example", {}),
        Reject(5, "not-utf8"),
        Record(6, "md5", "00", {}),
    )
    assert canonical.records == 6
    assert canonical.entries == 1
    assert canonical.rejected == Counter({"not-utf8": 2, "wildcard": 2, "hash-length": 1})
    assert canonical.first_rejected == {"not-utf8": 1, "wildcard": 3, "hash-length": 6}


def test_the_smallest_of_several_lines_of_an_entry_is_kept_and_the_others_are_counted() -> None:
    lines, canonical = made(
        url(A), url("HTTPS://A.EXAMPLE", category="B"), url(A, category="A", ref="1"), url(A, category="A"), url(A)
    )
    assert lines == [b'{"type":"url","value":"https://a.example/","category":"A","ref":"1"}\n']
    assert duplicates(canonical) == 4
    assert canonical.types == Counter(url=1)
    assert canonical.records == 5


def test_values_with_another_value_as_prefix_are_separate_entries() -> None:
    values = [f"{A}{rest}" for rest in ("a", "a-b", "a%22", "a%22,", "a',", "a'", "a.b", "a!b", "aa", "")]
    plain = [url(value) for value in values]
    attributed = [url(value, ref="1") for value in values]
    lines, canonical = made(*plain, *attributed)
    assert canonical.entries == len(values)
    assert duplicates(canonical) == len(values)
    assert sorted(Entry.from_line(line).value for line in lines) == sorted(values)
    assert all(Entry.from_line(line).attributes == {"ref": "1"} for line in lines)


def test_the_same_value_of_two_types_is_two_entries() -> None:
    _, canonical = made(Record(1, "host", "a.example", {}), Record(2, "domain", "a.example", {}))
    assert canonical.entries == 2
    assert duplicates(canonical) == 0


def test_dropped_attributes_are_summed() -> None:
    _, canonical = made(Record(1, "url", A, {}, 2), Record(2, "host", "a.example", {}, 1))
    assert canonical.dropped_attributes == 3
    assert canonical.entries == 2


def test_many_lines_are_written_in_several_chunks() -> None:
    records = [Record(number, "md5", f"{number:032x}", {}) for number in range(20_000)]
    random.Random(3).shuffle(records)
    lines, canonical = made(*records)
    assert canonical.entries == 20_000
    assert lines == [b'{"type":"md5","value":"%032x"}\n' % number for number in range(20_000)]


ATTRIBUTES = st.fixed_dictionaries({}, optional={"category": st.sampled_from("ABü😀"), "verifiers": st.integers(0, 3)})
VALUES = st.text('ab"\\,:}é\uff5e😀', max_size=4)
RECORDS = st.lists(
    st.one_of(
        st.builds(lambda value, kept: url(f"https://a.example/?{value}", 1, **kept), VALUES, ATTRIBUTES),
        st.builds(lambda value, kept: Record(1, "host", f"{value}a", kept), VALUES, ATTRIBUTES),
        st.just(Reject(1, "not-json")),
    ),
    max_size=12,
)


@given(records=RECORDS, shuffled=st.randoms())
def test_a_shuffled_body_makes_the_same_bytes(records: list[Record | Reject], shuffled: random.Random) -> None:
    lines, canonical = made(*records)
    other = list(records)
    shuffled.shuffle(other)
    again, _ = made(*other)
    assert again == lines
    assert lines == sorted(lines)
    assert canonical.records == len(records)
    assert canonical.entries + duplicates(canonical) + canonical.rejected.total() == len(records)


@given(records=RECORDS)
def test_each_type_and_value_occurs_once_with_its_smallest_line(records: list[Record | Reject]) -> None:
    lines, _ = made(*records)
    smallest: dict[tuple[str, str], bytes] = {}
    for record in records:
        if isinstance(record, Record) and (value := _canonical(record)) is not None:
            line = Entry(record.type, value, record.attributes).line() + b"\n"
            smallest[record.type, value] = min(line, smallest.get((record.type, value), line))
    assert lines == sorted(smallest.values())


def _canonical(record: Record) -> str | None:
    try:
        return KINDS[record.type](record.value)
    except ValueError:
        return None


@given(kind=st.sampled_from(sorted(KINDS)), value=st.text() | VALUES, attributes=ATTRIBUTES)
def test_the_fast_way_makes_the_same_line_as_the_entry(kind: str, value: str, attributes: dict[str, str | int]) -> None:
    assert line_of(kind, value, attributes).encode() == Entry(kind, value, attributes).line()


def test_an_error_of_the_records_is_passed_on() -> None:
    class Broken(Exception):
        pass

    def records() -> Iterator[Record]:
        yield url(A)
        raise Broken

    with pytest.raises(Broken):
        canonicalise(records(), io.BytesIO())


# -- bounds: before what they bound is built -----------------------------------------------------------------------


def test_duplicate_lines_are_noted_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocklistd.sources.intake.canonical.MAX_NOTES", 1200)
    few = [url(f"https://{number}.example/") for number in range(10)]
    _, canonical = made(*few, *few)
    assert canonical.notes.multiples is not None
    assert len(canonical.notes.multiples) == 20
    assert canonical.notes.to_bytes()
    many = [url(f"https://{number}.example/", category=category) for number in range(40) for category in "AB"]
    lines, canonical = made(*many)
    assert canonical.notes.multiples is None, "they are not even collected"
    assert canonical.notes.to_bytes() == b""
    assert (len(lines), canonical.records, canonical.entries) == (40, 80, 40)


def test_notes_with_too_many_rejects_are_not_serialised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blocklistd.sources.intake.canonical.MAX_NOTES", 1000)
    monkeypatch.setattr("blocklistd.sources.intake.canonical.orjson", None)
    assert Notes([], [(number, "not-utf8") for number in range(1000)]).to_bytes() == b""


def test_too_many_records_for_the_memory_are_refused_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBudget, "__init__", partialmethod(MemoryBudget.__init__, bytes=1 << 20))
    read = 0

    def records() -> Iterator[Record]:
        nonlocal read
        for number in range(1_000_000):
            read += 1
            yield url(f"https://{number}.example/")

    with pytest.raises(ParseError, match="bytes of memory"):
        canonicalise(records(), io.BytesIO())
    assert read < 20_000


def test_too_many_rejects_are_refused_while_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryBudget, "__init__", partialmethod(MemoryBudget.__init__, rejects=10))
    made(*[Reject(number, "not-utf8") for number in range(10)])
    with pytest.raises(ParseError, match="can't be read"):
        made(*[Reject(number, "not-utf8") for number in range(10)], Record(11, "host", "*.a.example", {}))


def test_a_record_whose_value_has_another_host_than_it_gives_is_a_reject() -> None:
    _, canonical = made(
        Record(1, "url", A, {}, host="A.example"),
        Record(2, "url", "https://b.example/", {}, host="a.example"),
        Record(3, "md5", "0" * 32, {}, host="a.example"),  # a hash has no host
    )
    assert canonical.rejected == {"other-host": 1}
    assert canonical.first_rejected == {"other-host": 2}
    assert canonical.types == {"url": 1, "md5": 1}

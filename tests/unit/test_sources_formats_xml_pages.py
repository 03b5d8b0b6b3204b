"""Pages of items are read as the entries of the last state of each item, in one piece and continued anywhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.limits import MAX_ITEM_PARTS, MAX_LINE
from blocklistd.sources.formats.pages import Element, PageReader
from blocklistd.sources.formats.records import FormatOptions, Record, Reject
from blocklistd.sources.formats.xml_pages import records, to_lines

FIELDS = {"value": "fingerprints/*", "ref": "id", "category": "classification"}
OPTIONS = FormatOptions(FIELDS)
MD5 = {name: name * 32 for name in "abcdef"}


def item(id: str, *fingerprints: str, member: int = 42, name: str = "image", rest: str = "") -> str:
    return (
        f'<{name}><member id="{member}">A Member</member><timestamp>2026-01-02T03:04:05Z</timestamp><id>{id}</id>'
        f"<classification>A1</classification><fingerprints>{''.join(fingerprints)}</fingerprints>{rest}</{name}>"
    )


def deleted(id: str, member: int = 42) -> str:
    return f'<deletedImage><member id="{member}">A</member><id>{id}</id></deletedImage>'


def md5(letter: str) -> str:
    return f"<md5>{MD5[letter]}</md5>"


def page(*items: str, next: str = "") -> bytes:
    link = f"<paging><next>{next}</next></paging>" if next else ""
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
        '<queryResult xmlns="https://hashsharing.example/v2">'
        f'<images count="{len(items)}">{"".join(items)}</images>{link}</queryResult>'
    ).encode() + b"\0"


def lines(body: bytes, earlier: bytes | None = None, options: FormatOptions = OPTIONS) -> bytes:
    out = io.BytesIO()
    to_lines(body, earlier, options, out)
    return out.getvalue()


def found(body: bytes, options: FormatOptions = OPTIONS, earlier: bytes | None = None) -> list[Record | Reject]:
    return list(records(io.BytesIO(lines(body, earlier, options)), options))


def values(body: bytes, options: FormatOptions = OPTIONS, earlier: bytes | None = None) -> list[str]:
    return [one.value[0] for one in found(body, options, earlier) if isinstance(one, Record)]


def test_each_fingerprint_is_an_entry_of_its_own_type() -> None:
    fingerprints = (md5("a"), f"<sha1>{'b' * 40}</sha1>", "<pdna>c1</pdna>", "<pdq>d1</pdq>", "<md5/>", "<md5> </md5>")
    attributes: dict[str, str | int] = {"category": "A1", "ref": "1"}
    assert found(page(item("1", *fingerprints))) == [
        Record(1, "md5", MD5["a"], attributes),
        Record(2, "sha1", "b" * 40, attributes),
        Reject(3, "type-not-built"),
        Reject(4, "type-not-built"),
    ]


def test_other_fingerprints_are_no_rejects_and_unknown_ones_are() -> None:
    fingerprints = ("<tmk_pdqf>" + "x" * MAX_LINE + "</tmk_pdqf>", "<netclean>1</netclean>", "<new>1</new>", md5("a"))
    codes = ["type-not-built", "type-not-built", "unknown-type"]
    assert found(page(item("1", *fingerprints)))[:3] == [Reject(n, code) for n, code in enumerate(codes, 1)]
    assert found(page(item("1", f"<md5>{'a' * (MAX_LINE + 1)}</md5>"))) == [Reject(1, "too-long")]


def test_one_fingerprint_can_be_configured() -> None:
    body = page(item("1", md5("a"), f"<sha1>{'b' * 40}</sha1>"))
    assert values(body, FormatOptions({"value": "fingerprints/md5"}, {"type": "md5"})) == ["a"]
    assert values(body, FormatOptions({"value": "fingerprints/*", "type": "type"}, {"type": "sha1"})) == ["a", "b"]
    assert values(body, FormatOptions({"value": "@id"})) == []


def test_a_deleted_item_removes_its_entries_and_a_new_state_replaces_them() -> None:
    body = page(item("1", md5("a"), md5("b")), item("2", md5("c")))
    assert values(body) == ["a", "b", "c"]
    assert values(body + page(deleted("1"))) == ["c"]
    assert values(body + page(deleted("1", member=43))) == ["a", "b", "c"], "the id is another member's"
    assert values(body + page(item("1", md5("d")))) == ["c", "d"]
    assert values(body + page(deleted("2"), item("2", md5("e")))) == ["a", "b", "e"]
    assert values(page(deleted("1"), item("2", md5("c")), deleted("3"))) == ["c"]


def test_later_pages_change_the_earlier_lines_in_their_places() -> None:
    before = lines(page(item("1", md5("a"), md5("b")), item("2", md5("c")), item("3", md5("d"))))
    window = page(item("2", md5("e"), md5("c")), deleted("3"), item("4", md5("f")))
    assert values(window, OPTIONS, before) == ["a", "b", "e", "c", "f"]
    assert lines(window, lines(window, before)) == lines(window, before), "a window that is seen twice changes nothing"
    assert lines(page(), before) == before


def test_records_chooses_images_or_videos() -> None:
    videos = page(item("1", md5("a"), name="video")).replace(b"images", b"videos")
    body = page(item("1", md5("b"), member=43)) + videos
    assert values(body) == ["b", "a"]
    assert values(body, FormatOptions(FIELDS, records="images/image")) == ["b"]
    assert values(body, FormatOptions(FIELDS, records="videos/video")) == ["a"]
    more = page(deleted("1").replace("Image", "Video")).replace(b"images", b"videos")
    assert values(body + more, FormatOptions(FIELDS, records="videos/video")) == []


VOTES = (
    '<feedback><affirmativeFeedback type="MD5"><members><member id="1">A</member><member id="2">B</member></members>'
    '</affirmativeFeedback><negativeFeedback type="SHA1"><reasons><reason guid="x" name="other"/><members>'
    '<member id="3">C</member></members></reasons></negativeFeedback></feedback>'
)


def test_votes_count_for_the_fingerprint_that_they_are_on() -> None:
    body = page(item("1", md5("a"), f"<sha1>{'b' * 40}</sha1>", rest=VOTES))
    votes = {**FIELDS, "verifiers": "feedback/affirmativeFeedback/members/member"}
    assert [
        one.attributes.get("verifiers") for one in found(body, FormatOptions(votes)) if isinstance(one, Record)
    ] == [
        2,
        None,
    ]
    assert values(body, FormatOptions(FIELDS, where={"feedback/negativeFeedback/@type": None})) == ["a"]
    assert values(body, FormatOptions(FIELDS, where={"classification": "A1"})) == ["a", "b"]
    assert values(body, FormatOptions(FIELDS, where={"classification": "A2"})) == []


def test_an_item_that_no_longer_matches_is_removed() -> None:
    options = FormatOptions(FIELDS, where={"feedback/negativeFeedback/@type": None})
    before = lines(page(item("1", f"<sha1>{'b' * 40}</sha1>")), None, options)
    assert before
    assert lines(page(item("1", f"<sha1>{'b' * 40}</sha1>", rest=VOTES)), before, options) == b""


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (page(item("1", md5("a")))[:-1], "cut short"),
        (page(item("1", md5("a"))) + b"<queryResult>", "cut short"),
        (page(item("", md5("a"))), "an item without `id`"),
        (page().replace(b"queryResult", b"html"), "without the root element queryResult"),
        (page().replace(b"<queryResult", b"<!DOCTYPE queryResult><queryResult"), "document type"),
        (page()[:-5] + b"\0", "is not XML"),
        (b"\0", "is not XML"),
        (page(item("1", "<a>" * 40 + "</a>" * 40)), "parts"),
        (page(item("1", "<a/>" * (MAX_ITEM_PARTS + 1))), "parts"),
    ],
)
def test_pages_that_are_none_are_refused(body: bytes, says: str) -> None:
    with pytest.raises(ParseError, match=says) as error:
        lines(body)
    assert MD5["a"] not in str(error.value)


def test_the_votes_of_an_item_are_read_once_for_each_name_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def texts(self: Element, path: str, kind: str = "") -> list[str]:
        read.append(path)
        return before(self, path, kind)

    before = Element.texts
    monkeypatch.setattr(Element, "texts", texts)
    options = FormatOptions({"value": "f/*", "verifiers": "votes/v", "category": "c"})
    values = "".join(f"<md5>{number:032x}</md5>" for number in range(100))
    body = f"<queryResult><a><i><id>1</id><f>{values}</f><votes><v/></votes><c>{'c' * 1000}</c></i></a></queryResult>\0"
    out = io.BytesIO()
    to_lines(body.encode(), None, options, out)
    assert read.count("votes/v") == 1
    assert len(out.getvalue().splitlines()) == 100
    assert {record[4:5] for record in records(io.BytesIO(out.getvalue()), options)} == {(1,)}, "dropped attributes"
    many = "".join(f"<n{number}>1</n{number}>" for number in range(100))
    with pytest.raises(ParseError, match="values have more than 64 names"):
        to_lines(body.replace(values, many).encode(), None, options, out)


def test_a_very_long_tag_is_refused_before_its_end() -> None:
    reader = PageReader()
    reader.feed(b"<queryResult" + b" " * (3 << 20))
    with pytest.raises(ParseError, match="a tag or a comment of more than"):
        reader.feed(b" " * (3 << 20))


def test_the_link_to_the_next_page() -> None:
    for chunk in (1, 7, 10_000):
        reader, text = PageReader(), page(item("1", md5("a")), next="/v2/entries?from=1&amp;start=2")[:-1]
        for at in range(0, len(text), chunk):
            reader.feed(text[at : at + chunk])
        reader.close()
        assert reader.next == "/v2/entries?from=1&start=2"
        assert len(reader.take()) == reader.items == 1
    last = PageReader()
    last.feed(page(item("1", "<paging><next>/x</next></paging>"))[:-1])
    last.close()
    assert last.next == "", "an item has no links"


states = st.tuples(st.sampled_from("123"), st.sampled_from([42, 43]), st.sampled_from(["", "a", "ab", "c", None]))


@given(st.lists(st.lists(states, max_size=4), max_size=5), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_a_list_is_the_last_state_of_each_item_wherever_it_is_continued(
    all_pages: list[list[Any]], data: st.DataObject
) -> None:
    plain: dict[tuple[str, int], str] = {}
    texts = []
    for states in all_pages:
        plain |= {(id, member): letters or "" for id, member, letters in states}
        texts.append(
            page(
                *(
                    deleted(id, member) if letters is None else item(id, *map(md5, letters), member=member)
                    for id, member, letters in states
                )
            )
        )
    expected = sorted("".join(plain.values()))
    assert sorted(values(b"".join(texts))) == expected
    cut, again = sorted(data.draw(st.lists(st.integers(0, len(texts)), min_size=2, max_size=2)), reverse=True)
    before = lines(b"".join(texts[:cut]))
    assert sorted(values(b"".join(texts[cut:]), OPTIONS, before)) == expected
    assert sorted(values(b"".join(texts[again:]), OPTIONS, before)) == expected
    assert sorted(lines(b"".join(texts[again:]), before)) == sorted(lines(b"".join(texts)))

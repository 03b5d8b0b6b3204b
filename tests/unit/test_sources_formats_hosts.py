from __future__ import annotations

import io

import pytest

from blocklistd.limits import MAX_LINE
from blocklistd.sources.formats.hosts import records
from blocklistd.sources.formats.records import FormatOptions, Record, Reject, list_start

OPTIONS = FormatOptions(defaults={"type": "host"})
LOCAL_NAMES = (
    *("0.0.0.0", "localhost", "localhost4", "localhost6", "localhost.localdomain", "localhost4.localdomain4"),
    *(
        "localhost6.localdomain6",
        "myhost.localdomain",
        "myhost.local",
        "app.localhost",
        "local",
        "broadcasthost",
        "myhost",
    ),
    *("ip6-localhost", "ipv6-localhost", "ip6-loopback", "ip6-localnet", "ip6-mcastprefix", "ip6-allnodes", "com"),
)


def read(body: bytes, options: FormatOptions = OPTIONS) -> list[Record | Reject]:
    return list(records(io.BytesIO(body[list_start(body, "hosts") :]), options))


def host(number: int, name: str) -> Record:
    return Record(number, "host", name, {})


def test_each_name_after_an_address_is_a_record() -> None:
    assert read(b"0.0.0.0 a.example\n127.0.0.1\tb.example  c.example\n::1 d.example\r\n") == [
        host(1, "a.example"),
        host(2, "b.example"),
        host(2, "c.example"),
        host(3, "d.example"),
    ]


def test_a_comment_begins_anywhere_and_may_have_any_encoding() -> None:
    body = b"\xef\xbb\xbf# caf\xe9\n\n0.0.0.0 a.example # caf\xe9\n0.0.0.0 b.example#c.example\n"
    assert read(body) == [host(3, "a.example"), host(4, "b.example")]


def test_local_names_are_no_entries() -> None:
    own = "".join(f"127.0.0.1 {name}\n" for name in LOCAL_NAMES)
    body = f"{own}fe80::1%lo0 LOCALHOST\n0.0.0.0 0.0.0.0 a.example\n"
    assert read(body.encode()) == [host(len(LOCAL_NAMES) + 2, "a.example")]


@pytest.mark.parametrize(
    "line",
    [
        b"0.0.0.0 a.example ; moved, see b.example",
        b"0.0.0.0 a.example;b.example",
        b"0.0.0.0 a.example // dupe of b.example",
        b"0.0.0.0 a.example //b.example # c.example",
        b"; a list\n0.0.0.0 a.example",
        b"// caf\xe9\n0.0.0.0 a.example",
    ],
)
def test_a_semicolon_and_two_slashes_end_a_line_as_a_hash_does(line: bytes) -> None:
    assert read(line) == [host(line.count(b"\n") + 1, "a.example")]


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("www. b.example", "not-a-name"),
        ("b.example lux,example", "character"),
        ("${server}", "character"),
        ("b.example $(id).example", "character"),
        ("b.example *.c.example", "wildcard"),
        ("b.example 192.0.2.1", "address"),
        ("http://b.example/", "character"),
        ("localhost b..example", "empty-label"),
    ],
)
def test_one_field_that_is_no_name_rejects_its_line(names: str, code: str) -> None:
    assert read(f"0.0.0.0 {names}\n0.0.0.0 a.example\n".encode()) == [Reject(1, code), host(2, "a.example")]


def test_wildcards_are_read_as_domains_if_the_source_is_configured_so() -> None:
    options = FormatOptions(defaults={"type": "host", "category": "A"}, wildcards=True)
    assert read(b"0.0.0.0 *.a.example b.example\n0.0.0.0 a.*.example\n0.0.0.0 *.*.a.example\n", options) == [
        Record(1, "domain", "a.example", {"category": "A"}),
        Record(1, "host", "b.example", {"category": "A"}),
        Reject(2, "wildcard"),
        Reject(3, "wildcard"),
    ]


@pytest.mark.parametrize("line", [b"a.example", b"a.example 0.0.0.0", b"0.0.0 a.example", b"999.0.0.1 a.example"])
def test_a_line_without_an_address_is_rejected(line: bytes) -> None:
    assert read(line + b"\n0.0.0.0 b.example\n") == [Reject(1, "no-address"), host(2, "b.example")]


def test_an_address_without_a_name_is_rejected() -> None:
    assert read(b"0.0.0.0\n0.0.0.0 # a.example\n") == [Reject(1, "no-name"), Reject(2, "no-name")]


def test_a_line_that_can_not_be_read_is_rejected_and_the_rest_is_read() -> None:
    body = b"0.0.0.0 \xff.example\n0.0.0.0 " + b"x" * MAX_LINE + b"\n0.0.0.0 a.example\n"
    assert read(body) == [Reject(1, "not-utf8"), Reject(2, "too-long"), host(3, "a.example")]


@pytest.mark.parametrize(("defaults", "code"), [({}, "no-type"), ({"type": "name"}, "unknown-type")])
def test_without_a_known_type_every_name_is_rejected(defaults: dict[str, str], code: str) -> None:
    body = b"127.0.0.1 localhost\n0.0.0.0 a.example b.example\n"
    assert read(body, FormatOptions(defaults=defaults)) == [Reject(2, code), Reject(2, code)]


def test_the_type_and_the_attributes_are_the_defaults() -> None:
    options = FormatOptions(defaults={"type": "domain", "category": "A"})
    assert read(b"0.0.0.0 a.example\n", options) == [Record(1, "domain", "a.example", {"category": "A"})]

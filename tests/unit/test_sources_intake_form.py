"""The check of canonical lines accepts what the readers write, and nothing else."""

from __future__ import annotations

import hashlib
import string
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.kinds import KINDS, InvalidEntry
from blocklistd.model import Entry
from blocklistd.sources.intake import form
from blocklistd.sources.intake.form import check_line, check_neighbours, count

SHA = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(50)]


@pytest.fixture(scope="module", autouse=True, params=[0, form.SMALL], ids=["in one go", "line by line"])
def _small(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(form, "SMALL", request.param)
        yield


def line(kind: str, value: str, **attributes: str | int) -> bytes:
    return Entry(kind, value, attributes).line() + b"\n"


def block(*lines: bytes) -> bytes:
    return b"".join(sorted(lines))


GOOD = [
    b"",
    block(*(line("domain", f"{name}.example") for name in "abc")),
    block(*(line("sha256", value) for value in SHA)),
    block(*(line("sha256", value, category="A") for value in SHA)),
    block(line("md5", "0" * 32), line("sha1", "1" * 40), *(line("sha256", value) for value in SHA)),
    block(line("ip", "192.0.2.1"), line("ip", "192.0.2.0/24"), line("ip", "2001:db8::/32", ref="r-1")),
    block(*(line("ip", f"192.0.2.{number}", category="A") for number in range(256))),
    block(line("host", "a.example"), line("domain", "a.example", ref="r-1"), line("url", "https://a.example/")),
    block(line("domain", "xn--bcher-kva.example"), line("domain", "b.example", category="B", verifiers=2)),
    block(
        line("url", "https://a.example/x%20y"), line("url", "https://a.example:8080/"), line("url", "http://192.0.2.1/")
    ),
    block(line("url", f"https://a.example/{'x' * 400}"), line("url", "https://b.example/")),
    block(
        *(
            line("domain", f"{name}.example", id=f"e-{sha[:32]}", ref=name)
            for name, sha in zip("abcd", SHA, strict=False)
        )
    ),
    block(*(line("sha256", value, id=f"e-{value[:32]}") for value in SHA)),
    block(line("domain", "a.example", ref='é \\ "'), line("domain", "b.example")),
    block(
        line("domain", "a.example", expires="2028-02-29T23:59:59Z", verified_at="2028-02-29"),
        line("domain", "b.example", expires="2026-12-31T00:00:00Z", verified_at="2026-04-30T12:30:00Z"),
    ),
    block(line("url", "https://a.example/a"), line("url", "https://a.example/a!")),
]
A = line("domain", "a.example")
B = line("domain", "b.example")
HASHES = [line("sha256", value) for value in sorted(SHA)]
BAD = {
    "no final newline": A[:-1],
    "an empty line": A + b"\n",
    "out of order": B + A,
    "twice": A + A,
    "twice with other attributes": A + line("domain", "a.example", ref="x"),
    "an unknown type": b'{"type":"pdq","value":"192.0.2.1"}\n',
    "a value that is another's": line("domain", "A.example"),
    "a name as an address": line("ip", "a.example"),
    "an address with leading zeros": line("ip", "192.0.2.01"),
    "a prefix with host bits": line("ip", "192.0.2.1/24"),
    "a prefix of all addresses": line("ip", "0.0.0.0/0"),
    "another spelling of an address": line("ip", "2001:DB8::1"),
    "the apex": line("domain", ""),
    "every name": line("domain", "*"),
    "a name of a policy zone": line("domain", "rpz-nsip"),
    "a trailing dot": line("domain", "a.example."),
    "a label too long": line("domain", "a" * 64 + ".example"),
    "a name too long": line("domain", ".".join(["a" * 60] * 4 + ["example"] * 2)),
    "a URL too long": line("url", "https://a.example/" + "x" * 9000),
    "a name too long in a URL": line("url", f"https://{'.'.join(['a' * 60] * 4 + ['example'] * 2)}/"),
    "a URL with a dot-segment": line("url", "https://a.example/../x"),
    "a URL whose encoding is not normal": line("url", "https://a.example/%41"),
    "a URL with a fragment": line("url", "https://a.example/#x"),
    "not an A-label": line("domain", "xn--0.example"),
    "a control character": line("domain", "a\x01.example"),
    "another spelling": A.replace(b"a.ex", b"\\u0061.ex"),
    "blanks": A.replace(b":", b": "),
    "an unknown attribute": A[:-2] + b',"id":"e-1"}\n',
    "attributes out of order": A[:-2] + b',"ref":"x","category":"A"}\n',
    "an attribute twice": A[:-2] + b',"ref":"x","ref":"x"}\n',
    "an attribute of another type": A[:-2] + b',"ref":5}\n',
    "an attribute that controls": A[:-2] + b',"ref":"\\u001b"}\n',
    "an attribute too long": line("domain", "a.example", ref="x" * 257),
    "an instant that ends on no day": line("domain", "a.example", expires="2026-02-30T00:00:00Z"),
    "an expiry that is a day": line("domain", "a.example", expires="2026-11-20"),
    "an instant with an offset": line("domain", "a.example", verified_at="2026-11-20T00:00:00+00:00"),
    "an instant without seconds": line("domain", "a.example", verified_at="2026-11-20T00:00Z"),
    "a date of the year 0": line("domain", "a.example", verified_at="0000-11-20"),
    "a date that is a number": line("domain", "a.example", verified_at=1_764_370_000),
    "an attribute with blanks around it": line("domain", "a.example", ref=" x"),
    "a number as a text": line("domain", "a.example", verifiers="2"),
    "a number too large": line("domain", "a.example", verifiers=10**9),
    "more behind it": A[:-1] + b"x\n",
    "no line": b"x\n",
    "no UTF-8": b'{"type":"domain","value":"\xff"}\n',
    "zero": b'{"type":"domain","value":"a\0"}\n',
    "hashes out of order": HASHES[1] + HASHES[0] + b"".join(HASHES[2:]),
    "a hash twice": HASHES[0] + b"".join(HASHES),
    "a hash in capitals": b"".join(HASHES).replace(b"a", b"A"),
    "a hash too short": b"".join(one.replace(b'"}', b'"}') for one in HASHES)[:-4] + b'"}\n',
    "hashes whose leading digits agree": line("sha256", "a" * 63 + "1") + line("sha256", "a" * 63 + "0"),
    "deep": b'{"type":"domain","value":"a.example","ref":' + b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("good", GOOD)
def test_canonical_lines_pass_and_are_counted(good: bytes) -> None:
    kinds = Counter(Entry.from_line(one).type for one in good.splitlines())
    assert count(good) == kinds
    assert Counter(check_line(one) for one in good.splitlines()) == kinds


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_block_with_an_invalid_line_or_order_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them
        count(bad)
    for some in (line("domain", "0.example"), b"".join(HASHES)):  # nor among others
        with pytest.raises(ValueError):  # noqa: PT011
            count(some + bad if some < bad else bad + some)


def test_blocks_join_if_their_lines_are_in_order() -> None:
    a, b = A[:-1], B[:-1]
    check_neighbours(a, b)
    for last, first in ((b, a), (a, a), (a, line("domain", "a.example", ref="x")[:-1])):
        with pytest.raises(ValueError, match="out of order"):
            check_neighbours(last, first)


TEXT = st.text(st.sampled_from(string.ascii_lowercase[:4] + "AZ09-_.%/?#:@!'\"\\*~& x2DEé"), max_size=20)
VALUES = st.one_of(
    TEXT.map(lambda text: ("domain", f"{text}.example")),
    TEXT.map(lambda text: ("host", text)),
    TEXT.map(lambda text: ("url", f"https://a.example/{text}")),
    TEXT.map(lambda text: ("url", f"http://{text}/b?{text}")),
    st.text("0123456789abcdefA", min_size=31, max_size=33).map(lambda text: ("md5", text)),
)


@given(VALUES)
def test_a_value_passes_if_it_is_its_own_canonical_form(entry: tuple[str, str]) -> None:
    kind, value = entry
    try:
        canonical = KINDS[kind](value) == value
    except InvalidEntry:
        canonical = False
    try:
        passes = count(line(kind, value)) == {kind: 1}
    except ValueError:
        passes = False
    assert passes == canonical


def one_by_one(block: bytes) -> Counter[str]:
    """A plain implementation of `count`."""
    if block and not block.endswith(b"\n"):
        raise ValueError("cut short")
    lines = block.split(b"\n")[:-1]
    for last, first in pairwise(lines):
        check_neighbours(last, first)
    return Counter(map(check_line, lines))


ID = f"e-{'0a' * 16}"
NAMES = st.builds("{}{}".format, st.text("ab", min_size=1, max_size=30), st.sampled_from([".example", ".b.example"]))
SOME = st.one_of(
    NAMES.map(lambda name: ("domain", name)),
    st.builds("https://{}/{}".format, NAMES, st.text("ab!~'", max_size=30)).map(lambda url: ("url", url)),
)
ATTRIBUTES = st.sampled_from(
    [{}, {}, {"category": "A"}, {"category": "B"}, {"category": "A", "ref": "7"}, {"id": ID}, {"id": ID, "ref": "7"}]
)
LINES = st.builds(lambda entry, attributes: line(*entry, **attributes), SOME, ATTRIBUTES)


@given(
    st.lists(LINES, max_size=8),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(b'"}\n,{a!\\'))),
)
def test_a_block_passes_if_each_line_is_valid_and_each_pair_is_in_order(
    lines: list[bytes], in_order: bool, damage: list[tuple[int, int]]
) -> None:
    block = bytearray(b"".join(sorted(lines) if in_order else lines))
    for at, octet in damage[:2]:
        if at < len(block):
            block[at] = octet

    def result_of(implementation: Callable[[bytes], Counter[str]]) -> Counter[str] | None:
        try:
            return implementation(bytes(block))
        except ValueError:
            return None

    assert result_of(count) == result_of(one_by_one)

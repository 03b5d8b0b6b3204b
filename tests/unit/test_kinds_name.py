from __future__ import annotations

import gzip
import random
import sys
from pathlib import Path

import publicsuffixlist
import pytest

from blocklistd.kinds import KINDS, InvalidEntry
from blocklistd.kinds.name import is_public_suffix, name

CHURN = Path(__file__).resolve().parents[3] / "shared" / "data" / "churn" / "base.txt.gz"

LONGEST_LABEL = "l" * 63
LONGEST_NAME = ".".join([LONGEST_LABEL] * 3 + ["m" * 53, "example"])


def refusal(value: str) -> str:
    with pytest.raises(InvalidEntry) as caught:
        name(value)
    assert caught.value.__context__ is None, "a chained exception could hold the value"
    return caught.value.code


@pytest.mark.parametrize(
    "value",
    [
        "a.example",
        "example",
        "r3---x.example",
        "ab--c.example",
        "-a-.example",
        "_dmarc.a.example",
        "1.example",
        "a.0x1g",
        "a.example2",
        "xn--fa-hia.example",
        "xn--53h.example",
        f"{LONGEST_LABEL}.example",
        LONGEST_NAME,
    ],
)
def test_canonical_names_stay_as_they_are(value: str) -> None:
    assert name(value) == value


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("A.Example", "a.example"),
        ("a.example.", "a.example"),
        ("a。example。", "a.example"),
        ("faß.example", "xn--fa-hia.example"),  # nontransitional: not fass
        ("XN--FA-HIA.example", "xn--fa-hia.example"),
        ("☕.example", "xn--53h.example"),
        ("a\u00adb.example", "ab.example"),
        (f"{LONGEST_NAME}.", LONGEST_NAME),
    ],
)
def test_other_spellings_of_a_name_become_its_one_form(value: str, canonical: str) -> None:
    assert name(value) == canonical


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "empty"),
        (".", "empty"),
        ("。", "empty"),
        ("..", "empty-label"),
        (".a.example", "empty-label"),
        ("a..example", "empty-label"),
        ("a.example..", "empty-label"),
        (f"{LONGEST_LABEL}l.example", "label-too-long"),
        (f"m{LONGEST_NAME}", "name-too-long"),
        ("é" * 60_000, "name-too-long"),
        ("*", "wildcard"),
        ("*.a.example", "wildcard"),
        ("a.*.example", "wildcard"),
        ("\uff0a.a.example", "wildcard"),  # a fullwidth asterisk
        ("a.rpz-ip", "rpz-label"),
        ("RPZ-nsdname", "rpz-label"),
        ("192.0.2.1", "address"),
        ("192.0.2.1.", "address"),
        ("127.1", "address"),
        ("1", "address"),
        ("0x7f.1", "address"),
        ("0x", "address"),
        ("\uff11\uff12\uff17.1", "address"),
        ("[2001:db8::1]", "address"),
        ("192.0.2.256", "not-a-name"),
        ("a.1", "not-a-name"),
        ("xn--a.example", "not-a-name"),
        ("\u00ad", "not-a-name"),
        ("a\u200db.example", "not-a-name"),
        ("a\uff0fb.example", "not-a-name"),  # maps to a slash
        ("a\u3000b.example", "not-a-name"),  # maps to a space
        ("\ud800.example", "not-a-name"),
    ],
)
def test_a_text_that_is_no_name_is_refused(value: str, code: str) -> None:
    assert refusal(value) == code


@pytest.mark.parametrize("character", [*"/?#@:\\% \t\r\n\0\x1f\x7f[]"])
@pytest.mark.parametrize("pattern", ["a{}b.example", "a.example{}", "a.example{}b"])
def test_a_character_with_a_meaning_in_urls_is_refused(pattern: str, character: str) -> None:
    assert refusal(pattern.format(character)) == "character"


@pytest.mark.parametrize(
    "value",
    [
        "a.example,malware,2024-01-01",
        "b.example;",
        '"c.example"',
        "$(id).example",
        "${server}.example",
        "a&b.example",
        "a!b.example",
        "a'b.example",
        "`id`.example",
        "a|b.example",
        "<b>.example",
        "a+b.example",
        "a=b.example",
        "a~b.example",
        "||a.example^",
        "a,b.1",
        "a\uff0cb.example",  # a fullwidth comma
        "a\uff04b.example",  # a fullwidth dollar
    ],
)
def test_a_label_has_letters_digits_hyphens_and_underscores_alone(value: str) -> None:
    assert refusal(value) == "character"


def test_a_star_inside_a_label_is_refused_as_a_character_and_not_as_a_wildcard() -> None:
    assert refusal("a*b.example") == "character"
    assert refusal("ads-*.g.example") == "character"


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("xn--k09h.example", "xn--k09h.example"),  # U+1FA89, of Unicode 16
        ("XN--K09H.Example.", "xn--k09h.example"),
        ("a.xn--k09h", "a.xn--k09h"),
        ("xn--fa-hia.xn--k09h\u3002example", "xn--fa-hia.xn--k09h.example"),
    ],
)
def test_an_a_label_that_is_newer_than_the_librarys_table_is_kept(value: str, canonical: str) -> None:
    assert name(value) == canonical
    assert name(canonical) == canonical


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("xn--a.xn--k09h.example", "not-a-name"),  # U+0080
        ("xn--k09h.1", "not-a-name"),
        ("xn!!k09h.example", "character"),
        ("xn!!k09h.xn--k09h.example", "character"),
        ("xn--k09h." + "l" * 64, "label-too-long"),
        ("*.xn--k09h.example", "wildcard"),
    ],
)
def test_other_labels_beside_a_newer_a_label_are_checked_as_usual(value: str, code: str) -> None:
    assert refusal(value) == code


@pytest.mark.parametrize("value", ["l" * 63 + ".l" * 96, "é." * 128, "\ufdfa" * 255])
def test_a_name_that_is_too_long_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    def parsed(value: str) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(sys.modules["blocklistd.kinds.name"], "_host", parsed)
    assert refusal(value) == "name-too-long"


def test_a_label_rpz_is_only_refused_where_a_policy_zone_reads_a_trigger() -> None:
    assert name("rpz-ip.example") == "rpz-ip.example"
    assert name("rpz.example") == "rpz.example"
    assert name("rpz") == "rpz"


def test_a_refusal_names_its_reason_and_nothing_of_the_value() -> None:
    with pytest.raises(InvalidEntry, match=r"\Awildcard\Z"):
        name("*.secret.example")


@pytest.mark.parametrize(
    ("value", "suffix"),
    [
        ("com", True),
        ("home.arpa", True),
        ("example", True),  # not in the list: a single label is one
        ("example.com", False),
        ("a.example", False),
        ("a.home.arpa", False),
    ],
)
def test_a_public_suffix_is_in_the_list_or_a_single_label(value: str, suffix: bool) -> None:
    assert is_public_suffix(value) is suffix


def test_each_rule_of_the_public_suffix_list_gives_what_the_library_says() -> None:
    known = publicsuffixlist.PublicSuffixList()
    lines = Path(publicsuffixlist.PSLFILE).read_text().splitlines()
    rules = {line.lstrip("!").removeprefix("*.") for line in lines if line and not line.startswith("//")}
    named = {rule.encode("idna").decode() for rule in rules}
    names = {f"{below}{rule}" for rule in named for below in ("", "a.", "b.a.")}
    names |= {rule.partition(".")[2] for rule in named} - {""}
    assert {one for one in names if is_public_suffix(one)} == {one for one in names if known.is_public(one)}


def real_names() -> list[str]:
    """The names of a real list under pseudonyms if it is on this machine, else generated ones."""
    if CHURN.exists():
        return gzip.decompress(CHURN.read_bytes()).decode().split()
    seeded = random.Random(20)
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-_"

    def label() -> str:
        return "".join(seeded.choices(letters, k=seeded.randint(1, 20)))

    return [".".join([*(label() for _ in range(seeded.randint(1, 4))), "example"]) for _ in range(2000)]


def test_a_real_list_is_canonical_as_host_and_as_domain() -> None:
    names = real_names()
    assert len(names) >= 2000
    assert [KINDS["host"](value) for value in names] == names
    assert [KINDS["domain"](value) for value in names] == names

from __future__ import annotations

import pytest

from blocklistd.kinds import KINDS, InvalidEntry

DIGITS = {"md5": 32, "sha1": 40, "sha256": 64}


def refusal(kind: str, value: str) -> str:
    with pytest.raises(InvalidEntry) as caught:
        KINDS[kind](value)
    return caught.value.code


@pytest.mark.parametrize("kind", DIGITS)
def test_hashes_become_lower_case(kind: str) -> None:
    assert KINDS[kind]("aB" * (DIGITS[kind] // 2)) == "ab" * (DIGITS[kind] // 2)


@pytest.mark.parametrize("kind", DIGITS)
@pytest.mark.parametrize("difference", [-1, 1])
def test_another_length_is_refused(kind: str, difference: int) -> None:
    assert refusal(kind, "0" * (DIGITS[kind] + difference)) == "hash-length"


@pytest.mark.parametrize("kind", DIGITS)
def test_the_hash_of_another_kind_is_refused(kind: str) -> None:
    for digits in set(DIGITS.values()) - {DIGITS[kind]}:
        assert refusal(kind, "0" * digits) == "hash-length"


@pytest.mark.parametrize("kind", DIGITS)
@pytest.mark.parametrize("last", ["g", " ", "\n", "\0", "٣", "\uff11"])
def test_a_character_that_is_no_hex_digit_is_refused(kind: str, last: str) -> None:
    assert refusal(kind, "0" * (DIGITS[kind] - 1) + last) == "hash-digits"


@pytest.mark.parametrize("kind", DIGITS)
def test_an_empty_value_is_refused(kind: str) -> None:
    assert refusal(kind, "") == "empty"

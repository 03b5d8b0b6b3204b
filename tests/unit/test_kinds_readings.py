"""A value whose type is not given: every entry that it can be."""

from __future__ import annotations

import pytest

from blocklistd.kinds import InvalidEntry, readings


def test_a_name_is_a_host_and_a_domain() -> None:
    assert readings(" Bad.EXAMPLE. ") == [("host", "bad.example"), ("domain", "bad.example")]


def test_a_url_is_nothing_else() -> None:
    assert readings("HTTP://Bad.example:80/a/../b") == [("url", "http://bad.example/b")]


def test_a_hash_is_known_by_its_length_and_may_be_a_label() -> None:
    assert readings("AB" * 16)[0] == ("md5", "ab" * 16)
    assert readings("ab" * 20)[0] == ("sha1", "ab" * 20)
    assert readings("ab" * 32) == [("sha256", "ab" * 32)]


def test_an_address_or_a_prefix_is_nothing_else() -> None:
    assert readings(" 192.0.2.1 ") == [("ip", "192.0.2.1")]
    assert readings("2001:DB8:0::/48") == [("ip", "2001:db8::/48")]
    assert readings("::ffff:192.0.2.1") == [("ip", "192.0.2.1")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty"),
        ("*.bad.example", "wildcard"),
        ("bad.example/path", "not-a-url"),
        ("192.0.2.1/24", "host-bits"),
        ("192.0.2.256", "not-a-name"),
        ("0.0.0.0/0", "too-wide"),
        ("ftp://bad.example/", "scheme"),
        ("two words", "character"),
    ],
)
def test_what_is_no_entry_has_a_reason(text: str, code: str) -> None:
    with pytest.raises(InvalidEntry) as error:
        readings(text)
    assert error.value.code == code
    assert error.value.__context__ is None

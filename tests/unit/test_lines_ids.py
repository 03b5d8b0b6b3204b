"""An id is a keyed hash of type, NUL, value, by the method of the list; the same alone or among many."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.lines.ids import BLAKE2B, HMAC_SHA256, METHODS, Ids

KIND = st.sampled_from([b"url", b"domain", b"host", b"sha256"])


@given(secret=st.binary(min_size=32, max_size=32), kind=KIND, value=st.binary(max_size=300))
def test_an_id_is_a_keyed_hash(secret: bytes, kind: bytes, value: bytes) -> None:
    message = kind + b"\0" + value
    blake2b = hashlib.blake2b(message, digest_size=16, key=secret).hexdigest()
    assert Ids(BLAKE2B, secret).of(kind, value) == f"e-{blake2b}"
    assert Ids(HMAC_SHA256, secret).of(kind, value) == f"e-{hmac.digest(secret, message, 'sha256').hex()[:32]}"


@pytest.mark.parametrize("method", METHODS)
@given(kind=KIND, values=st.lists(st.binary(max_size=80), max_size=9))
def test_many_ids_at_once_are_the_ids_made_one_by_one(method: str, kind: bytes, values: list[bytes]) -> None:
    ids = Ids(method, b"s" * 32)
    assert [f"e-{digits}" for digits in ids.digits(kind, values)] == [ids.of(kind, value) for value in values]


def test_the_secret_is_not_shown() -> None:
    assert "listed" not in repr(Ids(BLAKE2B, b"listed"))

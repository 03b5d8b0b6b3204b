from __future__ import annotations

import hmac

from hypothesis import given
from hypothesis import strategies as st

from blocklistd.keyed import Keyed


@given(st.binary(max_size=200), st.sampled_from(["sha256", "sha512"]), st.binary(max_size=9), st.binary(max_size=300))
def test_it_is_hmac(secret: bytes, algorithm: str, prefix: bytes, message: bytes) -> None:
    keyed = Keyed(secret, algorithm, prefix)
    begun = keyed.begin()
    begun.update(message)
    assert keyed.end(begun).digest() == hmac.digest(secret, prefix + message, algorithm)

"""The owners of rules about addresses: exactly as resolvers expect them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.kinds import InvalidEntry
from blocklistd.kinds.ip import ip
from blocklistd.rpz.addresses import ip_of_owner, ip_owner

ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.lists(st.sampled_from(["0", "0", "1", "db8", "ffff"]), min_size=8, max_size=8).map(":".join),
)
"""IPv6 addresses with several runs of zeros among them."""


def canonical(text: str) -> str | None:
    try:
        return ip(text)
    except InvalidEntry:
        return None


@pytest.mark.parametrize(
    ("value", "owner"),
    [
        ("192.0.2.1", "32.1.2.0.192.rpz-ip"),
        ("192.0.2.0/24", "24.0.2.0.192.rpz-ip"),
        ("2001:db8:0:1::57", "128.57.zz.1.0.db8.2001.rpz-ip"),
        ("2001:db8::/32", "32.zz.db8.2001.rpz-ip"),
        ("2001:db8::1:0:0:1", "128.1.0.0.1.zz.db8.2001.rpz-ip"),
        ("2001:db8:0:1:1:1:1:1", "128.1.1.1.1.1.0.db8.2001.rpz-ip"),
        ("2001:db8:0:0:1::", "128.zz.1.0.0.db8.2001.rpz-ip"),
        ("2001:db8::c000:201", "128.201.c000.zz.db8.2001.rpz-ip"),
        ("0:0:1::/48", "48.zz.1.0.0.rpz-ip"),
    ],
)
def test_the_owner_of_a_value(value: str, owner: str) -> None:
    assert ip_owner(value) == owner
    assert ip_of_owner(owner) == ip(value)


@given(address=ADDRESSES, length=st.integers(16, 128))
def test_an_owner_is_read_back_and_fits_any_zone(address: str, length: int) -> None:
    for value in (canonical(address), canonical(f"{address}/{length}")):
        if value is not None:
            owner = ip_owner(value)
            assert ip_of_owner(owner) == value
            assert len(owner) <= 51
            assert owner.count("zz") == value.count("::")


@given(st.lists(st.sampled_from(["zz", "0", "1", "ffff", "24", "128", "x", "", "-1", "0x1"]), max_size=12))
def test_any_owner_is_read_or_refused(labels: list[str]) -> None:
    with_end = ".".join([*labels, "rpz-ip"])
    try:
        value = ip_of_owner(with_end)
    except InvalidEntry:
        return
    assert ip(value) == value

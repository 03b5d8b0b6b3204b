"""Addresses and prefixes that subscribers ask from."""

from __future__ import annotations

import pytest

from blocklistd.errors import SubscriberError
from blocklistd.subscribers import network


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::/0", "::/0"),
    ],
)
def test_a_prefix_is_of_the_family_that_asks(text: str, meant: str) -> None:
    assert str(network(text)) == meant


@pytest.mark.parametrize("text", ["", "x", "192.0.2.1/24", "192.0.2.0/33", "ns.example", "::ffff:192.0.2.1/120"])
def test_no_prefix(text: str) -> None:
    with pytest.raises(SubscriberError, match="--address"):
        network(text)

"""Addresses and prefixes: one text for each, and none that would block what nobody lists."""

from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blocklistd.kinds import InvalidEntry
from blocklistd.kinds.ip import bits, containing, ip, is_meant_as_address, of_bits, parsed_ip, protected


def refusal(value: str) -> str:
    with pytest.raises(InvalidEntry) as caught:
        ip(value)
    assert caught.value.__context__ is None
    return caught.value.code


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("198.51.0.0/16", "198.51.0.0/16"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("2001:0db8::/32", "2001:db8::/32"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.1/128", "192.0.2.1"),
    ],
)
def test_each_address_and_prefix_has_one_text(value: str, canonical: str) -> None:
    assert ip(value) == canonical
    assert ip(canonical) == canonical


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("", "empty"),
        *((text, "not-an-address") for text in ("a.example", "192.0.2", "192.0.2.256", "192.0.2.01", "3221225985")),
        *(
            (text, "not-an-address")
            for text in ("0xc0.0.2.1", "192.0.2.1.", " 192.0.2.1", "192.0.2.1\n", "[2001:db8::1]")
        ),
        *(
            (text, "not-an-address")
            for text in ("192.0.2.0/33", "192.0.2.0/024", "192.0.2.0/", "192.0.2.0/255.255.255.0")
        ),
        *((text, "not-an-address") for text in ("2001:db8::1%eth0", "2001:db8::/129", "2001:db8:::1", "１92.0.2.1")),
        ("192.0.2.0-192.0.2.9", "not-an-address"),
        ("192.0.2.1/24", "host-bits"),
        ("192.0.2.0/2", "host-bits"),
        ("2001:db8::1/64", "host-bits"),
        ("::ffff:192.0.2.1/120", "host-bits"),
        ("198.50.0.0/15", "too-wide"),
        ("0.0.0.0/0", "too-wide"),
        ("::/0", "too-wide"),
        ("2001:db8::/31", "too-wide"),
        ("2000::/3", "too-wide"),
        ("::ffff:0:0/96", "too-wide"),
        *(
            (text, "local-address")
            for text in ("0.0.0.0", "0.1.0.0/16", "127.0.0.1", "127.0.0.0/16", "::", "::1", "::/32")
        ),
        *(
            (text, "special-address")
            for text in (
                "64:ff9b::c000:201",
                "64:ff9b::/96",
                "64:ff9b::/32",
                "64:ff9b:1::/48",
                "2001::1",
                "2002:c000:201::1",
            )
        ),
        *(
            (text, "special-address")
            for text in ("169.254.1.1", "192.0.0.170", "192.0.0.0/16", "224.0.0.1", "239.9.9.9")
        ),
        *((text, "special-address") for text in ("240.0.0.1", "255.255.255.255", "fe80::1", "ff02::1", "100::1")),
        *((text, "local-address") for text in ("::fffe:0:0/95", "::192.0.2.1", "::8000:0:0/81")),
    ],
)
def test_what_is_no_entry_has_a_reason(value: str, code: str) -> None:
    assert refusal(value) == code


ADDRESSES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=4).map("::ffff:{}".format),
    st.integers(0, 2**128 - 1).map(lambda number: str(ipaddress.IPv6Address(number & ~(2**64 - 1)))),
)
PREFIXES = st.builds("{}/{}".format, ADDRESSES, st.integers(0, 130))
NETWORKS = PREFIXES.map(lambda text: _network(text))


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return text


@given(value=ADDRESSES | PREFIXES | NETWORKS | st.text("0123456789abcdef.:/", max_size=20))
@example(value="0.0.0.0")
@example(value="10.0.0.0")
def test_a_canonical_value_is_the_network_that_the_library_parses(value: str) -> None:
    canonical = None
    with contextlib.suppress(InvalidEntry):
        canonical = ip(value)
    try:
        by_parser = parsed_ip(value)
    except InvalidEntry:
        by_parser = None
    assert canonical == by_parser
    if canonical is None:
        return
    assert ip(canonical) == canonical
    given_network, made = ipaddress.ip_network(value), ipaddress.ip_network(canonical)
    if given_network.version == made.version:
        assert given_network == made
        assert canonical == (str(made.network_address) if made.num_addresses == 1 else str(made))
    else:
        assert isinstance(given_network.network_address, ipaddress.IPv6Address)
        assert given_network.network_address.ipv4_mapped == made.network_address
        assert given_network.num_addresses == made.num_addresses
    assert of_bits(*bits(canonical)) == canonical


@given(value=NETWORKS, other=NETWORKS)
def test_the_prefixes_that_contain_a_value_are_those_of_the_library(value: str, other: str) -> None:
    try:
        value, other = ip(value), ip(other)
    except InvalidEntry:
        return
    one, two = ipaddress.ip_network(value), ipaddress.ip_network(other)
    for wider in containing(value):
        assert ip(wider) == wider
        assert one.subnet_of(ipaddress.ip_network(wider))  # type: ignore[arg-type]
    assert (other in containing(value)) == (one.version == two.version and one.subnet_of(two))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["10.0.0.1", "100.64.0.1", "192.168.0.0/16", "172.16.0.1", "198.18.0.1", "fc00::1"])
def test_private_and_shared_addresses_are_entries(value: str) -> None:
    assert ip(value) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("127.0.0.0/8", "127.0.0.0/8"),
        ("64:FF9B::/96", "64:ff9b::/96"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("192.0.2.1/24", "host-bits"),
        ("192.0.2.300", "not-an-address"),
        ("192.0.2.0/33", "not-an-address"),
        ("0.0.0.0/7", "too-wide"),
        ("::/0", "too-wide"),
    ],
)
def test_addresses_of_guard_files_are_protected_even_if_they_are_no_entries(value: str, expected: str) -> None:
    assert is_meant_as_address(value)
    found = ""
    try:
        found = protected(value)
    except InvalidEntry as error:
        found = error.code
    assert found == expected


@pytest.mark.parametrize(
    "text", ["a.example", "abc.example", "1.2.3", "https://192.0.2.1/", "192.0.2.1.example", "10.example/8"]
)
def test_other_texts_are_names(text: str) -> None:
    assert not is_meant_as_address(text)

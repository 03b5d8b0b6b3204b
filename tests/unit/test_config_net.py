"""Addresses and URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from yaml.nodes import ScalarNode

from blocklistd.config.document import ConfigDocument, ConfigNode, InvalidValue, Reader
from blocklistd.config.net import Address, address, public_url, source_url
from blocklistd.sources.transports.file import path_in


def read(reader: Reader[Any], text: str) -> Any:
    return reader.convert(
        ConfigNode(ConfigDocument(Path("/x.yaml")), "key", "key", 1, ScalarNode("tag:yaml.org,2002:str", text))
    )


@pytest.mark.parametrize(
    ("text", "made", "loopback"),
    [
        ("[::]:8443", Address("::", 8443), False),
        ("0.0.0.0:80", Address("0.0.0.0", 80), False),
        ("127.0.0.1:0", Address("127.0.0.1", 0), True),
        ("127.9.9.9:65535", Address("127.9.9.9", 65535), True),
        ("[::1]:1", Address("::1", 1), True),
        ("192.0.2.1:53", Address("192.0.2.1", 53), False),
    ],
)
def test_an_address(text: str, made: Address, loopback: bool) -> None:
    assert read(address, text) == made
    assert (str(made), made.is_loopback) == (text, loopback)


def test_an_address_has_one_spelling() -> None:
    assert read(address, "[2001:DB8:0::1]:1") == read(address, "[2001:db8::1]:1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:080",
        "::1:80",
        "[::1]",
        "localhost:80",
        "[127.0.0.1]:80",
        "127.1:80",
        "*:80",
        "127.0.0.1:٨٠",
        "https://127.0.0.1:80",
        "[::g]:1",
    ],
)
def test_no_address(text: str) -> None:
    with pytest.raises(InvalidValue):
        read(address, text)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("[::]:80", "127.0.0.1:80", True),
        ("[::]:80", "[::1]:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("0.0.0.0:80", "[::1]:80", False),
    ],
)
def test_addresses_that_clash(one: str, other: str, clash: bool) -> None:
    assert read(address, one).clashes(read(address, other)) is clash
    assert read(address, other).clashes(read(address, one)) is clash


@pytest.mark.parametrize(
    "text",
    [
        "https://hotline.example/urls.csv",
        "https://hotline.example:8443/a?b=c",
        "HTTPS://hotline.example/",
        "https://192.0.2.1/",
        "https://[2001:db8::1]/",
        "http://127.0.0.1:8080/",
        "http://127.1.2.3/",
        "http://[::1]:8080/",
        "http://localhost/",
        "file:/srv/drop",
        "file:///srv/drop",
        "file:drop/in",
    ],
)
def test_a_source_url_stays_as_it_is_written(text: str) -> None:
    assert source_url(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://hotline.example/", "plain http goes to loopback only"),
        ("http://localhost.example/", "loopback only"),
        ("http://127.0.0.1.example/", "loopback only"),
        ("http://2130706433/", "loopback only"),
        ("https://user:password@hotline.example/", "without user and password"),
        ("https://@hotline.example/", "without user and password"),
        ("http://127.0.0.1@hotline.example/", "without user and password"),
        ("axfr://server.example", "axfr://SERVER/ZONE"),
        ("tuf+https://feed.example/", "the feed of a list"),
        ("https://hotline.example/a b", "without spaces"),
        ("file:", "a path after `file:`"),
        ("file://host.example/srv", "a path after `file:`"),
        ("file:%00", "a path after `file:`"),
        *(
            (text, "")
            for text in ("", "drop", "/srv/drop", "ftp://hotline.example/", "https:", "https:///a", "https://[")
        ),
        *(
            (text, "")
            for text in ("https://hotline.example:99999/", "https://hotline.example:0/", "https://a.example/#b")
        ),
    ],
)
def test_no_source_url(text: str, expected: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        source_url(text)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file:/a/b", "/a/b"),
        ("file:///a/b", "/a/b"),
        ("file://localhost/a", "/a"),
        ("file:a/b", "a/b"),
        ("FILE:a%20b", "a b"),
        ("file://host.example/a", None),
        ("file:///a?b#c", "/a?b#c"),
    ],
)
def test_the_path_of_a_file_url(text: str, path: str | None) -> None:
    assert path_in(text) == path


def test_a_public_url_has_no_slash_at_its_end() -> None:
    assert read(public_url, "https://feed.blocklist.example/base/") == "https://feed.blocklist.example/base"
    for wrong in (
        "https://feed.example/?a=b",
        "https://u@feed.example",
        "http://feed.example",
        "file:/a",
        "feed.example",
    ):
        with pytest.raises(InvalidValue):
            read(public_url, wrong)

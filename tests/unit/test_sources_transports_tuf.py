"""Addresses of feeds, and the addresses of hosts that a process without files knows."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import aiohttp
import pytest

from blocklistd.errors import FetchError
from blocklistd.sources.transports.own_network import KnownHosts, tls_context
from blocklistd.sources.transports.transport import Request
from blocklistd.sources.transports.tuf import check, feed_address
from tests.unit.configuring import make_certificate


@pytest.mark.parametrize(
    ("url", "feed"),
    [
        ("tuf+https://feed.example/national", "https://feed.example/v1/lists/national"),
        ("TUF+HTTPS://feed.example:8443/national/", "https://feed.example:8443/v1/lists/national"),
        ("tuf+https://feed.example/v1/lists/national", "https://feed.example/v1/lists/national"),
        ("tuf+https://mirror.example/a/b/v1/lists/national", "https://mirror.example/a/b/v1/lists/national"),
        ("tuf+http://127.0.0.1:8443/national", "http://127.0.0.1:8443/v1/lists/national"),
        ("tuf+http://[::1]:8443/national", "http://[::1]:8443/v1/lists/national"),
    ],
)
def test_the_address_of_a_list(url: str, feed: str) -> None:
    assert feed_address(url) == (feed, "national")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("tuf+https://feed.example", "the feed of a list"),
        ("tuf+https://feed.example/", "the feed of a list"),
        ("tuf+https://feed.example/a/national", "the feed of a list"),
        ("tuf+https://feed.example/National", "the feed of a list"),
        ("tuf+https://feed.example/national?x=1", "without a query"),
        ("tuf+https://feed.example/national?", "without a query"),
        ("tuf+https://user@feed.example/national", "without user and password"),
        ("tuf+http://feed.example/national", "plain http goes to loopback only"),
        ("tuf+https:///national", ""),
        ("tuf+https://[::1/national", ""),
        ("tuf+https://feed.example/national#x", ""),
    ],
)
def test_another_address_is_refused(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^.*{expected}"):
        check(url)


async def test_only_hosts_that_were_looked_up_are_known() -> None:
    hosts = KnownHosts()
    await hosts.learn("http://localhost:1/x", ["nothing.invalid"])
    found = await hosts.resolve("LOCALHOST", 8443)
    assert {one["port"] for one in found} == {8443}
    assert {one["host"] for one in found} <= {"127.0.0.1", "::1"}
    for other in ("nothing.invalid", "other.example"):
        with pytest.raises(OSError, match="an unknown host"):
            await hosts.resolve(other, 1)
    with pytest.raises(socket.gaierror):
        await KnownHosts().learn("https://nothing.invalid/", [])


async def test_a_host_is_known_in_the_form_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(self: object, host: str, *_: object) -> list[dict[str, str]]:
        return [{"host": "192.0.2.1", "hostname": host}]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", found)
    hosts = KnownHosts()
    await hosts.learn("https://b\u00fccher.example/x", [])
    assert [one["hostname"] for one in await hosts.resolve("xn--bcher-kva.example", 443)] == ["xn--bcher-kva.example"]


def test_the_tls_context_has_all_it_needs_in_memory(tmp_path: Path) -> None:
    system = tls_context(Request("tuf+https://feed.example/x", None, 1, 1))
    assert system.verify_mode is ssl.CERT_REQUIRED
    assert system.check_hostname
    make_certificate(tmp_path / "ca.pem")
    pair = (tmp_path / "ca.pem").read_bytes() + (tmp_path / "ca.key").read_bytes()
    pinned = tls_context(Request("tuf+https://feed.example/x", None, 1, 1, ca=tmp_path / "ca.pem", client_cert=pair))
    assert len(pinned.get_ca_certs()) <= 1
    with pytest.raises(FetchError, match=r"its TLS files can't be read: check `ca` and `auth\.client_cert`"):
        tls_context(Request("tuf+https://feed.example/x", None, 1, 1, client_cert=b"none"))

"""Ways to a feed: proxies, client certificates."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import load_pem_x509_certificate

from blocklistd.client.connections import FeedAccess
from blocklistd.client.failures import certificate_remedy
from blocklistd.client.feed import FeedClient
from blocklistd.client.options import Options
from blocklistd.errors import SyncError
from tests.certificates import make_certificate
from tests.sim.feed import LIST, TOKEN, FeedSimulator


class TlsFeed(FeedSimulator):
    """A simulated feed behind TLS. `client_ca`: the authority of client certificates, which are then required."""

    def __init__(self, folder: Path, client_ca: Path | None = None) -> None:
        super().__init__()
        self.certificate, key = make_certificate(folder, "feed")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Proxy:
    """A proxy that knows CONNECT only. `heads`: the requests; `answer`: the status line instead of a connection."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.answer = ""
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        self.heads.append(head.decode())
        if self.answer:
            client.sendall(f"HTTP/1.1 {self.answer}\r\nContent-Length: 0\r\n\r\n".encode())
            client.close()
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host, int(port))) as upstream, client:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=copy, args=(upstream, client), daemon=True)
            back.start()
            copy(client, upstream)
            back.join(10)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)


def copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[TlsFeed]:
    feed = TlsFeed(tmp_path)
    feed.publish("a.example")
    yield feed
    feed.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def without_proxies_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def fetch(url: str, access: FeedAccess) -> int:
    client = FeedClient(url, LIST, access)
    try:
        return len(b"".join(client.chunks(client.open("/metadata/timestamp.json"))))
    finally:
        client.close()


@pytest.mark.parametrize("way", ["option", "HTTPS_PROXY", "https_proxy", "without a scheme"])
def test_a_proxy_connects_and_sees_neither_token_nor_list(
    feed: TlsFeed, proxy: Proxy, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way != "option":
        address = proxy.address if way == "without a scheme" else f"http://{proxy.address}"
        monkeypatch.setenv("https_proxy" if way == "https_proxy" else "HTTPS_PROXY", address)
    given = f"http://{proxy.address}" if way == "option" else None
    assert fetch(feed.url, FeedAccess(TOKEN, feed.certificate, proxy=given))
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT 127.0.0.1:{feed.server_port} ")
    assert TOKEN not in head
    assert LIST not in head


def test_no_proxy_is_heeded(feed: TlsFeed, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", "feed.example,127.0.0.1")
    assert fetch(feed.url, FeedAccess(TOKEN, feed.certificate))
    assert not proxy.heads
    assert fetch(feed.url, FeedAccess(TOKEN, feed.certificate, proxy=f"http://{proxy.address}"))
    assert len(proxy.heads) == 1, "--proxy counts more"


def test_a_proxy_gets_its_user_and_password(feed: TlsFeed, proxy: Proxy) -> None:
    assert fetch(feed.url, FeedAccess(TOKEN, feed.certificate, proxy=f"http://us%40er:pass@{proxy.address}"))
    assert base64.b64encode(b"us@er:pass").decode() in proxy.heads[0]


def test_messages_of_proxies(feed: TlsFeed, proxy: Proxy) -> None:
    access = FeedAccess(TOKEN, feed.certificate, proxy=f"http://{proxy.address}")
    proxy.answer = "407 Proxy Authentication Required"
    with pytest.raises(SyncError, match="the proxy asks for a user and a password"):
        fetch(feed.url, access)
    proxy.answer = "403 Forbidden"
    with pytest.raises(SyncError, match=r"the proxy refused the connection \(403 Forbidden\)"):
        fetch(feed.url, access)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(SyncError, match="the proxy of --proxy or HTTPS_PROXY can't be reached"):
        fetch(feed.url, FeedAccess(TOKEN, feed.certificate, proxy=address))


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1", "http://", "http://[", "ftp://a.example"])
def test_an_address_that_is_no_proxy_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        SyncError, match=r"--proxy, --proxy-file: this is no address of a proxy: expected http://HOST:PORT"
    ):
        FeedClient("https://feed.example", LIST, FeedAccess(TOKEN, proxy=address))
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(SyncError, match="the variable HTTPS_PROXY: this is no address"):
        FeedClient("https://feed.example", LIST, FeedAccess(TOKEN))


def test_a_client_certificate_is_presented(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    cert, key = make_certificate(tmp_path / "client", "isp")
    feed = TlsFeed(tmp_path, client_ca=cert)
    try:
        assert fetch(feed.url, FeedAccess(TOKEN, feed.certificate, cert, key))
        with pytest.raises(SyncError):
            fetch(feed.url, FeedAccess(TOKEN, feed.certificate))
    finally:
        feed.close()


def test_a_client_certificate_that_cant_be_used_is_refused(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "isp")
    (tmp_path / "other").mkdir()
    _, other = make_certificate(tmp_path / "other", "other")
    for wrong in (FeedAccess(cert=cert), FeedAccess(key=key)):
        with pytest.raises(SyncError, match="needs both --cert and --key"):
            FeedClient("https://feed.example", LIST, wrong)
    for pair in ((cert, other), (key, cert)):
        with pytest.raises(SyncError, match="not a certificate and its key: expected both in PEM"):
            FeedClient("https://feed.example", LIST, FeedAccess(cert=pair[0], key=pair[1]))
    with pytest.raises(SyncError, match="No such file"):
        FeedClient("https://feed.example", LIST, FeedAccess(cert=tmp_path / "absent", key=key))


def test_an_unknown_certificate_is_named_if_there_is_no_token(feed: TlsFeed, tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    cert, key = make_certificate(tmp_path / "client", "isp")
    client = FeedClient(feed.url, LIST, FeedAccess(None, feed.certificate, cert, key))
    assert f"the key of the client certificate {cert} is not registered" in str(client.status_error(401))
    client.close()


def test_a_certificate_out_of_its_time_is_named_with_both_dates(tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path, "isp")
    loaded = load_pem_x509_certificate(cert.read_bytes())
    year = timedelta(days=365)
    end, later = loaded.not_valid_after_utc, loaded.not_valid_after_utc + year
    text = certificate_remedy(cert, later)
    assert text.startswith(
        f"the client certificate {cert} expired on {end:%Y-%m-%d}, and this clock shows {later:%Y-%m-%d}: renew it"
    )
    start, earlier = loaded.not_valid_before_utc, loaded.not_valid_before_utc - year
    assert (
        f"is valid from {start:%Y-%m-%d} on, and this clock shows {earlier:%Y-%m-%d}: check the clock"
        in certificate_remedy(cert, earlier)
    )
    cert.write_text("no certificate")
    assert "is refused: renew it, or ask the publisher" in certificate_remedy(cert, later)


def options(url: str, **given: Any) -> Options:
    return Options(url, LIST, Path("root.json"), Path("isp"), **given)


def test_a_proxy_that_would_not_be_asked_is_refused() -> None:
    for given in ({"proxy": "http://192.0.2.1:3128"}, {"proxy_file": Path("proxy")}):
        with pytest.raises(SyncError, match="a feed with http: is on this machine, and no proxy is asked for it"):
            options("http://127.0.0.1:8443", **given).check()
        options("https://feed.example", **given).check()
        options("http://127.0.0.1:8443", mirrors=("https://mirror.example",), **given).check()


def test_the_password_of_a_proxy_comes_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(SyncError, match="which every user of this machine could see") as refused:
        options("https://feed.example", proxy="http://user:s3cret@192.0.2.1:3128").check()
    assert "s3cret" not in str(refused.value)
    (tmp_path / "proxy").write_text("http://user:s3cret@192.0.2.1:3128\n")
    right = options("https://feed.example", proxy_file=tmp_path / "proxy")
    right.check()
    assert right.access().proxy == right.mirror_access().proxy == "http://user:s3cret@192.0.2.1:3128"
    with pytest.raises(SyncError, match="--proxy, --proxy-file: expected one of them"):
        options("https://feed.example", proxy="http://192.0.2.1:1", proxy_file=tmp_path / "proxy").check()


@pytest.mark.parametrize("name", ["user:s3cret", "s3cret"])
def test_an_address_with_credentials_is_refused(name: str) -> None:
    with pytest.raises(SyncError, match="expected an address without user and password") as refused:
        FeedClient(f"https://{name}@feed.example", LIST, FeedAccess(TOKEN))
    assert "s3cret" not in str(refused.value)
    assert "--token-file" in str(refused.value)


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/", "/v1/lists", "/v1/lists/", "/v1/lists/national", "/v1/lists/national/"]
)
def test_an_address_with_the_path_of_a_list_is_refused(path: str) -> None:
    expected = "expected the address of the feed alone, https://feed.example/a: the list's name comes after it"
    with pytest.raises(SyncError, match=expected):
        FeedClient(f"https://feed.example/a{path}", LIST, FeedAccess(TOKEN))
    FeedClient("https://feed.example/v1-mirror/", LIST, FeedAccess(TOKEN)).close()

"""The client's HTTP: its error messages, and the bounds of an answer."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import zstandard

from blocklistd.client import feed as module
from blocklistd.client.coding import bounded, decoded
from blocklistd.client.connections import FeedAccess
from blocklistd.client.feed import FeedClient, discard
from blocklistd.errors import SyncError
from tests.certificates import make_certificate
from tests.sim.feed import LIST, TOKEN, Answer, FeedSimulator, on


@pytest.fixture
def simulator() -> Iterator[FeedSimulator]:
    simulator = FeedSimulator()
    yield simulator
    simulator.close()


@pytest.fixture
def feed(simulator: FeedSimulator) -> Iterator[FeedClient]:
    feed = FeedClient(simulator.url + "/", LIST, FeedAccess(TOKEN))
    yield feed
    feed.close()


def test_received_counts_the_bytes_of_a_body(simulator: FeedSimulator, feed: FeedClient) -> None:
    body = b"".join(feed.chunks(feed.open("/metadata/timestamp.json")))
    assert body == simulator.metadata["timestamp.json"]
    assert feed.received == len(body)


def test_a_ca_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(SyncError, match=f"--ca .*{name}: .*: expected the publisher's authority, in PEM"):
            FeedClient("https://127.0.0.1:1", LIST, FeedAccess(TOKEN, tmp_path / name))


def test_an_incomplete_answer_is_refused(simulator: FeedSimulator, feed: FeedClient) -> None:
    simulator.change = on("timestamp", cut=10)
    with pytest.raises(SyncError, match="cut short"):
        b"".join(feed.chunks(feed.open("/metadata/timestamp.json")))


def test_an_answer_that_never_ends_is_given_up(
    simulator: FeedSimulator, feed: FeedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte arrives in time, the end does not."""
    monkeypatch.setattr(module, "CLIENT_BODY", 0.2)
    simulator.change = on("timestamp", slow=True)
    with pytest.raises(SyncError, match=r"did not end within 0\.2 s"):
        b"".join(feed.chunks(feed.open("/metadata/timestamp.json")))


@contextmanager
def dripping(folder: Path, scheme: str, head: bytes, drip: bytes) -> Iterator[FeedClient]:
    """A client of a server that sends the head of one answer, then the drip again and again."""
    certificate, key = make_certificate(folder, "feed")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            stream, _ = server.accept()
            with suppress(OSError), tls.wrap_socket(stream, server_side=True) if scheme == "https" else stream as peer:
                peer.sendall(head)
                while True:
                    peer.sendall(drip)
                    threading.Event().wait(0.05)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        feed = FeedClient(f"{scheme}://127.0.0.1:{server.getsockname()[1]}", LIST, FeedAccess(TOKEN, certificate))
        yield feed
        feed.close()
        serving.join(10)
        assert not serving.is_alive()


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("drip", [b"X: y\r\n", b"\r\nHTTP/1.1 100 Continue\r\n"], ids=["headers", "interim answers"])
def test_an_answer_that_never_begins_is_given_up(
    scheme: str, drip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each header line arrives in time, the end of the head never does."""
    monkeypatch.setattr(module, "CLIENT_TIMEOUT", 0.5)
    head = b"HTTP/1.1 100 Continue\r\n"
    with dripping(tmp_path, scheme, head, drip) as feed, pytest.raises(SyncError, match="no answer in time"):
        feed.open("")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("ends", ["close", "keep-alive"])
@pytest.mark.parametrize(
    ("start", "drip"), [(b"1;", b"x"), (b"1\r\na\r\n0\r\n", b"X: y\r\n")], ids=["chunk extension", "trailers"]
)
def test_a_chunked_body_that_stops_between_its_chunks_is_given_up(
    scheme: str, ends: str, start: bytes, drip: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes arrive in time, but none of them belongs to the content: the read of the next chunk never returns."""
    monkeypatch.setattr(module, "CLIENT_TIMEOUT", 0.5)
    head = f"HTTP/1.1 200 OK\r\nConnection: {ends}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with dripping(tmp_path, scheme, head + start, drip) as feed:
        response = feed.open("")
        with pytest.raises(SyncError, match=r"no byte of the content arrived for 0\.5 s"):
            b"".join(feed.chunks(response))


def test_a_chunked_body_that_is_not_needed_is_not_waited_for(tmp_path: Path) -> None:
    head = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with dripping(tmp_path, "http", head, b"X: y\r\n") as feed:
        response = feed.open("")
        ended = threading.Thread(target=discard, args=(response,), daemon=True)
        ended.start()
        ended.join(5)
        assert not ended.is_alive()


def test_requests_succeed_after_an_error_and_after_half_an_answer(simulator: FeedSimulator, feed: FeedClient) -> None:
    simulator.change = lambda path, answer: Answer(404, b"x" * 1_000_000) if "1.root" in path else answer
    for _ in range(3):
        refused = feed.open("/metadata/1.root.json")
        assert refused.status == 404
        discard(refused)
        half = feed.chunks(feed.open("/metadata/timestamp.json"))
        next(half)
        half.close()  # type: ignore[attr-defined]
        assert b"".join(feed.chunks(feed.open("/metadata/timestamp.json"))) == simulator.metadata["timestamp.json"]


def why(url: str, ca: Path | None = None) -> str:
    """The error message of a request to this address."""
    feed = FeedClient(url, LIST, FeedAccess(TOKEN, ca))
    with pytest.raises(SyncError) as refused:
        feed.open("")
    feed.close()
    return str(refused.value).removeprefix(f"{feed.base}: ")


def test_message_of_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert why(f"http://127.0.0.1:{port}").startswith("it refuses connections: the host answers")


def test_message_of_an_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert why("https://feed.example").startswith("its name is not found: is it spelled right")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "there is no route to it from this host"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "there is no route to it from this host"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "it can't be reached"),
        (TimeoutError(), "no connection in time: is the address right, and does a firewall"),
    ],
)
def test_message_of_an_unreachable_host(error: OSError, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    assert why("https://192.0.2.1").startswith(said)


def test_message_of_a_port_without_tls(simulator: FeedSimulator) -> None:
    assert why(simulator.url.replace("http:", "https:")).startswith("no TLS connection can be made (")


@contextmanager
def over_tls(certificate: Path, key: Path) -> Iterator[str]:
    """The address of a server that has this certificate, for one connection."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            stream, _ = server.accept()
            with suppress(OSError), tls.wrap_socket(stream, server_side=True) as peer:
                peer.recv(1)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
        serving.join(10)
        assert not serving.is_alive()


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [
        (-2, 30, ""),
        (-9, -1, "its certificate has expired, by the clock of this host: 20"),
        (1, 30, "its certificate is not valid yet, by the clock of this host: 20"),
    ],
)
def test_message_of_a_certificate_that_is_not_valid_by_the_local_clock(
    tmp_path: Path, begins: int, ends: int, said: str
) -> None:
    certificate, key = make_certificate(tmp_path, "feed", timedelta(days=ends), begins=timedelta(days=begins))
    with over_tls(certificate, key) as url:
        assert why(url, certificate).startswith(said)


def test_message_of_a_certificate_of_an_unknown_authority(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "feed")
    with over_tls(certificate, key) as url:
        assert "can't be verified" in why(url)
    with over_tls(certificate, key) as url:
        assert "name it with --ca" in why(url)


def test_message_of_a_certificate_for_another_name(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "feed")
    with over_tls(certificate, key) as url:
        assert why(url.replace("127.0.0.1", "localhost"), certificate).startswith("its certificate is for another name")


def test_message_of_a_port_without_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        feed = FeedClient(f"http://127.0.0.1:{server.getsockname()[1]}", LIST, FeedAccess(TOKEN, None))
        answering = threading.Thread(target=lambda: server.accept()[0].close())
        answering.start()
        with pytest.raises(SyncError, match="does not speak HTTP: check the port"):
            feed.open("")
        answering.join()
        feed.close()


@pytest.mark.parametrize(("status", "hint"), [(401, "token"), (404, "no such list"), (429, "too many"), (500, "later")])
def test_message_of_an_error_status(feed: FeedClient, status: int, hint: str) -> None:
    said = str(feed.status_error(status))
    assert str(status) in said
    assert hint in said
    assert TOKEN not in said


def test_message_of_401_without_a_token(simulator: FeedSimulator) -> None:
    feed = FeedClient(simulator.url, LIST, FeedAccess(None, None))
    said = str(feed.status_error(401))
    feed.close()
    assert said.endswith("no token was sent: name the file that holds it with --token-file")


def test_bodies_are_decoded_by_their_coding() -> None:
    body = b"line\n" * 100_000
    coded = zstandard.ZstdCompressor().compress(body)
    for size in (1, 4096, len(coded)):
        chunks = (coded[at : at + size] for at in range(0, len(coded), size))
        assert b"".join(decoded(chunks, "zstd")) == body
    for coding in (None, "", "identity"):
        assert b"".join(decoded(iter([b"a", b"b"]), coding)) == b"ab"


@pytest.mark.parametrize(
    ("body", "coding", "reason"),
    [
        (b"nonsense", "zstd", "not zstd"),
        (zstandard.ZstdCompressor().compress(b"x" * 100)[:-3], "zstd", "cut short"),
        (zstandard.ZstdCompressor().compress(b"x") + b"more", "zstd", "more than one"),
        (b"", "zstd", "cut short"),
        (b"x", "gzip", "not requested"),
    ],
    ids=["nonsense", "cut", "more-than-one", "empty", "other"],
)
def test_data_that_cant_be_decoded_is_refused(body: bytes, coding: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        b"".join(decoded(iter([body]), coding))


def test_a_decompression_bomb_is_decompressed_step_by_step() -> None:
    """Nothing is decompressed after the consumer stops."""
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 28))
    grown: list[int] = []

    def watched() -> Iterator[bytes]:
        for chunk in decoded(iter([bomb]), "zstd"):
            grown.append(len(chunk))
            yield chunk

    with pytest.raises(ValueError, match="more than 1000 bytes"):
        b"".join(bounded(watched(), 1000))
    assert len(grown) == 1
    assert sum(grown) < 1 << 28


def test_a_body_of_exactly_the_bound_is_accepted() -> None:
    assert b"".join(bounded(iter([b"ab", b"c"]), 3)) == b"abc"
    with pytest.raises(ValueError, match="more than 2 bytes"):
        b"".join(bounded(iter([b"ab", b"c"]), 2))

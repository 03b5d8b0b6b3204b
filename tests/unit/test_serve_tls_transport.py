"""TLS on a TCP transport: plain text arrives whatever the pieces of ciphertext, and memory stays bounded."""

from __future__ import annotations

import _ssl
import asyncio
import ctypes
import ssl
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocklistd.config import DnsTlsSettings, Secret
from blocklistd.limits import TLS_MESSAGES
from blocklistd.serve import tls_transport
from blocklistd.serve.dns.xot import prepare
from blocklistd.serve.tls_transport import TlsProtocol
from tests.certificates import make_certificate


class Tcp(asyncio.Transport):
    """A TCP transport in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.state = "open"
        self.reading = True

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"

    def is_closing(self) -> bool:
        return self.state != "open"

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Inner(asyncio.Protocol):
    """The inner protocol: keeps what it gets."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = self.lost = False
        self.keeps_open = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        assert not self.ended, "data after the end"
        self.received += data

    def eof_received(self) -> bool:
        self.ended = True
        return self.keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Pair:
    """A server's side on a transport in memory, and a client of Python's `ssl`."""

    def __init__(self, folder: Path, chain: int = 0) -> None:
        """`chain`: the number of certificates that the client shows beside its own."""
        cert, key = folder / "dns.pem", folder / "dns.key"
        if not cert.exists():
            make_certificate(folder, "dns")
        context = ssl.create_default_context(cafile=cert)
        context.set_alpn_protocols(["dot"])
        if chain:
            own, its_key = make_certificate(folder, "client")
            others = [make_certificate(folder, f"authority-{number}")[0].read_text() for number in range(chain)]
            own.write_text("".join([own.read_text(), *others]))
            context.load_cert_chain(own, its_key)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        self.tcp, self.inner, self.lost = Tcp(), Inner(), False
        tls = DnsTlsSettings(cert=cert, key=Secret("file", str(key)))
        self.refused: list[str] = []
        self.protocol = TlsProtocol(
            prepare(tls), lambda tcp: None, lambda tls: self.inner, self.on_lost, refused=self.refused.append
        )
        self.protocol.connection_made(self.tcp)

    def on_lost(self) -> None:
        self.lost = True

    def deliver(self, size: int = 1 << 20) -> None:
        """Delivers what the client has sent, in pieces of this size, and what the server has."""
        data = self.outgoing.read()
        for at in range(0, len(data), size):
            self.protocol.data_received(data[at : at + size])
        self.incoming.write(bytes(self.tcp.sent))
        self.tcp.sent.clear()

    def handshake(self, size: int = 1 << 20) -> None:
        for _ in range(3):
            try:
                self.client.do_handshake()
            except ssl.SSLWantReadError:
                self.deliver(size)
        self.deliver(size)


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
async def test_the_handshake_in_pieces(tmp_path: Path, size: int) -> None:
    pair = Pair(tmp_path)
    pair.handshake(size)
    assert pair.client.selected_alpn_protocol() == "dot"
    assert not pair.inner.received


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.binary(min_size=1, max_size=40_000), max_size=4), size=st.integers(1, 20_000))
def test_plain_text_arrives_in_both_directions(tmp_path: Path, texts: list[bytes], size: int) -> None:
    async def exchange() -> None:
        pair = Pair(tmp_path)
        pair.handshake()
        for text in texts:
            pair.client.write(text)
            pair.deliver(size)
            pair.inner.transport.write(bytearray(text))
        pair.deliver()
        assert bytes(pair.inner.received) == b"".join(texts)
        got = bytearray()
        while len(got) < len(pair.inner.received):
            got += pair.client.read(65536)
        assert got == pair.inner.received
        pair.inner.transport.close()
        assert pair.tcp.state == "closed"

    asyncio.run(exchange())


async def test_nothing_is_read_while_what_was_sent_waits(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.handshake()
    pair.protocol.pause_writing()
    assert not pair.tcp.reading
    pair.inner.transport.pause_reading()
    pair.protocol.resume_writing()
    assert not pair.tcp.reading
    pair.client.write(b"later")
    pair.deliver()
    assert pair.inner.received == b""
    pair.inner.transport.resume_reading()
    assert pair.tcp.reading
    await asyncio.sleep(0)
    assert pair.inner.received == b"later"


async def test_a_client_that_ends_its_side_gets_what_is_sent_after_that(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.handshake()
    pair.client.write(b"request")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()  # close_notify
    pair.deliver()
    assert pair.inner.received == b"request"
    assert pair.inner.ended
    assert pair.protocol.eof_received(), "the other side stays open"
    pair.inner.transport.write(b"answer")
    assert pair.tcp.sent
    assert pair.tcp.state == "open"


@pytest.mark.parametrize("in_tls", [True, False], ids=["close_notify", "FIN"])
async def test_a_client_ends_its_side_while_nothing_is_read(tmp_path: Path, in_tls: bool) -> None:
    """The end comes after what was sent before it, although TCP may report it first."""
    pair = Pair(tmp_path)
    pair.handshake()
    pair.inner.transport.pause_reading()
    pair.client.write(b"request")
    if in_tls:
        with pytest.raises(ssl.SSLWantReadError):
            pair.client.unwrap()
    pair.deliver()
    pair.inner.transport.resume_reading()
    assert pair.protocol.eof_received()
    await asyncio.sleep(0)
    assert pair.inner.received == b"request"
    assert pair.inner.ended


@pytest.mark.parametrize(("authorities", "accepted"), [(2, True), (100, False)])
async def test_the_certificates_of_a_client_are_bounded(tmp_path: Path, authorities: int, accepted: bool) -> None:
    """OpenSSL takes 100 KiB of them, which are 30 ms of work for each handshake."""
    pair = Pair(tmp_path, chain=authorities)
    pair.handshake()
    assert pair.tcp.state == ("open" if accepted else "aborted")
    assert pair.refused == ([] if accepted else ["its TLS handshake is too large"])
    assert bool(getattr(pair.inner, "transport", None)) == accepted


async def test_the_end_of_the_client_closes_the_connection_unless_the_inner_protocol_objects(tmp_path: Path) -> None:
    for keeps_open, state in ((True, "open"), (False, "closed")):
        pair = Pair(tmp_path)
        pair.handshake()
        pair.inner.keeps_open = keeps_open
        pair.protocol.eof_received()
        assert (pair.inner.ended, pair.tcp.state) == (True, state)


async def test_a_failed_handshake_has_a_reason(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    pair.protocol.data_received(b"GET / HTTP/1.1\r\n\r\n")
    assert pair.refused == ["its TLS handshake failed (http request)"]
    assert pair.tcp.state == "closed"
    other = Pair(tmp_path)
    other.handshake()
    other.protocol.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert (other.tcp.state, other.refused) == ("closed", []), "a damaged record later is no failed handshake"


async def test_a_handshake_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_transport, "TLS_HANDSHAKE", 0.0)
    slow, done = Pair(tmp_path), Pair(tmp_path)
    done.handshake()
    await asyncio.sleep(0.01)
    assert (slow.tcp.state, done.tcp.state) == ("aborted", "open")
    assert (slow.refused, done.refused) == (["its TLS handshake took too long"], [])
    slow.protocol.connection_lost(None)
    done.protocol.connection_lost(None)
    assert (slow.lost, done.lost, done.inner.lost) == (True, False, True)


async def test_a_flood_of_key_updates_ends_its_connection_early(tmp_path: Path) -> None:
    """OpenSSL would process all that it is given at once: 10,000 messages took 0.6 s, in which nobody is answered."""
    few, many = Pair(tmp_path), Pair(tmp_path)
    for pair, count in ((few, TLS_MESSAGES // 2), (many, 10_000)):
        pair.handshake()
        update_keys(pair.client, count)
        pair.client.write(b"request")
        pair.deliver()
    assert (few.tcp.state, bytes(few.inner.received), few.refused) == ("open", b"request", [])
    few.inner.transport.write(b"answer")
    few.deliver()
    assert few.client.read() == b"answer", "with the newest keys, after one answer for each KeyUpdate"
    assert (many.tcp.state, bytes(many.inner.received)) == ("aborted", b"")
    assert many.refused == ["it sent too many TLS messages after the handshake (KeyUpdate)"]
    assert many.incoming.pending < 8192, "the answers to the first 4,096 octets"
    update_keys(few.client, 1)
    few.deliver()
    assert few.tcp.state == "aborted"


def update_keys(client: ssl.SSLObject, count: int) -> None:
    """Sends KeyUpdate messages that demand one of the server. Python's `ssl` has no method for it, so this calls the
    library with the pointer that is the third field of the object in C."""
    library = ctypes.CDLL(_ssl.__file__)
    connection = ctypes.c_void_p.from_address(id(client._sslobj) + object.__basicsize__ + 8)  # type: ignore[attr-defined]
    for _ in range(count):
        library.SSL_key_update(connection, 1)
        library.SSL_do_handshake(connection)


async def test_without_a_certificate_the_connection_is_refused(tmp_path: Path) -> None:
    tcp = Tcp()
    protocol = TlsProtocol(None, lambda tcp: None, lambda tls: Inner(), lambda: None)
    protocol.connection_made(tcp)
    assert tcp.state == "aborted"
    protocol.data_received(b"anything")
    protocol.eof_received()

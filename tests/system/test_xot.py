"""Zones over TLS (XoT, RFC 9103), from outside: with Python's `ssl` as the client and dnspython as the judge."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import dns.tsig
import dns.xfr
import dns.zone
import pytest

from tests.certificates import make_certificate, spki
from tests.peers import peer
from tests.system.daemon import free_port
from tests.system.test_operations import reload
from tests.system.test_zones import ORIGIN, ZONE, Scene
from tests.system.test_zones_hard import LARGE, long_names, read_exactly

REFUSED = dns.rcode.REFUSED


class XotScene(Scene):
    """A daemon that serves its zone over TLS as well, with the certificate dns.pem."""

    def __init__(self, folder: Path, **tls: Any) -> None:
        super().__init__(folder)
        self.tls_port = free_port()
        make_certificate(folder, "dns")
        listen = {"listen": [f"127.0.0.1:{self.tls_port}"], "cert": "dns.pem", "key": {"file": "dns.key"}}
        self.daemon.config["dns"]["tls"] = {**listen, **tls}
        self.daemon.write_config()

    def context(self, alpn: tuple[str, ...] = ("dot",), ca: str = "dns.pem", own: str = "") -> ssl.SSLContext:
        """A client's context. `own`: the name of its certificate."""
        made = ssl.create_default_context(cafile=self.folder / ca)
        if alpn:
            made.set_alpn_protocols(list(alpn))
        if own:
            made.load_cert_chain(self.folder / f"{own}.pem", self.folder / f"{own}.key")
        return made

    @contextlib.contextmanager
    def connect(self, context: ssl.SSLContext | None = None, port: int | None = None) -> Iterator[ssl.SSLSocket]:
        with (
            socket.create_connection(("127.0.0.1", port or self.tls_port), timeout=20) as stream,
            (context or self.context()).wrap_socket(stream, server_hostname="127.0.0.1") as secured,
        ):
            yield secured


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[XotScene]:
    made = XotScene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.daemon.wait_for(lambda: made.daemon.ask("status").json["zones"].get(ZONE) is not None)
        yield made


def send(stream: socket.socket, query: dns.message.Message) -> None:
    wire = query.to_wire() or b""
    stream.sendall(struct.pack("!H", len(wire)) + wire)


def receive(stream: socket.socket) -> bytes:
    return read_exactly(stream, *struct.unpack("!H", read_exactly(stream, 2)))


def ask(stream: socket.socket, kind: str = "SOA", key: dns.tsig.Key | None = None) -> dns.message.Message:
    query = dns.message.make_query(ORIGIN, kind)
    if key is not None:
        query.use_tsig(key)
    send(stream, query)
    return dns.message.from_wire(receive(stream), keyring=key, request_mac=query.mac)


def transfer(
    stream: socket.socket,
    key: dns.tsig.Key | None = None,
    zone: Any = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Any:
    """A transfer: complete, or the difference to `zone`, which is changed. `meanwhile` is called after its first
    message."""
    held = zone if zone is not None else dns.zone.Zone(ORIGIN, relativize=False)
    query, serial = dns.xfr.make_query(held, keyring=key)
    send(stream, query)
    with dns.xfr.Inbound(held, query.question[0].rdtype, serial) as inbound:
        done, context = False, None
        while not done:
            message = dns.message.from_wire(
                receive(stream),
                keyring=key,
                request_mac=query.mac,
                xfr=True,
                tsig_ctx=context,
                multi=True,
                one_rr_per_rrset=True,
            )
            if context is None:
                meanwhile()
            context = message.tsig_ctx
            done = inbound.process_message(message)
    return held


def rules(zone: Any) -> set[str]:
    return {name.relativize(ORIGIN).to_text() for name in zone.nodes if name != ORIGIN}


def test_soa_axfr_and_ixfr_on_one_connection(scene: XotScene) -> None:
    key = scene.key(scene.subscriber("isp"))
    with scene.connect() as stream:
        assert stream.version() == "TLSv1.3"
        assert stream.selected_alpn_protocol() == "dot"
        assert ask(stream, key=key).answer[0][0].serial == 1
        zone = transfer(stream, key)
        assert rules(zone) == {"a.example", "*.a.example"}
        scene.publish("b.example")
        assert rules(transfer(stream, key, zone)) == {"b.example", "*.b.example"}
        assert rules(transfer(stream, key)) == {"b.example", "*.b.example"}
    answered = scene.daemon.ops("/metrics").body.decode()
    assert 'blocklistd_dns_responses_total{rcode="0",transport="tls",type="SOA"} 1.0' in answered


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "tcp"])
def test_pipelined_queries_are_all_answered(scene: XotScene, tls: bool) -> None:
    """RFC 9103 6.2: a client may send requests before it has the answers to those before."""
    key, count = scene.key(scene.subscriber("isp")), 100
    with contextlib.ExitStack() as stack:
        if tls:
            stream: socket.socket = stack.enter_context(scene.connect())
        else:
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", scene.port), timeout=20))
        queries = [dns.message.make_query(ORIGIN, "AXFR" if number % 2 else "SOA") for number in range(count)]
        for number, query in enumerate(queries):
            query.id = number + 1
            query.use_tsig(key)
            send(stream, query)
        for query in queries:
            answer = dns.message.from_wire(receive(stream), keyring=False, xfr=True)
            assert (answer.id, answer.rcode()) == (query.id, dns.rcode.NOERROR)
            while query.question[0].rdtype == dns.rdatatype.AXFR and answer.answer[-1].rdtype != dns.rdatatype.SOA:
                answer = dns.message.from_wire(receive(stream), keyring=False, xfr=True)
                assert answer.id == query.id


def test_only_tls_13_with_the_protocol_dot(scene: XotScene) -> None:
    old = scene.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"), scene.connect(old):
        pass
    for wrong in (("http/1.1",), ("h2", "doq")):
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"), scene.connect(scene.context(wrong)):
            pass
    with scene.connect(scene.context(("h2", "dot"))) as stream:
        assert stream.selected_alpn_protocol() == "dot"


def test_no_session_is_resumed(scene: XotScene) -> None:
    """So that each connection shows its certificate."""
    key, context = scene.key(scene.subscriber("isp")), scene.context()
    with scene.connect(context) as first:
        assert ask(first, key=key).rcode() == dns.rcode.NOERROR
        session = first.session
    with (
        socket.create_connection(("127.0.0.1", scene.tls_port), timeout=20) as stream,
        context.wrap_socket(stream, server_hostname="127.0.0.1", session=session) as second,
    ):
        assert ask(second, key=key).rcode() == dns.rcode.NOERROR
        assert not second.session_reused


def test_without_alpn_only_unbound_is_served(scene: XotScene) -> None:
    key = scene.key(scene.subscriber("isp"))
    with scene.connect(scene.context(())) as stream:
        for kind in ("SOA", "AXFR", "IXFR"):
            assert ask(stream, kind if kind != "IXFR" else "AXFR", key).rcode() == REFUSED
    scene.daemon.wait_for(lambda: "without the ALPN protocol" in scene.daemon.log)
    scene.subscriber("unbound", address=["127.0.0.1"])
    with scene.connect(scene.context(())) as stream:
        assert rules(transfer(stream)) == {"a.example", "*.a.example"}
        assert ask(stream, key=key).rcode() == REFUSED


def test_the_tls_port_answers_soa_over_udp(scene: XotScene) -> None:
    """Unbound asks there before each transfer."""
    key = scene.key(scene.subscriber("isp"))
    query = dns.message.make_query(ORIGIN, "SOA")
    query.use_tsig(key)
    assert dns.query.udp(query, "127.0.0.1", port=scene.tls_port, timeout=10).answer[0][0].serial == 1


def test_a_new_certificate_is_served_and_a_transfer_under_way_goes_on(scene: XotScene) -> None:
    key = scene.key(scene.subscriber("isp"))
    scene.publish(*long_names(LARGE))
    old = scene.context()
    with scene.connect(old) as stream:
        query = dns.message.make_query(ORIGIN, "AXFR")
        query.use_tsig(key)
        send(stream, query)
        first = receive(stream)
        new, new_key = make_certificate(scene.folder, "new")
        shutil.copy(scene.folder / "dns.pem", scene.folder / "old.pem")
        shutil.copy(new, scene.folder / "dns.pem")
        shutil.copy(new_key, scene.folder / "dns.key")
        changed = scene.daemon.ask("reload").json["changed"]
        assert {one["key"]: one["change"] for one in changed}["dns.tls.cert"] == "read again"
        with pytest.raises(ssl.SSLCertVerificationError), scene.connect(old):
            pass
        with scene.connect(scene.context(ca="new.pem")) as other:
            assert ask(other, key=key).rcode() == dns.rcode.NOERROR
        soa = (ORIGIN.to_wire() or b"") + struct.pack("!HHI", dns.rdatatype.SOA, dns.rdataclass.IN, 60)
        assert soa in first
        while soa not in receive(stream):  # that which ends the zone
            pass
    shutil.copy(scene.folder / "old.pem", scene.folder / "dns.pem")  # of another key: the running one stays
    reload(scene.daemon, "reload refused")
    with scene.connect(scene.context(ca="new.pem")) as other:
        assert ask(other, key=key).rcode() == dns.rcode.NOERROR


def test_a_transfer_under_way_goes_on_with_a_key_that_is_replaced(scene: XotScene) -> None:
    key = scene.key(scene.subscriber("isp"))
    names = long_names(LARGE)
    scene.publish(*names)
    rotated: list[Any] = []
    with scene.connect() as stream:
        zone = transfer(
            stream,
            key,
            meanwhile=lambda: rotated.append(scene.daemon.ask("subscriber rotate", id="isp", grace="0s").json),
        )
    assert len(rules(zone)) == 2 * len(names), "every message was verified with the old key"
    with scene.connect() as stream:
        with pytest.raises(dns.tsig.PeerBadKey):
            ask(stream, key=key)
        assert ask(stream, key=scene.key(rotated[0])).rcode() == dns.rcode.NOERROR


def test_an_expired_certificate_is_refused_and_the_old_one_stays(scene: XotScene) -> None:
    key, valid = scene.key(scene.subscriber("isp")), scene.context()
    expired, expired_key = make_certificate(scene.folder, "expired", timedelta(days=-1))
    shutil.copy(expired, scene.folder / "dns.pem")
    shutil.copy(expired_key, scene.folder / "dns.key")
    (error,) = scene.daemon.ask("reload").json["errors"]
    assert error["key"] == "dns.tls.cert"
    assert "which expired on" in error["found"]
    assert "renew the certificate" in error["expected"]
    with scene.connect(valid) as stream:
        assert ask(stream, key=key).rcode() == dns.rcode.NOERROR


def test_without_a_usable_certificate_all_else_is_served(tmp_path: Path) -> None:
    made = XotScene(tmp_path)
    right = (tmp_path / "dns.pem").read_bytes()
    shutil.copy(make_certificate(tmp_path, "other")[0], tmp_path / "dns.pem")
    refused = made.daemon.cli("check-config", "-c", str(made.daemon.path), check=False)
    assert refused.returncode == 2
    assert b"dns.tls.key" in refused.stderr
    assert b"the key of another certificate" in refused.stderr
    with made.daemon as daemon:
        daemon.first_pull("hotline")
        daemon.wait_for(lambda: daemon.ask("status").json["zones"].get(ZONE) is not None)
        ready = daemon.ops("/readyz")
        assert b"zones are not served over TLS: dns.tls has no usable certificate" in ready.body
        assert any("dns.tls.key" in alarm for alarm in daemon.ask("status").json["alarms"])
        with pytest.raises(OSError), made.connect():  # noqa: PT011 - reset, or closed in the handshake
            pass
        assert made.secondary("isp").refresh("AXFR") == 1
        (tmp_path / "dns.pem").write_bytes(right)
        assert daemon.ask("reload").json["errors"] == []
        assert daemon.ops("/readyz").status == 200
        with made.connect() as stream:
            assert ask(stream).rcode() == REFUSED


def test_errors_of_the_configuration_are_found(tmp_path: Path) -> None:
    made = XotScene(tmp_path, client_ca="blocklistd.yaml")
    made.daemon.config["dns"]["tls"]["listen"] = [f"127.0.0.1:{made.port}"]
    made.daemon.write_config()
    refused = made.daemon.cli("check-config", "-c", str(made.daemon.path), check=False)
    text = refused.stderr.decode()
    assert refused.returncode == 2
    assert "dns.tls.client_ca: found" in text
    assert "blocklistd.yaml, which holds none, expected a file with certificates in PEM" in text
    assert f"dns.tls.listen: found 127.0.0.1:{made.port}, expected another address than" in text
    made.daemon.config["dns"]["tls"] = {"cert": "dns.pem"}
    made.daemon.write_config()
    missing = made.daemon.cli("check-config", "-c", str(made.daemon.path), check=False).stderr.decode()
    assert "dns.tls.key" in missing


def test_a_reload_does_not_open_the_listener(tmp_path: Path) -> None:
    made = XotScene(tmp_path)
    tls = made.daemon.config["dns"].pop("tls")
    made.daemon.write_config()
    with made.daemon as daemon:
        daemon.config["dns"]["tls"] = tls
        daemon.write_config()
        reload(daemon, "dns (opened with the first zone, closed with the last): found another value")


def test_a_client_certificate_identifies_its_subscriber(scene: XotScene) -> None:
    make_certificate(scene.folder, "client")
    make_certificate(scene.folder, "stranger")
    known = scene.subscriber("isp", cert=[f"sha256:{spki(scene.folder / 'client.pem')}"])
    key, other = scene.key(known), scene.key(scene.subscriber("other"))
    with scene.connect(scene.context(own="client")) as stream:
        assert rules(transfer(stream)) == {"a.example", "*.a.example"}
        assert rules(transfer(stream, key)) == {"a.example", "*.a.example"}
        assert ask(stream, key=other).rcode() == REFUSED, "two subscribers"
    with scene.connect(scene.context(own="stranger")) as stream:
        assert ask(stream, "AXFR").rcode() == REFUSED
        assert rules(transfer(stream, other)) == {"a.example", "*.a.example"}
    with scene.connect() as stream:
        assert ask(stream, "AXFR").rcode() == REFUSED
    shown = scene.daemon.ask("subscriber show", id="isp").json
    assert shown["certs"] == [f"sha256:{spki(scene.folder / 'client.pem')}"]
    again = scene.daemon.ask("subscriber add", id="third", zones=[ZONE], cert=shown["certs"])
    assert again.status == 409
    assert "registered for isp already" in again.json["detail"]
    wrong = scene.daemon.ask("subscriber add", id="third", zones=[ZONE], cert=["sha256:00"])
    assert (wrong.status, "openssl x509" in wrong.json["detail"]) == (409, True)
    listed = scene.daemon.cli("subscriber", "list", "-c", str(scene.daemon.path)).stdout.decode()
    assert "\tkey, certificate\t" in listed


def test_a_revocation_ends_the_connections_and_a_transfer_under_way(scene: XotScene) -> None:
    make_certificate(scene.folder, "client")
    scene.subscriber("isp", cert=[f"sha256:{spki(scene.folder / 'client.pem')}"])
    other = scene.key(scene.subscriber("other"))
    scene.publish(*long_names(LARGE))
    own = scene.context(own="client")
    with scene.connect(own) as idle, scene.connect(own) as busy, scene.connect() as others:
        assert ask(idle).rcode() == dns.rcode.NOERROR
        assert ask(others, key=other).rcode() == dns.rcode.NOERROR
        send(busy, dns.message.make_query(ORIGIN, "AXFR"))
        receive(busy)
        scene.daemon.ask("subscriber revoke", id="isp")
        with pytest.raises(OSError):  # noqa: PT011 - whatever the error: the connection is gone
            ask(idle)
        with pytest.raises(OSError):  # noqa: PT011
            read_exactly(busy, 1 << 30)
        assert ask(others, key=other).rcode() == dns.rcode.NOERROR
    with scene.connect(own) as stream:
        assert ask(stream).rcode() == REFUSED


def test_with_client_ca_another_certificate_is_refused_in_the_handshake(tmp_path: Path) -> None:
    for name in ("client", "stranger"):
        make_certificate(tmp_path, name)
    scene = XotScene(tmp_path, client_ca="client.pem")
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        daemon.wait_for(lambda: daemon.ask("status").json["zones"].get(ZONE) is not None)
        known, stranger = (f"sha256:{spki(tmp_path / name)}" for name in ("client.pem", "stranger.pem"))
        scene.subscriber("isp", cert=[known, stranger])
        with scene.connect(scene.context(own="client")) as stream:
            assert ask(stream).rcode() == dns.rcode.NOERROR
        with (
            pytest.raises(OSError, match=r"(?i)unknown.ca|alert|reset|closed|EOF"),
            scene.connect(scene.context(own="stranger")) as stream,
        ):
            ask(stream)  # in TLS 1.3 the client's handshake ends before the server has seen its certificate
        key = scene.key(scene.subscriber("signed"))
        with scene.connect() as stream:
            assert ask(stream, key=key).rcode() == dns.rcode.NOERROR


@pytest.mark.slow  # a client that takes nothing is cut off after 30 s
def test_a_slow_reader_is_cut_off_and_the_others_are_served(scene: XotScene) -> None:
    key = scene.key(scene.subscriber("isp"))
    scene.publish(*long_names(LARGE))
    with scene.connect() as slow:
        query = dns.message.make_query(ORIGIN, "AXFR")
        query.use_tsig(key)
        send(slow, query)
        receive(slow)
        with scene.connect() as other:
            assert ask(other, key=key).rcode() == dns.rcode.NOERROR
        metric = 'blocklistd_dns_transfers_in_progress{type="AXFR"} '
        assert f"{metric}1.0" in scene.daemon.ops("/metrics").body.decode()
        scene.daemon.wait_for(lambda: f"{metric}0.0" in scene.daemon.ops("/metrics").body.decode(), within=50)


def test_handshakes_that_stop_or_are_garbage_end_and_hinder_nobody(scene: XotScene) -> None:
    key = scene.key(scene.subscriber("isp"))
    hello = client_hello(scene.context())
    with contextlib.ExitStack() as stack:

        def opened(first: bytes) -> socket.socket:
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", scene.tls_port), timeout=30))
            stream.sendall(first)
            return stream

        half_open = [opened(first) for first in (b"", hello[:1], hello[:-1], hello) for _ in range(40)]
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(500), b"\x16\x03\x01\xff\xff" + bytes(70_000), hello * 2):
            stream = opened(garbage)
            with contextlib.suppress(ConnectionError):
                while stream.recv(65536):  # an alert, then the end
                    pass
        with scene.connect() as good:  # above the bound of the address: the oldest half-open ones were closed
            assert rules(transfer(good, key)) == {"a.example", "*.a.example"}
        for stream in half_open:
            with contextlib.suppress(ConnectionError):
                while stream.recv(65536):  # the server's flight, if the hello was complete
                    pass
    assert '"level":"error"' not in scene.daemon.log


def client_hello(context: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def test_a_damaged_record_and_many_key_updates_end_nothing_but_their_connection(scene: XotScene) -> None:
    key = scene.key(scene.subscriber("isp"))
    with scene.connect() as stream, socket.socket(fileno=stream.detach()) as raw:
        raw.settimeout(30)
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with contextlib.suppress(ConnectionError):
            while raw.recv(65536):
                pass
    command = [peer("openssl", "openssl"), "s_client", "-connect", f"127.0.0.1:{scene.tls_port}", "-alpn", "dot"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        while b"Verify return code" not in (line := client.stdout.readline()) and line:
            pass
        while client.stdout.readline() != b"---\n":
            pass
        for _ in range(50):  # each demands a KeyUpdate of the server (RFC 8446 4.6.3)
            client.stdin.write(b"K\n")
            client.stdin.flush()
            assert b"KEYUPDATE" in client.stdout.readline()
        client.stdin.write(b"Q\n")
        client.stdin.flush()
        assert b"DONE" in client.stdout.read()
    with scene.connect() as stream:
        assert ask(stream, key=key).rcode() == dns.rcode.NOERROR
    assert '"level":"error"' not in scene.daemon.log

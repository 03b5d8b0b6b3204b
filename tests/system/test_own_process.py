"""A transport and a proof that are added as CONTRIBUTING.md says, in one file each, run in processes of their own."""

from __future__ import annotations

import hashlib
import hmac
import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import minisign

from tests.system.daemon import Daemon
from tests.system.package import Package

TRANSPORT = '''
"""A body behind a serial, over TCP: serial://ADDRESS:PORT. As an AXFR, it has validators of its own."""
import asyncio
import socket
from urllib.parse import urlsplit

from blocklistd.errors import FetchError
from blocklistd.model import NotModified, Validators
from blocklistd.sources.transports.transport import Arrived, Download, Transport


class SerialDownload(Download):
    async def body(self, sink):
        asked = urlsplit(self.request.url)
        reader, writer = await asyncio.open_connection(asked.hostname, asked.port)
        try:
            writer.write((self.request.validators.etag or "0").encode() + b"\\n")
            word, _, rest = (await reader.readline()).decode().strip().partition(" ")
            # what a process that was taken over would try
            if word == "open":
                open(rest).close()
            elif word == "connect":
                socket.socket(socket.AF_UNIX).connect(rest)
            elif word == "etag":
                return Arrived(self.request.url, validators=Validators(etag=rest))
            elif word == "same":
                return NotModified()
            while data := await reader.read(65536):
                await sink.write(data)
            return Arrived(self.request.url, validators=Validators(etag=rest))
        finally:
            writer.close()

    async def signature(self, url):
        asked = urlsplit(url)
        reader, writer = await asyncio.open_connection(asked.hostname, asked.port)
        writer.write(b"signature\\n")
        try:
            return await reader.read()
        finally:
            writer.close()


def check(url):
    if not urlsplit(url).port:
        raise ValueError("an address and a port after `serial://`")


TRANSPORT = Transport(SerialDownload, check=check, fetches_signatures=True)
'''
PROOF = '''
"""A list that arrives encrypted to us, under a shared key (a toy)."""
import hashlib
import hmac

from blocklistd.errors import VerifyError
from blocklistd.sources.proofs.proof import Proof, Proven

REASON = "encrypted to another key, or changed"


def read_key(text):
    if len(text) != 32:
        raise VerifyError("not 32 bytes")
    return text.hex()


def verify(body, claim):
    key = bytes.fromhex(claim.key)
    mac, text = body.read(32), body.read()
    if not hmac.compare_digest(mac, hmac.digest(key, text, "sha256")):
        raise VerifyError(REASON)
    claim.content.write(bytes(byte ^ key[place % 32] for place, byte in enumerate(text)))
    return Proven(hashlib.sha256(mac).hexdigest())


PROOF = Proof(verify, key="a file of 32 bytes", read_key=read_key, reasons=(REASON,), in_own_process=True)
'''
KEY = bytes(range(32))
LISTS = {"national": {"sources": ["hotline"]}}


def encrypted(names: list[str], key: bytes = KEY) -> bytes:
    text = "".join(f"{name}\n" for name in names).encode()
    wrapped = bytes(byte ^ key[place % 32] for place, byte in enumerate(text))
    return hmac.digest(key, wrapped, hashlib.sha256) + wrapped


class Primary:
    """Answers each connection with `answer` if it is set, else with the serial and the body, or that it is the same;
    or with the body's signature."""

    def __init__(self) -> None:
        self.keys = minisign.KeyPair.generate()
        self.serial, self.body, self.answer = 1, b"", ""
        self.asked: list[str] = []

    @contextmanager
    def serve(self) -> Iterator[int]:
        primary = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                known = self.rfile.readline().decode().strip()
                primary.asked.append(known)
                if known == "signature":
                    self.wfile.write(bytes(primary.keys.secret_key.sign(primary.body)) + b"\n")
                elif primary.answer:
                    self.wfile.write(f"{primary.answer}\n".encode())
                elif known == str(primary.serial):
                    self.wfile.write(b"same\n")
                else:
                    self.wfile.write(f"serial {primary.serial}\n".encode() + primary.body)

        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server.server_address[1]
            server.shutdown()


def jobs_run(daemon: Daemon, job: str) -> float:
    name = f'blocklistd_job_seconds_count{{job="{job}"}} '
    lines = daemon.ops("/metrics").body.decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def live(daemon: Daemon, token: str) -> set[str]:
    return {json.loads(line)["value"] for line in daemon.snapshot("national", token).splitlines()}


def test_a_transport_has_the_network_and_nothing_else(tmp_path: Path) -> None:
    package, primary = Package(tmp_path), Primary()
    package.add("transports", "serial", TRANSPORT, "serial", "TRANSPORT")
    primary.body = b"one.example\ntwo.example\n"
    with primary.serve() as port:
        source = {
            "url": f"serial://127.0.0.1:{port}",
            "format": "text",
            "defaults": {"type": "domain"},
            "schedule": "every 1d",
            "max_bytes": 1000,
            "verify": {"method": "minisign", "key": "hotline.pub", "signature": "{url}"},
        }
        (tmp_path / "hotline.pub").write_bytes(bytes(primary.keys.public_key) + b"\n")
        daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": LISTS})
        daemon.tree = package.root
        with daemon:
            daemon.first_pull("hotline")
            token = daemon.subscriber("isp", "national")
            assert live(daemon, token) == {"one.example", "two.example"}
            assert daemon.pull("hotline")["outcome"] == "unchanged"
            assert primary.asked == ["0", "signature", "1"], "its own validators come back to it"
            primary.serial, primary.body = 2, b"one.example\nthree.example\n"
            assert daemon.pull("hotline")["outcome"] == "published"
            assert live(daemon, token) == {"one.example", "three.example"}
            assert (jobs_run(daemon, "fetch_body"), jobs_run(daemon, "fetch_signature")) == (3, 2)

            primary.serial, primary.body = 3, b"x" * 1001
            assert "expected at most 1000, raise `max_bytes`" in daemon.pull("hotline")["reason"]
            for answer, reason in (
                (f"open {tmp_path}/state/blocklistd.db", "PermissionError at serial.py"),
                (f"connect {tmp_path}/c.sock", "PermissionError at socket.py"),
                ("etag two\twords", "returned an unexpected result"),
            ):
                primary.answer = answer
                failed = daemon.pull("hotline")
                assert failed["outcome"] == "failed"
                assert reason in failed["reason"]
            assert live(daemon, token) == {"one.example", "three.example"}
        assert not list((tmp_path / "state" / "work").iterdir())

        config = daemon.path.read_text()
        daemon.path.write_text(config.replace(f"127.0.0.1:{port}", "127.0.0.1"))
        refused = daemon.cli("check-config", "-c", str(daemon.path), check=False)
        assert b"expected an address and a port after `serial://`" in refused.stdout + refused.stderr


def test_a_proof_with_a_secret_key_unwraps_the_list(tmp_path: Path) -> None:
    package, body, key = Package(tmp_path), tmp_path / "list.enc", tmp_path / "our.key"
    package.add("proofs", "shared", PROOF, "shared", "PROOF")
    source = {
        "url": f"file:{body}",
        "format": "text",
        "defaults": {"type": "domain"},
        "schedule": "every 1d",
        "verify": {"method": "shared", "key": str(key)},
    }
    daemon = Daemon(tmp_path, {"sources": {"hotline": source}, "lists": LISTS})
    daemon.tree = package.root
    key.write_bytes(KEY[1:])
    refused = daemon.cli("check-config", "-c", str(daemon.path), check=False)
    assert b"our.key, which is not one, expected a file of 32 bytes" in refused.stdout + refused.stderr
    key.write_bytes(KEY)
    first = encrypted(["one.example", "two.example"])
    body.write_bytes(first)
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        assert live(daemon, token) == {"one.example", "two.example"}
        body.write_bytes(encrypted(["one.example", "three.example"]))
        assert daemon.pull("hotline")["outcome"] == "published"
        assert live(daemon, token) == {"one.example", "three.example"}
        assert jobs_run(daemon, "prove") == 2

        body.write_bytes(first)
        assert "accepted before" in daemon.pull("hotline")["reason"]
        body.write_bytes(encrypted(["one.example"], KEY[::-1]))
        assert daemon.pull("hotline")["reason"] == "encrypted to another key, or changed"
        assert live(daemon, token) == {"one.example", "three.example"}
    assert KEY.hex() not in daemon.log

"""Limits for clients that are not authenticated, read slowly, or send too much."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.system.daemon import Daemon
from tests.system.test_sync import configuration


def test_malformed_and_oversized_requests_are_refused(tmp_path: Path) -> None:
    with Daemon(tmp_path, configuration(tmp_path)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        for raw in (
            b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
            b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x16\x03\x01 not http at all\r\n\r\n",
            b"GET /v1/lists HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", daemon.feed_port), timeout=20) as stream:
                stream.sendall(raw)
                answer = stream.recv(4096)
            assert answer.split(b" ")[1][:1] == b"4", answer
            assert b"application/problem+json" in answer
            assert b"not http" not in answer, "a refusal does not repeat the request"
        assert daemon.get("/v1/lists/national", token).status == 200
        assert "Traceback" not in daemon.log


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    with Daemon(tmp_path, configuration(tmp_path)) as daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        one = f"GET /v1/lists/national HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        with socket.create_connection(("127.0.0.1", daemon.feed_port), timeout=20) as stream:
            stream.sendall(one * 5 + last)
            data = b""
            while chunk := stream.recv(65536):
                data += chunk
        assert data.count(b"HTTP/1.1 200 OK") == 6


def test_an_oversized_body_of_a_command_is_refused(tmp_path: Path) -> None:
    with Daemon(tmp_path, configuration(tmp_path)) as daemon:
        daemon.first_pull("hotline")
        answer = daemon.ask("subscriber add", id="x" * 70_000)
        assert answer.status == 413
        assert daemon.ask("subscriber add", id="UPPER", lists=["national"]).status == 409
        assert daemon.ask("nothing").status == 404


def test_a_client_that_sends_requests_and_reads_nothing_is_cut_off(tmp_path: Path) -> None:
    """Small responses fill the buffer like large ones: no more requests are read, and the connection is dropped after
    WRITE_STALL."""
    daemon = Daemon(tmp_path, configuration(tmp_path))
    daemon.prefix = [
        *(sys.executable, "-c"),
        "import sys; from blocklistd import limits; limits.WRITE_STALL = 1.0\n"
        "from blocklistd.__main__ import main; sys.argv = sys.argv[3:]; main()",
    ]
    with daemon, socket.create_connection(("127.0.0.1", daemon.feed_port), timeout=1) as stream:

        def send_requests() -> None:
            began = time.monotonic()
            while time.monotonic() - began < 25:
                with suppress(TimeoutError):
                    stream.send(b"GET /v1/lists HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)

        with pytest.raises(ConnectionError):
            send_requests()


def test_a_small_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    """The soft limit of a shell is below the number of accepted connections, so an operator could be locked out."""
    daemon = Daemon(tmp_path, configuration(tmp_path))
    daemon.prefix = ["prlimit", "--nofile=256:4096"]
    streams = []
    with daemon:
        daemon.first_pull("hotline")
        token = daemon.subscriber("isp", "national")
        try:
            for number in range(400):
                source = f"127.0.1.{1 + number // 100}", 0
                streams.append(socket.create_connection(("127.0.0.1", daemon.feed_port), source_address=source))
            assert daemon.pull("hotline")["outcome"] == "unchanged"
            assert daemon.get("/v1/lists/national", token).status == 200
        finally:
            for stream in streams:
                stream.close()

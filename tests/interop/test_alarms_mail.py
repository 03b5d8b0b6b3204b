"""Alarms by a real `sendmail` (msmtp) to a mail server, and by a webhook behind TLS."""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import shutil
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_certificate
from tests.peers import peer, unchecked
from tests.system.test_alarms_to_people import Receiver, daemon_of, delivered, hold
from tests.system.test_operations import reload

SENDMAIL = "/usr/sbin/sendmail"


@dataclass
class MailServer:
    """An SMTP server on loopback (RFC 5321) that takes mails, or refuses them for now while `busy` is set."""

    port: int = 0
    busy: bool = False
    refused: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)

    def serve(self, stream: Any) -> None:
        def say(text: str) -> None:
            stream.wfile.write(f"{text}\r\n".encode())

        say("220 mail.example ready")
        sender, recipients = "", []
        while line := stream.rfile.readline().decode().strip():
            verb, _, rest = line.partition(" ")
            match verb.upper():
                case "MAIL" if self.busy:
                    self.refused += 1
                    say("451 try again later")
                case "MAIL":
                    sender = rest
                    say("250 ok")
                case "RCPT":
                    recipients.append(rest)
                    say("250 ok")
                case "DATA":
                    say("354 go on")
                    lines = iter(stream.rfile.readline, b".\r\n")
                    content = b"".join(line.removeprefix(b".") for line in lines)
                    self.envelopes.append((sender, recipients))
                    self.mails.append(email.message_from_bytes(content, policy=email.policy.default))
                    say("250 taken")
                case "QUIT":
                    say("221 bye")
                    return
                case _:
                    say("250 mail.example")

    def subjects(self, alarm: str) -> list[str]:
        return [str(mail["Subject"]).partition("] ")[2] for mail in self.mails if alarm in str(mail["Subject"])]


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    made = MailServer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                made.serve(self)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def test_a_real_sendmail_brings_each_alarm_to_the_mail_server_once(tmp_path: Path, mail_server: MailServer) -> None:
    peer("msmtp", "msmtp-mta")
    if shutil.which(SENDMAIL) is None:
        unchecked(f"{SENDMAIL} is missing: apt-get install msmtp-mta")
    settings = tmp_path / "msmtprc"
    settings.write_text(f"host localhost\nfrom blocklistd@publisher.example\nport {mail_server.port}\n")  # as the guide
    command = [SENDMAIL, "-C", str(settings), "oncall@publisher.example"]
    with daemon_of(tmp_path, command=command, review_within="1s") as daemon:
        # 09:00 the operator tries the way
        assert "command: delivered" in daemon.cli("alarms", "test", "-c", str(daemon.path)).stdout.decode()
        (mail,) = mail_server.mails
        assert "TEST" in str(mail["Subject"])
        assert "nothing is wrong" in mail.get_content()
        (sender, recipients) = mail_server.envelopes[0]
        assert "blocklistd@publisher.example" in sender
        assert recipients == ["TO:<oncall@publisher.example>"]
        assert mail["From"] is not None
        assert mail["Date"] is not None
        assert mail["Auto-Submitted"] == "auto-generated"
        # 10:00 a candidate waits for too long, while the mail server is busy
        daemon.first_pull("hotline")
        mail_server.busy = True
        candidate = hold(daemon)
        daemon.wait_for(lambda: mail_server.refused > 0)
        daemon.wait_for(lambda: "ended with 69" in str(daemon.ask("status").json["undelivered"]))
        # 10:10 the machine loses power, and the mail server is back
        daemon.kill()
        mail_server.busy = False
        with daemon:
            daemon.wait_for(lambda: mail_server.subjects("candidate_waiting") != [])
            daemon.wait_for(lambda: delivered(daemon))
            daemon.stop()
        with daemon:
            daemon.wait_for(lambda: candidate in daemon.ops("/readyz").body.decode())
            daemon.wait_for(lambda: delivered(daemon))
            # 11:00
            daemon.approve(candidate)
            daemon.pull("hotline")
            daemon.wait_for(lambda: len(mail_server.subjects("candidate_waiting")) > 1)
            subjects = mail_server.subjects("candidate_waiting")
            assert subjects == [f"{state}: candidate_waiting {candidate}" for state in ("raised", "cleared")]
            assert not any("secret-name" in mail.as_string() for mail in mail_server.mails)


def test_a_webhook_behind_tls_is_trusted_by_the_systems_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = make_certificate(tmp_path, "alerts")
    other, _ = make_certificate(tmp_path, "other")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(cert, key)
    receiver = Receiver()
    receiver.server.socket = serving.wrap_socket(receiver.server.socket, server_side=True)
    webhook = {"url": receiver.url.replace("http:", "https:")}
    with contextlib.closing(_Stopped(receiver)):
        monkeypatch.setenv("SSL_CERT_FILE", str(other))  # OpenSSL's file of the system's authorities
        with daemon_of(tmp_path, webhook=webhook, review_within="1s") as daemon:
            refused = daemon.cli("alarms", "test", "-c", str(daemon.path), check=False)
            assert refused.returncode == 1
            assert "webhook: not delivered: the TLS connection failed: check the server's certificate" in (
                refused.stderr.decode()
            )
            assert receiver.seen == 0
            daemon.first_pull("hotline")
            candidate = hold(daemon)
            daemon.wait_for(lambda: "TLS connection failed" in json.dumps(daemon.ask("status").json["undelivered"]))
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        with daemon:
            daemon.wait_for(lambda: receiver.of("candidate_waiting") == ["raised"])
            assert candidate in json.dumps(receiver.got)
            assert daemon.cli("alarms", "test", "-c", str(daemon.path)).stdout.decode() == "webhook: delivered\n"
            # the server goes away, and comes back behind the same address
            daemon.config["alarms"] = {}
            daemon.write_config()
            reload(daemon)
            none = daemon.cli("alarms", "test", "-c", str(daemon.path), check=False)
            assert (none.returncode, none.stdout) == (1, b"")
            assert "no delivery of alarms is configured" in none.stderr.decode()
            assert "secret-name" not in json.dumps(receiver.got) + daemon.log


class _Stopped:
    def __init__(self, receiver: Receiver) -> None:
        self.close = receiver.stop

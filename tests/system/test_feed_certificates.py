"""Client certificates at the feed, from outside: who is authenticated, what the others are told, and what ends when."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import make_certificate, spki
from tests.system.daemon import Answer, Daemon
from tests.system.test_operations import reload
from tests.system.test_zones_hard import long_names

LIST = "/v1/lists/national"
LARGE = 40_000
"""Entries of a snapshot of 11 MB: more than the sockets between two processes hold."""
FORGED = {
    "X-SSL-Client-Cert": "PEM",
    "X-Client-Cert": "PEM",
    "X-Forwarded-Client-Cert": "Hash={}",
    "Client-Cert": ":PEM:",
    "X-SSL-Client-Verify": "SUCCESS",
    "X-SSL-Client-SHA256": "{}",
    "X-ARR-ClientCert": "PEM",
}
"""Headers by which proxies pass on a certificate (Client-Cert: RFC 9440)."""


class Scene:
    """A feed over TLS. The certificate ca has signed client, second, expired, early and stranger; foreign has signed
    itself. For the subscriber isp client, expired, early and foreign are registered, for another one second."""

    def __init__(self, folder: Path, entries: int = 1, **tls: Any) -> None:
        self.folder = folder
        for name in ("feed", "ca", "foreign"):
            make_certificate(folder, name)
        for name, good_for, begins in (
            ("client", 30, -2),
            ("second", 30, -2),
            ("stranger", 30, -2),
            ("expired", -1, -2),
            ("early", 30, 2),
        ):
            days = timedelta(days=good_for)
            make_certificate(folder, name, days, begins=timedelta(days=begins), signed_by="ca")
        (folder / "list.txt").write_text("".join(f"{name}\n" for name in long_names(entries)))
        source = {
            **{"url": f"file:{folder}/list.txt", "format": "text", "defaults": {"type": "domain"}},
            **{"schedule": "every 1d", "verify": {"method": "none"}},
        }
        self.daemon = Daemon(folder, {"sources": {"hotline": source}, "lists": {"national": {"sources": ["hotline"]}}})
        self.tls = self.daemon.config["feed"]["tls"] = {"cert": "feed.pem", "key": {"file": "feed.key"}, **tls}
        self.daemon.write_config()

    def register_all(self) -> None:
        """Waits for the list, and registers the two subscribers."""
        self.daemon.first_pull("hotline")
        self.token = self.register("isp", "client", "expired", "early", "foreign")
        self.register("other", "second")

    def register(self, name: str, *own: str) -> str:
        """Registers a subscriber by the public keys of these certificates; returns its token."""
        answer = self.daemon.ask("subscriber add", id=name, lists=["national"], cert=[self.key(one) for one in own])
        assert answer.status == 200, answer.body
        return str(answer.json["token"])

    def key(self, name: str) -> str:
        return f"sha256:{spki(self.folder / f'{name}.pem')}"

    def context(self, own: str = "", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        """A client's context. `own`: the name of its certificate."""
        made = ssl.create_default_context(cafile=self.folder / "feed.pem")
        made.maximum_version = version
        if own:
            made.load_cert_chain(self.folder / f"{own}.pem", self.folder / f"{own}.key")
        return made

    def connect(self, own: str = "", **more: Any) -> contextlib.closing[http.client.HTTPSConnection]:
        return contextlib.closing(
            http.client.HTTPSConnection(
                "127.0.0.1", self.daemon.feed_port, timeout=60, context=self.context(own, **more)
            )
        )

    def get(self, own: str = "", token: str = "", path: str = LIST, **headers: str) -> Answer:
        """One request on a connection of its own."""
        with self.connect(own) as connection:
            return ask(connection, path, token, **headers)

    def wait_until_waiting(self) -> None:
        """Waits until there is a long poll."""
        self.daemon.wait_for(lambda: b"blocklistd_feed_long_polls 1.0" in self.daemon.ops("/metrics").body)

    def reload(self, **tls: Any) -> None:
        self.tls.clear()
        self.tls |= {"cert": "feed.pem", "key": {"file": "feed.key"}, **tls}
        self.daemon.write_config()
        reload(self.daemon)


def ask(connection: http.client.HTTPConnection, path: str = LIST, token: str = "", **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers=sent | ({"Authorization": f"Bearer {token}"} if token else {}))
    got = connection.getresponse()
    return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path, client_ca="ca.pem")
    with made.daemon:
        made.register_all()
        yield made


def refusal(answer: Answer) -> str:
    """The detail of a 401."""
    assert answer.status == 401, answer.body
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.headers["connection"] == "close"
    return str(answer.json["detail"])


def test_a_registered_certificate_authenticates_and_the_others_are_told_why_not(scene: Scene) -> None:
    assert scene.get("client").json["list"] == "national"
    assert [one["list"] for one in scene.get("client", path="/v1/lists").json["lists"]] == ["national"]
    for own, reason in (
        ("expired", "the client certificate has expired"),
        ("early", "the client certificate is not valid yet"),
        ("foreign", "signed by none of the authorities that the publisher accepts"),
        ("stranger", "registered for no subscriber"),
        ("", "expected `Authorization: Bearer` and a subscriber's token, or a client certificate"),
    ):
        assert reason in refusal(scene.get(own)), own
        assert scene.get(own, scene.token).status == 200, "the token decides"
    assert "two subscribers" in refusal(scene.get("second", scene.token))
    assert "expected `Authorization: Bearer`" in refusal(scene.get("client", "wrong")), (
        "a wrong token is no missing one"
    )
    for line in ("as isp was refused: its client certificate has expired", "its client certificate is not registered"):
        assert scene.daemon.logged(line) == 1
    shown = scene.daemon.ask("subscriber show", id="isp").json
    assert scene.key("client") in shown["certs"]
    taken = scene.daemon.ask("subscriber add", id="third", lists=["national"], cert=[scene.key("client")])
    assert (taken.status, "registered for isp already" in taken.json["detail"]) == (409, True)
    taken = scene.daemon.ask("subscriber set", id="other", add_cert=[scene.key("client")])
    assert (taken.status, "registered for isp already" in taken.json["detail"]) == (409, True)
    scene.reload()
    assert [scene.get(own).status for own in ("client", "foreign", "expired", "stranger")] == [200, 200, 401, 401]


def test_a_renewed_certificate_with_the_same_key_needs_no_registration(scene: Scene) -> None:
    make_certificate(scene.folder, "renewed", signed_by="ca", key_of="expired")
    assert scene.get("expired").status == 401
    assert scene.get("renewed").status == 200


class UnderWay:
    """A wait, an idle connection, and a download of which little is read, of the certificate client."""

    def __init__(self, scene: Scene, stack: contextlib.ExitStack) -> None:
        status = scene.get("client")
        self.answers: list[Answer] = []
        waiting, self.idle, download = (stack.enter_context(scene.connect("client")) for _ in range(3))
        assert ask(self.idle).status == 200
        etag = status.headers["etag"]
        self.thread = threading.Thread(
            target=lambda: self.answers.append(ask(waiting, f"{LIST}?wait=55", If_None_Match=etag))
        )
        self.thread.start()
        scene.wait_until_waiting()
        download.request("GET", f"{LIST}/targets/{status.json['sha256']}.national.ndjson")
        self.body = download.getresponse()
        self.body.read(1000)

    def ended(self) -> None:
        """Checks that all of it has ended within a second."""
        began = time.monotonic()
        self.thread.join(1)
        assert [answer.status for answer in self.answers] == [401]
        with pytest.raises((http.client.IncompleteRead, OSError)):
            self.body.read()
        assert time.monotonic() - began < 1
        with pytest.raises((http.client.RemoteDisconnected, OSError)):
            ask(self.idle)


def test_a_revocation_ends_what_certificates_have_under_way(tmp_path: Path) -> None:
    scene = Scene(tmp_path, LARGE, client_ca="ca.pem")
    with scene.daemon, contextlib.ExitStack() as stack:
        scene.register_all()
        status = scene.get("client").json
        target = scene.get("client", path=f"{LIST}/targets/{status['sha256']}.national.ndjson")
        assert hashlib.sha256(target.body).hexdigest() == status["sha256"]
        others = stack.enter_context(scene.connect("second"))
        assert ask(others).status == 200
        under_way = UnderWay(scene, stack)
        scene.daemon.ask("subscriber set", id="isp", remove_cert=[scene.key("client")])
        under_way.ended()
        assert "registered for no subscriber" in refusal(scene.get("client"))
        scene.daemon.ask("subscriber set", id="isp", add_cert=[scene.key("client")])
        under_way = UnderWay(scene, stack)
        scene.daemon.ask("subscriber revoke", id="isp")
        under_way.ended()
        refusal(scene.get("client"))
        assert scene.daemon.logged("as isp was refused: the subscriber was revoked")
        assert ask(others).status == 200
        assert scene.register("third", "client")
        assert scene.get("client").status == 200, "the certificate of a revoked subscriber can be registered again"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_of_a_certificate_is_resumed(scene: Scene, version: ssl.TLSVersion) -> None:
    context = scene.context("client", version)
    made = [
        http.client.HTTPSConnection("127.0.0.1", scene.daemon.feed_port, timeout=60, context=context) for _ in range(2)
    ]
    with contextlib.closing(made[0]), contextlib.closing(made[1]):
        assert ask(made[0]).status == 200
        tcp = socket.create_connection(("127.0.0.1", scene.daemon.feed_port), timeout=60)
        stream = context.wrap_socket(tcp, server_hostname="127.0.0.1", session=made[0].sock.session)
        made[1].sock = stream
        assert ask(made[1]).status == 200
        assert stream.version() == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
        assert not stream.session_reused


def test_a_client_can_not_renegotiate(scene: Scene) -> None:
    """With the contexts of both kinds of connections: that asks for a certificate, and that does not."""
    for asks in (True, False):
        if not asks:
            for name in ("isp", "other"):
                scene.daemon.ask("subscriber revoke", id=name)
            scene.reload()
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{scene.daemon.feed_port}", "-tls1_2", "-quiet"]
        command = [*command[:-1], "-cert", str(scene.folder / "client.pem"), "-key", str(scene.folder / "client.key")]
        done = subprocess.run(command, input="R\n", capture_output=True, text=True, timeout=60, check=False)
        said = done.stdout + done.stderr
        assert "RENEGOTIATING" in said
        assert "no renegotiation" in said
        assert ("Acceptable client certificate CA names" in said) == asks


def test_a_reload_changes_the_authorities_and_drops_no_other_connection(scene: Scene) -> None:
    etag = scene.get("client").headers["etag"]
    with scene.connect("client") as by_certificate, scene.connect() as by_token, scene.connect("foreign") as waiting:
        assert ask(by_certificate).status == ask(by_token, LIST, scene.token).status == 200
        answers: list[Answer] = []
        thread = threading.Thread(
            target=lambda: answers.append(ask(waiting, f"{LIST}?wait=55", scene.token, If_None_Match=etag))
        )
        thread.start()
        scene.wait_until_waiting()

        make_certificate(scene.folder, "new")
        for end in ("pem", "key"):
            shutil.copy(scene.folder / f"new.{end}", scene.folder / f"feed.{end}")
        reload(scene.daemon)
        assert ask(by_certificate).status == ask(by_token, LIST, scene.token).status == 200, "the same authorities"
        assert scene.get("client").status == 200, "with the new certificate of the server"

        shutil.copy(scene.folder / "foreign.pem", scene.folder / "ca.pem")
        reload(scene.daemon)
        with pytest.raises((http.client.RemoteDisconnected, OSError)):
            ask(by_certificate)
        assert "signed by none" in refusal(scene.get("client"))
        assert scene.get("foreign").status == 200
        assert ask(by_token, LIST, scene.token).status == 200

        scene.reload()
        assert [scene.get(own).status for own in ("client", "foreign", "stranger")] == [200, 200, 401]
        assert ask(by_token, LIST, scene.token).status == 200
        assert not answers
        scene.daemon.ask("subscriber revoke", id="isp")
        thread.join()
        assert answers[0].status == 401


def test_behind_a_trusted_proxy_neither_a_header_nor_its_certificate_stands_for_a_client(scene: Scene) -> None:
    pem = (scene.folder / "client.pem").read_text().replace("\n", " ")
    forged = {name: value.replace("PEM", pem).format(scene.key("client")[7:]) for name, value in FORGED.items()}
    assert scene.get("client", **forged).status == 200
    assert refusal(scene.get(**forged))
    scene.daemon.config["feed"]["trusted_proxies"] = ["127.0.0.1/32"]
    scene.reload(client_ca="ca.pem")
    for own in ("", "client"):
        assert refusal(scene.get(own, **forged, X_Forwarded_For="192.0.2.1"))
        assert scene.get(own, scene.token, X_Forwarded_For="192.0.2.1").status == 200
    assert scene.get("second", scene.token).status == 200, "a proxy's own certificate is nobody's"


def test_errors_of_the_configuration_are_found(tmp_path: Path) -> None:
    made = Scene(tmp_path, client_ca="blocklistd.yaml")
    refused = made.daemon.cli("check-config", "-c", str(made.daemon.path), check=False)
    assert refused.returncode == 2
    assert b"feed.tls.client_ca: found" in refused.stderr
    assert b"blocklistd.yaml, which holds none, expected a file with certificates in PEM" in refused.stderr
    made.tls["client_ca"] = "expired.pem"
    made.daemon.write_config()
    refused = made.daemon.cli("check-config", "-c", str(made.daemon.path), check=False)
    assert refused.returncode == 2
    assert b"expired.pem, which expired on" in refused.stderr

"""The TLS connection proves the origin, with authorities and certificates that openssl makes."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from blocklistd.daemon.plans import source_plans
from blocklistd.errors import FetchError
from blocklistd.model import Fetched, SourceId, Validators
from blocklistd.sources.transports.transport import Request
from tests.peers import peer
from tests.sim.hotline import HotlineSimulator
from tests.unit.test_sources_transports_fetch import fetch

from .configuring import read, source

LINES = ["a.example", "b.example"]


class OpensslAuthority:
    """An authority, NAME.pem, that signs certificates."""

    def __init__(self, folder: Path, name: str) -> None:
        self._openssl, self._folder, self._name = peer("openssl", "openssl"), folder, name
        self._run("req", "-x509", *self._new(name), "-out", f"{name}.pem", "-subj", "/CN=authority", "-days", "30")

    def sign(self, name: str, alternative: str) -> tuple[Path, Path]:
        self._run(
            "req", *self._new(name), "-out", "csr", "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}"
        )
        signer = ["-CA", f"{self._name}.pem", "-CAkey", f"{self._name}.key", "-CAcreateserial"]
        self._run(
            "x509", "-req", "-in", "csr", *signer, "-days", "30", "-copy_extensions", "copy", "-out", f"{name}.pem"
        )
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def server(self, name: str, alternative: str = "IP:127.0.0.1", *, client: bool = False) -> ssl.SSLContext:
        """The context of a server, which perhaps requires a client certificate of this authority."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self._folder / f"{self._name}.pem")
        context.verify_mode = ssl.CERT_REQUIRED if client else ssl.CERT_NONE
        context.load_cert_chain(*self.sign(name, alternative))
        return context

    def _new(self, name: str) -> list[str]:
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], cwd=self._folder, check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path: Path) -> OpensslAuthority:
    return OpensslAuthority(tmp_path, "ca")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def request(folder: Path, url: str, **keys: str) -> Request:
    keys = {"verify": "{method: pinned-tls}", "ca": "ca.pem", **keys}
    return source_plans(read(folder, source(url=url, **keys)))[SourceId("hotline-a")].request(Validators())


async def test_only_a_server_of_the_pinned_authority_is_asked(
    tmp_path: Path, folder: Path, authority: OpensslAuthority
) -> None:
    async with HotlineSimulator(tls=authority.server("server")) as hotline:
        hotline.publish(LINES)
        found = await fetch(request(tmp_path, hotline.url), folder)
        assert isinstance(found, Fetched)
        assert (found.body.read_bytes(), found.signature) == (hotline.current.body, None)
    for other in (
        OpensslAuthority(tmp_path, "another").server("forged"),  # of the same name
        authority.server("elsewhere", "IP:127.0.0.2"),
        authority.server("unnamed", "DNS:hotline.example"),
    ):
        async with HotlineSimulator(tls=other) as hotline:
            hotline.publish(LINES)
            with pytest.raises(FetchError, match="its certificate is not trusted"):
                await fetch(request(tmp_path, hotline.url), folder)
            assert hotline.requests == []


async def test_a_client_certificate_is_shown_to_the_server(
    tmp_path: Path, folder: Path, authority: OpensslAuthority
) -> None:
    authority.sign("client", "DNS:client.example")
    auth = "{client_cert: {cert: client.pem, key: {file: client.key}}}"
    async with HotlineSimulator(tls=authority.server("server", client=True)) as hotline:
        hotline.publish(LINES)
        assert isinstance(await fetch(request(tmp_path, hotline.url, auth=auth), folder), Fetched)
        assert [seen.certificate for seen in hotline.requests] == ["client"]
        with pytest.raises(FetchError):
            await fetch(request(tmp_path, hotline.url), folder)
        assert len(hotline.requests) == 1

"""Helpers of the tests of the configuration: a valid file, variants of it, and the problems of a file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import minisign
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from blocklistd.config import Config, load
from blocklistd.errors import ConfigError, ConfigProblem

VALID = """\
sources:
  hotline-a:
    url: https://hotline.example/urls.txt
    format: text
    defaults: {type: url}
    verify: {method: none}
lists:
  national:
    sources: [hotline-a]
feed:
  listen: ["127.0.0.1:0"]
"""


def read(folder: Path, text: str | bytes) -> Config:
    file = folder / "blocklistd.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(file)


def problems(folder: Path, text: str | bytes) -> list[ConfigProblem]:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    assert all(str(problem).count(" expected ") == 1 for problem in caught.value.problems), caught.value
    return caught.value.problems


def places(folder: Path, text: str | bytes) -> list[tuple[int, str]]:
    return [(problem.line, problem.key) for problem in problems(folder, text)]


def source(extra: str = "", **keys: str) -> str:
    """VALID with other values in its source. `extra` are additional lines of the source."""
    values = {
        "url": "https://hotline.example/urls.txt",
        "format": "text",
        "defaults": "{type: url}",
        "verify": "{method: none}",
    }
    lines = "".join(f"    {key}: {value}\n" for key, value in {**values, **keys}.items() if value)
    more = "".join(f"    {line}\n" for line in extra.splitlines())
    return f"sources:\n  hotline-a:\n{lines}{more}feed:\n  listen: ['127.0.0.1:0']\n"


def make_minisign_key(path: Path) -> None:
    path.write_bytes(bytes(minisign.KeyPair.generate().public_key))


def make_root(path: Path) -> None:
    """A root.json that is signed by its own key."""
    signer, root = CryptoSigner.generate_ed25519(), Root(expires=datetime.now(UTC) + timedelta(days=1))
    for role in ("root", "timestamp", "snapshot", "targets"):
        root.add_key(signer.public_key, role)
    signed = Metadata(root)
    signed.sign(signer)
    path.write_bytes(signed.to_bytes())


def make_certificate(
    path: Path, start: datetime = datetime(2024, 1, 1, tzinfo=UTC), good_for: timedelta = timedelta(days=36500)
) -> None:
    """A certificate at `path`, and its key beside it, as NAME.key."""
    key, name = Ed25519PrivateKey.generate(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hotline.example")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + good_for).sign(key, None)
    path.write_bytes(made.public_bytes(Encoding.PEM))
    private = path.with_suffix(".key")
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)

"""Messages that gpg and sq encrypt are decrypted as these tools do it, and damaged ones are refused."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.errors import VerifyError
from blocklistd.sources.proofs import openpgp_decrypt
from blocklistd.sources.proofs.openpgp_decrypt import decrypt, read_secret
from tests.openpgp import PUBLIC_KEY, Gpg, Sq, time_of, user
from tests.unit.test_sources_proofs_openpgp import variants

BODY = b"one.example\ntwo.example\n"
KEYS = ("curve", "rsa", "nist", "usual")


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    made = Gpg()
    made.generate("hotline")
    made.generate("other", "default", "default")
    for name, signs, encrypts in (
        ("curve", "ed25519", "cv25519"),
        ("rsa", "rsa2048", "rsa2048"),
        ("nist", "nistp256", "nistp384"),
    ):
        key = made.generate(name, signs)
        made.run(*time_of("20260101T000000"), "--quick-add-key", key, encrypts, "encr", "0")
    made.generate("usual", "default", "default")
    yield made
    made.close()


def encrypted(gpg: Gpg, to: str, body: bytes = BODY, *options: str) -> bytes:
    return gpg.run("--trust-model", "always", "--encrypt", "--recipient", user(to), *options, data=body)


def decrypted(body: bytes, secret: bytes, bound: int = 10**7) -> tuple[bytes, int]:
    """The content, and the number of signatures inside."""
    out = io.BytesIO()
    signatures = decrypt(io.BytesIO(body), read_secret(secret), out, bound)
    return out.getvalue(), len(signatures)


def refused(body: bytes, secret: bytes, bound: int = 10**7) -> str:
    with pytest.raises(VerifyError) as error:
        decrypted(body, secret, bound)
    return str(error.value)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--armor"],
        ["--compress-algo", "none"],
        ["--cipher-algo", "AES"],
        ["--throw-keyids"],
        ["--recipient", user("other")],
        ["--sign", "--local-user", user("hotline")],
    ],
    ids=lambda options: " ".join(options) or "default",
)
def test_messages_of_gpg_are_decrypted(gpg: Gpg, name: str, options: list[str]) -> None:
    body = encrypted(gpg, name, BODY, *options)
    assert decrypted(body, gpg.secret(name)) == (BODY, int("--sign" in options))


@pytest.mark.parametrize("size", [0, 1, 18, 22, 8383, 300_000, 3_000_000])
def test_messages_of_any_size(gpg: Gpg, size: int) -> None:
    body = (b"name.example\n" * (size // 13 + 1))[:size]
    for options in ((), ("--compress-algo", "none")):
        message = encrypted(gpg, "curve", body, *options)
        assert decrypted(message, gpg.secret("curve"), size) == (body, 0)
        if size:
            assert "bytes of content" in refused(message, gpg.secret("curve"), size - 1)


def test_messages_of_sq_are_decrypted(gpg: Gpg, sq: Sq, tmp_path: Path) -> None:
    (tmp_path / "cert").write_bytes(sq.public)
    plain = sq.run("encrypt", "--recipient-cert", str(tmp_path / "cert"), data=BODY)
    assert decrypted(plain, sq.key.read_bytes()) == (BODY, 0)
    signed = ["encrypt", "--recipient-cert", str(tmp_path / "cert"), "--signer-key", str(sq.key)]
    assert decrypted(sq.run(*signed, data=BODY), sq.key.read_bytes()) == (BODY, 1)
    (tmp_path / "rsa").write_bytes(gpg.public("rsa"))
    assert decrypted(sq.run("encrypt", "--recipient-cert", str(tmp_path / "rsa"), data=BODY), gpg.secret("rsa")) == (
        BODY,
        0,
    )


@pytest.fixture
def sq(tmp_path: Path) -> Sq:
    return Sq(tmp_path / "sq")


def test_a_bomb_is_bounded(gpg: Gpg) -> None:
    message = encrypted(gpg, "curve", bytes(50_000_000))
    assert len(message) < 100_000
    assert "more than 1000000 bytes of content" in refused(message, gpg.secret("curve"), 1_000_000)


def test_what_cannot_be_decrypted_is_refused_with_the_next_step(gpg: Gpg) -> None:
    secret = gpg.secret("curve")
    for body in (b"", BODY, gpg.sign("hotline", BODY, "--sign"), gpg.sign("hotline", BODY, "--clearsign"), PUBLIC_KEY):
        assert refused(body, secret) == openpgp_decrypt.NOT_ENCRYPTED
    found = refused(encrypted(gpg, "other"), secret)
    assert found.startswith("encrypted to the OpenPGP keys ")
    assert "none of which is in `decrypt`" in found
    symmetric = gpg.run("--symmetric", "--passphrase", "x", data=BODY)
    assert refused(symmetric, secret) == openpgp_decrypt.NO_RECIPIENT
    assert refused(encrypted(gpg, "curve", BODY, "--rfc2440", "--disable-mdc"), secret) == openpgp_decrypt.UNPROTECTED
    assert refused(encrypted(gpg, "curve", BODY, "--cipher-algo", "3DES"), secret) == openpgp_decrypt.UNSUPPORTED
    twice = encrypted(gpg, "curve", encrypted(gpg, "curve"), "--compress-algo", "none")
    assert decrypted(twice, secret) != (BODY, 0), "the inner message is the content"


def test_only_a_secret_key_without_a_passphrase_is_a_key(gpg: Gpg) -> None:
    assert read_secret(gpg.secret("curve"))
    for text in (b"", b"text", gpg.public("curve"), gpg.secret("hotline")):
        with pytest.raises(VerifyError, match="has no secret key that decrypts"):
            read_secret(text)
    gpg.run("--passphrase", "hunter2", "--quick-gen-key", user("locked"), "default", "default", "0")
    with pytest.raises(VerifyError, match="has a passphrase: remove it with `gpg --edit-key KEY passwd`"):
        read_secret(gpg.run("--passphrase", "hunter2", "--armor", "--export-secret-keys", user("locked")))


def test_a_key_whose_primary_key_is_elsewhere_decrypts(gpg: Gpg) -> None:
    subkeys = gpg.run("--export-secret-subkeys", user("curve"))
    assert decrypted(encrypted(gpg, "curve"), subkeys) == (BODY, 0)


@pytest.mark.parametrize("options", [["--compress-algo", "none"], []], ids=["uncompressed", "compressed"])
def test_a_mutated_message_is_refused_or_has_the_same_content(gpg: Gpg, options: list[str]) -> None:
    """Lengths may be written in several ways; the content of the encryption is protected."""
    body, secret = encrypted(gpg, "curve", BODY, *options), read_secret(gpg.secret("curve"))
    found = set()
    for other in variants(body):
        out = io.BytesIO()
        try:
            decrypt(io.BytesIO(other), secret, out, 1000)
            found.add(out.getvalue())
        except VerifyError:
            continue
    assert found <= {BODY}


@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    for body in (data, b"\xc1" + bytes([len(data)]) + data + b"\xd2\x05\x01hello"):
        with pytest.raises(VerifyError):
            decrypt(io.BytesIO(body), "", io.BytesIO(), 1000)

"""The order of decoding, verifying and unwrapping: only what was signed is the list."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import minisign
import pytest

from blocklistd.errors import VerifyError
from blocklistd.sources.intake.prove import ListFiles, Origin, prove_and_unpack
from blocklistd.sources.proofs.openpgp import read_key
from blocklistd.sources.proofs.openpgp_decrypt import read_secret
from tests.openpgp import Gpg, user
from tests.unit.test_sources_proofs_openpgp import variants

LINES = b"one.example\ntwo.example\n"
NOW = datetime.now(UTC)
KEYS = minisign.KeyPair.generate()


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    made = Gpg()
    made.generate("hotline")
    made.generate("ours", "default", "default")
    yield made
    made.close()


@pytest.fixture(scope="module")
def inline(gpg: Gpg) -> Origin:
    return Origin("openpgp", (read_key(gpg.public("hotline")),), None, NOW)


def listed(body: bytes, origin: Origin) -> bytes:
    files = [io.BytesIO(body), *(io.BytesIO() for _ in ListFiles._fields[1:])]
    found, _ = prove_and_unpack(list(files), "identity", 10**6, origin)
    return found.read()


@pytest.mark.parametrize("how", ["--sign", "--clearsign"])
def test_an_empty_signed_message_is_an_empty_list(gpg: Gpg, inline: Origin, how: str) -> None:
    """And not the unsigned text around it."""
    signed = gpg.sign("hotline", b"", "--armor", how)
    assert listed(b"evil.example\n" + signed + b"evil.example\n", inline).strip() == b""


def test_a_compressed_list_is_signed_inline(gpg: Gpg, inline: Origin) -> None:
    assert listed(gpg.sign("hotline", gzip.compress(LINES), "--sign"), inline) == LINES


def test_a_signature_inside_counts_only_for_an_inline_proof(gpg: Gpg, inline: Origin) -> None:
    origin = replace(inline, secret=read_secret(gpg.secret("ours")))
    to_us = ("--trust-model", "always", "--encrypt", "--recipient", user("ours"))
    signed = gpg.run(*to_us, "--sign", "--local-user", user("hotline"), data=LINES)
    assert listed(signed, origin) == LINES
    assert listed(gpg.run(*to_us, data=gpg.sign("hotline", LINES, "--clearsign")), origin).split() == LINES.split()
    assert listed(gpg.run(*to_us, data=gpg.sign("hotline", LINES, "--sign")), origin) == LINES
    empty = gpg.run(*to_us, "--sign", "--local-user", user("hotline"), data=b"")
    assert listed(empty, origin) == b""
    for body in (gpg.run(*to_us, data=LINES), gpg.sign("hotline", LINES, "--sign"), LINES):
        with pytest.raises(VerifyError):
            listed(body, origin)
    beside = replace(origin, signature=gpg.sign("hotline", signed))
    assert listed(signed, beside) == LINES
    with pytest.raises(VerifyError):
        listed(signed, replace(beside, signature=gpg.sign("hotline", LINES)))
    assert listed(signed, Origin("none", (), None, NOW, secret=origin.secret)) == LINES


def test_mutations_of_a_minisign_body_and_signature() -> None:
    key = KEYS.public_key.to_base64().decode()
    signature = bytes(KEYS.secret_key.sign(LINES, trusted_comment="timestamp:1700000000")) + b"\n"
    origin = Origin("minisign", (key,), signature, NOW)
    assert listed(LINES, origin) == LINES
    for body in variants(LINES):
        with pytest.raises(VerifyError):
            listed(body, origin)
    untrusted = signature.index(b"\n")
    for number, other in enumerate(variants(signature)):
        try:
            assert listed(LINES, replace(origin, signature=other)) == LINES
            place = number // 5
            same = other.split(b"\n")[2:3] == signature.split(b"\n")[2:3]
            assert place <= untrusted or same, "the untrusted comment, base64, or the end"
        except VerifyError:
            continue


def test_mutations_of_an_encrypted_list_with_a_signature_inside(gpg: Gpg, inline: Origin) -> None:
    origin = replace(inline, secret=read_secret(gpg.secret("ours")))
    to_us = ("--trust-model", "always", "--encrypt", "--recipient", user("ours"))
    body = gpg.run(*to_us, "--sign", "--local-user", user("hotline"), data=LINES)
    found = set()
    for other in list(variants(body))[::7]:
        try:
            found.add(listed(other, origin))
        except VerifyError:
            continue
    assert found <= {LINES}

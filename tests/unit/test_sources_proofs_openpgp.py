"""Signatures of GnuPG and sq: verified, damaged, and of keys that may not sign. gpg and sq are the oracle."""

from __future__ import annotations

import io
import subprocess
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.errors import VerifyError
from blocklistd.sources.proofs import openpgp, openpgp_message
from blocklistd.sources.proofs.openpgp import PROOF, fingerprint, read_key
from blocklistd.sources.proofs.proof import Claim, Proven
from tests.openpgp import PUBLIC_KEY, Gpg, Sq, time_of, user
from tests.peers import peer

BODY = b"one.example\n- two.example\n-----dash.example\n\nFrom three.example\nfour.example\n"


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    made = Gpg()
    made.generate("hotline")
    made.generate("rsa", "rsa2048")
    made.generate("nist", "nistp256")
    yield made
    made.close()


@pytest.fixture(scope="module")
def sq(tmp_path_factory: pytest.TempPathFactory) -> Sq:
    return Sq(tmp_path_factory.mktemp("sq"))


def prove(
    body: bytes, signature: bytes | None, *keys: bytes, bound: int = 10**6, now: datetime | None = None
) -> tuple[Proven, bytes]:
    """The proof, and the list: the content of an inline signature, or the body."""
    content = io.BytesIO()
    claim = Claim(signature, tuple(map(read_key, keys)), now or datetime.now(UTC), content, bound=bound)
    proven = PROOF.verify(io.BytesIO(body), claim)
    return proven, content.getvalue() if signature is None else body


def refused(body: bytes, signature: bytes | None, *keys: bytes, bound: int = 10**6) -> str:
    with pytest.raises(VerifyError) as error:
        prove(body, signature, *keys, bound=bound)
    return str(error.value)


# -- what the tools make -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hotline", "rsa", "nist"])
@pytest.mark.parametrize("armor", [True, False])
@pytest.mark.parametrize("body", [BODY, b"", bytes(range(256)) * 2000], ids=["list", "empty", "binary"])
def test_detached_signatures_of_gpg_are_verified(gpg: Gpg, name: str, armor: bool, body: bytes) -> None:
    options = ["--armor"] if armor else []
    signature = gpg.sign(name, body, *options, at="20260201T000000")
    key = gpg.public(name, armor=not armor)
    proven, content = prove(body, signature, key)
    assert proven.signed_at == datetime(2026, 2, 1, tzinfo=UTC).timestamp()
    assert proven.key == fingerprint(read_key(key))
    assert content == body
    assert refused(body + b"\n", signature, key).startswith("the OpenPGP signature does not fit the body")


@pytest.mark.parametrize(
    "options",
    [
        ["--sign"],
        ["--sign", "--armor"],
        ["--sign", "--compress-algo", "zip"],
        ["--sign", "--compress-algo", "bzip2"],
        ["--sign", "--compress-algo", "none"],
        ["--clearsign"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["hotline", "rsa"])
def test_inline_signatures_of_gpg_are_verified_and_unwrapped(gpg: Gpg, name: str, options: list[str]) -> None:
    signed = gpg.sign(name, BODY, *options)
    proven, content = prove(signed, None, gpg.public("nist"), gpg.public(name))
    assert content.splitlines() == BODY.splitlines()
    assert proven.key == fingerprint(read_key(gpg.public(name)))
    assert proven.signed_at is not None
    assert "is not in `verify.key`" in refused(signed, None, gpg.public("nist"))


@pytest.mark.parametrize("size", [0, 1, 191, 192, 8383, 8384, 70_000, 3_000_000])
@pytest.mark.parametrize("compression", ["none", "zlib", "bzip2"])
def test_messages_of_any_size_are_unwrapped(gpg: Gpg, size: int, compression: str) -> None:
    body = (b"name.example\n" * (size // 13 + 1))[:size]
    signed = gpg.sign("hotline", body, "--sign", "--compress-algo", compression)
    assert prove(signed, None, gpg.public("hotline"), bound=size)[1] == body
    if size:
        assert "bytes of content" in refused(signed, None, gpg.public("hotline"), bound=size - 1)


def test_signatures_of_sq_are_verified(sq: Sq) -> None:
    for options in (["--detached"], ["--detached", "--binary"]):
        proven, _ = prove(BODY, sq.sign(BODY, *options), sq.public)
        assert proven.key == fingerprint(read_key(sq.public)), "a subkey has signed: the certificate counts"
    for options in ([], ["--binary"], ["--cleartext-signature"]):
        assert prove(sq.sign(BODY, *options), None, sq.public)[1].splitlines() == BODY.splitlines()


def test_the_default_key_of_gpg_signs(gpg: Gpg) -> None:
    """Its primary key signs, and a subkey encrypts."""
    gpg.generate("usual", "default", "default")
    assert prove(BODY, gpg.sign("usual", BODY), gpg.public("usual"))[0].signed_at


def test_one_of_several_signatures_is_enough(gpg: Gpg) -> None:
    both = gpg.sign("hotline", BODY) + gpg.sign("rsa", BODY)
    for name in ("hotline", "rsa"):
        assert prove(BODY, both, gpg.public(name))[0].key == fingerprint(read_key(gpg.public(name)))
    assert "not in `verify.key`" in refused(BODY, both, gpg.public("nist"))
    inline = gpg.run("--local-user", user("rsa"), "--local-user", user("hotline"), "--sign", data=BODY)
    assert prove(inline, None, gpg.public("hotline"))[1] == BODY
    many = gpg.sign("hotline", BODY) * 17
    assert refused(BODY, many, gpg.public("hotline")) == openpgp.NO_SIGNATURE


def test_only_the_lines_of_a_cleartext_block_are_the_list(gpg: Gpg) -> None:
    """As gpg extracts them: text around the block is not signed, trailing blanks neither."""
    signed = gpg.sign("hotline", b"one.example  \ntwo.example\t\n", "--clearsign")
    mail = b"Subject: our list\n\nevil.example\n" + signed + b"\nevil.example\n-- \nthe hotline\n"
    assert prove(mail, None, gpg.public("hotline"))[1].splitlines() == [b"one.example", b"two.example"]
    assert gpg.run("--decrypt", data=mail).split() == [b"one.example", b"two.example"]
    crlf = signed.replace(b"\n", b"\r\n")
    assert prove(crlf, None, gpg.public("hotline"))[1].splitlines() == [b"one.example", b"two.example"]
    for other in (signed, gpg.sign("hotline", BODY, "--sign", "--armor")):
        assert refused(mail + other, None, gpg.public("hotline")) == openpgp_message.TWO_BLOCKS


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_refused(gpg: Gpg, tmp_path: Path) -> None:
    key = gpg.generate("revoked")
    signature = gpg.sign("revoked", BODY)
    certificate = (gpg.home / "openpgp-revocs.d" / f"{key}.rev").read_text()
    gpg.run("--import", data=certificate.replace(":-----BEGIN", "-----BEGIN").encode())
    assert refused(BODY, signature, gpg.public("revoked")) == openpgp.REVOKED
    assert prove(BODY, signature + gpg.sign("rsa", BODY), gpg.public("revoked"), gpg.public("rsa"))


def test_an_expired_key_is_refused_until_its_expiry_is_extended(gpg: Gpg) -> None:
    key = gpg.generate("short", expires="2d", at="")
    signature, public = gpg.sign("short", BODY), gpg.public("short")
    before, _ = prove(BODY, signature, public)
    with pytest.raises(VerifyError, match="has expired"):
        prove(BODY, signature, public, now=datetime.now(UTC) + timedelta(days=3))
    gpg.run("--quick-set-expire", key, "9d")
    again = gpg.sign("short", BODY)  # gpg replaces the key's own signature: it does not cover earlier times
    after, _ = prove(BODY, again, gpg.public("short"), now=datetime.now(UTC) + timedelta(days=3))
    assert after.key == before.key, "it is the same key"


def test_a_cr_inside_a_line_of_cleartext_is_refused(gpg: Gpg) -> None:
    """The signature does not tell it from a line's end, but it would make one record of two."""
    signed = gpg.sign("hotline", b"one.example\ntwo.example\n", "--clearsign")
    assert prove(signed.replace(b"\n", b"\r\n"), None, gpg.public("hotline"))[1] == b"one.example\ntwo.example"
    forged = signed.replace(b"one.example\n", b"one.example\r")
    assert "has a CR inside" in refused(forged, None, gpg.public("hotline"))


def test_a_key_that_may_not_sign_is_refused(gpg: Gpg, tmp_path: Path) -> None:
    """A copy of the home still lets the key sign, after its owner has taken the right to sign from it."""
    gpg.generate("narrow")
    other = gpg.copy()
    commands = b"change-usage\nS\nQ\nsave\n"
    gpg.run(*time_of("20260201T000000"), "--command-fd", "0", "--edit-key", user("narrow"), data=commands)
    try:
        signature = other.sign("narrow", BODY, at="20260301T000000")
        assert prove(BODY, signature, other.public("narrow"))[0].signed_at
        assert refused(BODY, signature, gpg.public("narrow")) == openpgp.INVALID
    finally:
        other.close()


def test_weak_hashes_and_text_mode_are_refused(gpg: Gpg) -> None:
    weak = gpg.sign("rsa", BODY, "--digest-algo", "SHA1")
    assert "uses SHA1, which is no longer secure" in refused(BODY, weak, gpg.public("rsa"))
    assert refused(BODY, gpg.sign("rsa", BODY, "--textmode"), gpg.public("rsa")) == openpgp.TEXT_MODE


def test_what_is_no_signature_or_message_is_refused_with_the_next_step(gpg: Gpg) -> None:
    key = gpg.public("hotline")
    for signature in (b"", b"<!DOCTYPE html>\n", key, BODY, gpg.sign("hotline", BODY, "--clearsign")):
        assert refused(BODY, signature, key) == openpgp.NO_SIGNATURE
    for body in (b"", BODY, b"<!DOCTYPE html>\n", gpg.sign("hotline", BODY, "--armor")):
        assert refused(body, None, key) == openpgp_message.MALFORMED
    gpg.generate("reader", "default", "default")
    secret = gpg.run("--trust-model", "always", "--encrypt", "--recipient", user("reader"), data=BODY)
    assert refused(secret, None, key) == openpgp_message.ENCRYPTED


def test_an_inline_signature_is_none_of_the_body_around_it(gpg: Gpg) -> None:
    """A signed message is no list of a source with detached signatures, and a signature alone is no list."""
    signed = gpg.sign("hotline", BODY, "--sign")
    assert refused(signed, gpg.sign("hotline", BODY), gpg.public("hotline")) == openpgp.INVALID
    assert refused(gpg.sign("hotline", BODY), None, gpg.public("hotline")) == openpgp_message.MALFORMED


@pytest.mark.parametrize("text", [b"", b"a key\n", bytes(100), BODY], ids=["nothing", "text", "zeros", "list"])
def test_a_file_that_is_no_key_is_refused(text: bytes) -> None:
    with pytest.raises(VerifyError, match="not one OpenPGP public key: expected"):
        read_key(text)


def test_a_file_with_two_keys_or_a_secret_key_is_refused(gpg: Gpg) -> None:
    for text in (gpg.public("hotline") + gpg.public("rsa"), gpg.run("--export"), gpg.secret("hotline")):
        with pytest.raises(VerifyError, match="not one OpenPGP public key"):
            read_key(text)


# -- mutation ----------------------------------------------------------------------------------------------------------

LINES = b"one.example\ntwo.example\n"


def variants(data: bytes) -> Iterator[bytes]:
    """Every change, loss and insertion of one byte, and every truncation."""
    for place in range(len(data)):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        yield data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :]
        yield data[:place] + data[place + 1 :]
        yield data[:place] + b"\x41" + data[place:]
        yield data[:place]


def accepted(body: bytes, signature: bytes | None, *keys: str) -> tuple[Proven, bytes] | None:
    content = io.BytesIO()
    try:
        proven = PROOF.verify(io.BytesIO(body), Claim(signature, keys, datetime.now(UTC), content, bound=10**6))
    except VerifyError:
        return None
    return proven, content.getvalue() if signature is None else body


@pytest.mark.parametrize("name", ["hotline", "nist"])
def test_any_mutation_of_a_signed_body_is_refused(gpg: Gpg, name: str) -> None:
    signature, key = gpg.sign(name, LINES), read_key(gpg.public(name))
    assert not [body for body in variants(LINES) if accepted(body, signature, key) and body != LINES]


@pytest.mark.parametrize("armor", [True, False])
@pytest.mark.parametrize("name", ["hotline", "nist"])
def test_a_mutated_signature_is_refused_or_proves_the_same(gpg: Gpg, name: str, armor: bool) -> None:
    """Unhashed subpackets, and the text around armor, are not signed. Nothing of them makes another proof."""
    signature = gpg.sign(name, LINES, *(["--armor"] if armor else []))
    key = read_key(gpg.public(name))
    before = accepted(LINES, signature, key)
    assert before is not None
    found = {accepted(LINES, other, key) for other in variants(signature)}
    assert found <= {None, before}
    assert None in found


@pytest.mark.parametrize(
    "options", [["--sign"], ["--sign", "-z", "0"], ["--sign", "--armor"], ["--clearsign"]], ids=" ".join
)
def test_a_mutated_message_is_refused_or_has_the_same_content(gpg: Gpg, options: list[str]) -> None:
    signed, key = gpg.sign("hotline", LINES, *options), read_key(gpg.public("hotline"))
    before = accepted(signed, None, key)
    assert before is not None
    found = {accepted(other, None, key) for other in variants(signed)}
    assert found <= {None, before}
    assert None in found


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    for signature in (data, None):
        with pytest.raises(VerifyError):
            PROOF.verify(
                io.BytesIO(data), Claim(signature, (read_key(PUBLIC_KEY),), datetime.now(UTC), io.BytesIO(), bound=1000)
            )


def test_gpgv_agrees(gpg: Gpg, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(gpg.public("hotline", armor=False))
    (tmp_path / "body").write_bytes(LINES)
    for signature in (gpg.sign("hotline", LINES), gpg.sign("rsa", LINES), gpg.sign("hotline", BODY)):
        (tmp_path / "sig").write_bytes(signature)
        command = [
            peer("gpgv", "gpgv"),
            "--keyring",
            str(tmp_path / "key"),
            str(tmp_path / "sig"),
            str(tmp_path / "body"),
        ]
        passes = subprocess.run(command, check=False, capture_output=True).returncode == 0
        assert passes == (accepted(LINES, signature, read_key(gpg.public("hotline"))) is not None)


def test_packets_that_mean_nothing_are_bounded() -> None:
    """No bound of the content counts them, and a compressed kilobyte could be hundreds of millions of them."""

    def compressed(content: bytes) -> bytes:
        packed = zlib.compress(content)
        return b"\xc8\xff" + (len(packed) + 1).to_bytes(4) + b"\2" + packed

    literal = b"\xcb\x06b" + bytes(5)
    in_parts = b"\xcb" + b"\xe0b" + 5 * b"\xe0\0" + 100 * b"\xe0x" + b"\0"
    for padding in (b"\xca\0" * 1000, b"\xd5\xff" + (1 << 20).to_bytes(4) + bytes(1 << 20), b"\xc4\0" * 1000):
        for message in (compressed(padding + literal), padding + literal):
            content = io.BytesIO()
            with pytest.raises(VerifyError, match="packets"):
                openpgp_message.extract(io.BytesIO(message), content, 100)
    with pytest.raises(VerifyError, match="packets"):
        openpgp_message.extract(io.BytesIO(compressed(in_parts)), io.BytesIO(), 1000)

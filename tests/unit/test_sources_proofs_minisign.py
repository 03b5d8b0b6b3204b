"""Signatures of Debian's minisign and of the library: verified, damaged, and replayed."""

from __future__ import annotations

import base64
import io
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import minisign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.errors import StaleError, VerifyError
from blocklistd.model import KeyHistory, Sha256
from blocklistd.sources.proofs.minisign import PROOF, public_key, verify_minisign
from blocklistd.sources.proofs.proof import Claim, Proven, check_replay, check_time
from tests.peers import peer

BODY = b"one.example\ntwo.example\n"
KEYS = minisign.KeyPair.generate()
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


def signed(body: bytes = BODY, comment: str = "timestamp:1700000000\tfile:list", *, prehash: bool = True) -> bytes:
    return bytes(KEYS.secret_key.sign(body, prehash=prehash, trusted_comment=comment)) + b"\n"


def verified(body: bytes, signature: bytes) -> Proven:
    return verify_minisign(io.BytesIO(body), signature, KEYS.public_key)


def digest(text: str) -> Sha256:
    return Sha256(text * 64)


# -- Debian's minisign ---------------------------------------------------------------------------------------------


@pytest.fixture
def minisign_tool(tmp_path: Path) -> Callable[..., bytes]:
    """Signs a file with a fresh key without a password; `key.pub` is in the test's folder."""
    tool = peer("minisign", "minisign")

    def run(*arguments: str) -> None:
        subprocess.run([tool, *arguments], cwd=tmp_path, check=True, capture_output=True, stdin=subprocess.DEVNULL)

    def sign(body: bytes, *options: str) -> bytes:
        (tmp_path / "body").write_bytes(body)
        run("-S", "-s", "key.sec", "-m", "body", "-x", "body.minisig", *options)
        return (tmp_path / "body.minisig").read_bytes()

    run("-G", "-W", "-p", "key.pub", "-s", "key.sec")
    return sign


@pytest.mark.parametrize("options", [[], ["-l"]], ids=["prehashed", "legacy"])
@pytest.mark.parametrize("body", [BODY, b"", bytes(range(256)) * 4000], ids=["list", "empty", "megabyte"])
def test_signatures_of_the_minisign_tool_are_verified(
    minisign_tool: Callable[..., bytes], tmp_path: Path, options: list[str], body: bytes
) -> None:
    signature = minisign_tool(body, *options, "-t", "timestamp:1700000000\tfile:body")
    key = minisign.PublicKey.from_file(tmp_path / "key.pub")
    with open(tmp_path / "body", "rb") as file:
        file.read(1)  # the file's position does not matter
        proof = verify_minisign(file, signature, key)
    assert proof.signed_at == 1700000000
    with pytest.raises(VerifyError, match="does not fit the body"):
        verify_minisign(io.BytesIO(body + b"\n"), signature, key)


def test_the_default_comment_of_minisign_has_a_time(minisign_tool: Callable[..., bytes], tmp_path: Path) -> None:
    proof = verify_minisign(io.BytesIO(BODY), minisign_tool(BODY), minisign.PublicKey.from_file(tmp_path / "key.pub"))
    assert proof.signed_at is not None
    assert proof.signed_at > 1700000000


def _with_lines(text: bytes, change: Callable[[list[bytes]], list[bytes]], end: bytes = b"\n") -> bytes:
    return end.join(change(text.splitlines())) + end


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "blank line at the end": lambda text: text + b"\n",
    "more lines": lambda text: text + b"more\nand more",
    "no end of the last line": lambda text: text.rstrip(b"\n"),
    "CRLF": lambda text: _with_lines(text, list, b"\r\n"),
    "first comment not UTF-8": lambda text: _with_lines(
        text, lambda lines: [b"untrusted comment: caf\xe9 \x0b\r.", *lines[1:]]
    ),
}
"""Changes to the text of a signature and of a public key that minisign accepts."""


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_signatures_and_keys_that_minisign_accepts_are_accepted(
    minisign_tool: Callable[..., bytes], tmp_path: Path, spelling: str
) -> None:
    spell = SPELLINGS[spelling]
    (tmp_path / "as-spelt").write_bytes(signature := spell(minisign_tool(BODY)))
    (tmp_path / "spelt.pub").write_bytes(key := spell((tmp_path / "key.pub").read_bytes()))
    check = [peer("minisign", "minisign"), "-V", "-p", "spelt.pub", "-m", "body", "-x", "as-spelt"]
    subprocess.run(check, cwd=tmp_path, check=True, capture_output=True)
    assert verify_minisign(io.BytesIO(BODY), signature, minisign.PublicKey.from_base64(public_key(key))).signature


def test_a_trusted_comment_may_be_any_bytes(minisign_tool: Callable[..., bytes], tmp_path: Path) -> None:
    signature = minisign_tool(BODY, "-t", b"timestamp:1700000000\tcaf\xe9".decode(errors="surrogateescape"))
    key = minisign.PublicKey.from_file(tmp_path / "key.pub")
    assert b"\xe9" in signature
    assert verify_minisign(io.BytesIO(BODY), signature, key).signed_at == 1700000000
    with pytest.raises(VerifyError, match="trusted comment"):
        verify_minisign(io.BytesIO(BODY), signature.replace(b"\xe9", b"\xe8"), key)


@pytest.mark.parametrize("first", [b"", b"minisign public key\n", b"\n", b"\xef\xbb\xbfuntrusted comment: \xff\n"])
def test_a_public_key_is_read_whatever_its_comment(first: bytes) -> None:
    line = KEYS.public_key.to_base64()
    assert public_key(first + line) == public_key(first + line + b"\r\n\n") == line.decode()


@pytest.mark.parametrize(
    "text",
    [b"", b"untrusted comment: key\n", b"RWQ=", b"a\nb\n" + KEYS.public_key.to_base64()],
    ids=["nothing", "a comment alone", "cut short", "on the third line"],
)
def test_a_file_that_is_no_public_key_is_refused_with_the_expected_form(text: bytes) -> None:
    with pytest.raises(VerifyError, match=r"two lines of a \.pub file, or its second line alone"):
        public_key(text)


def test_key_ids_are_written_as_minisign_writes_them(minisign_tool: Callable[..., bytes], tmp_path: Path) -> None:
    signature = minisign_tool(BODY)
    written = (tmp_path / "key.pub").read_text().splitlines()[0].rpartition(" ")[2]
    with pytest.raises(VerifyError, match=f"signed by key {written}, expected key [0-9A-F]+:"):
        verified(BODY, signature)


# -- what is no proof ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prehash", [True, False])
def test_a_changed_body_is_refused(prehash: bool, tmp_path: Path) -> None:
    signature = signed(prehash=prehash)
    assert verified(BODY, signature).signature is not None
    (tmp_path / "body").write_bytes(BODY[:-1])
    with open(tmp_path / "body", "rb") as file, pytest.raises(VerifyError, match="does not fit the body"):
        verify_minisign(file, signature, KEYS.public_key)


def test_a_body_with_buffered_bytes_is_verified_completely(tmp_path: Path) -> None:
    with open(tmp_path / "body", "x+b") as file:
        file.write(BODY)  # still in the writer's buffer
        assert verify_minisign(file, signed(prehash=False), KEYS.public_key).signed_at == 1700000000


def test_a_changed_trusted_comment_is_refused() -> None:
    with pytest.raises(VerifyError, match="trusted comment"):
        verified(BODY, signed().replace(b"timestamp:1700000000", b"timestamp:1900000000"))


def test_a_prehashed_signature_is_not_accepted_as_one_of_the_body_itself() -> None:
    lines = signed().splitlines()
    proper = base64.b64decode(lines[1])
    lines[1] = base64.b64encode(b"Ed" + proper[2:])
    with pytest.raises(VerifyError, match="does not fit the body"):
        verified(BODY, b"\n".join(lines))


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        b"<!DOCTYPE html>\n<title>404</title>\n",
        signed()[:-40],
        signed().replace(b"untrusted comment: ", b""),
        b"\n".join([*signed().splitlines()[:3], b"!!!!"]),
        b"\n".join([signed().splitlines()[0], base64.b64encode(b"XX" + bytes(72)), *signed().splitlines()[2:]]),
    ],
)
def test_a_file_that_is_no_signature_is_refused_with_the_expected_form(signature: bytes) -> None:
    with pytest.raises(VerifyError, match=r"four lines of a \.minisig file"):
        verified(BODY, signature)


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_as_a_signature(signature: bytes) -> None:
    with pytest.raises(VerifyError):
        verified(BODY, signature)


@given(st.integers(0, 8 * len(signed()) - 1), st.booleans())
def test_a_flipped_bit_is_refused_or_changes_nothing(bit: int, prehash: bool) -> None:
    """A flip in the untrusted comment, or in unused bits of base64, is not detected. None makes another proof."""
    signature = bytearray(signed(prehash=prehash))
    before = verified(BODY, bytes(signature))
    signature[bit // 8 % len(signature)] ^= 1 << bit % 8
    try:
        after = verified(BODY, bytes(signature))
    except VerifyError:
        return
    assert after == before


def test_no_error_contains_text_of_the_body() -> None:
    with pytest.raises(VerifyError) as refused:
        verified(b"secret.example\n", signed())
    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__


# -- what a proof is remembered by ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("ahead", "is_refused"), [(-10, False), (3600, False), (3601, True), (10**11 - 1, True)])
def test_a_signature_from_the_future_is_refused(ahead: int, is_refused: bool) -> None:
    now = datetime.fromtimestamp(1_700_000_000, UTC)
    proof = Proven(Sha256("0" * 64), 1_700_000_000 + ahead if ahead < 10**10 else ahead)
    if not is_refused:
        check_time(proof, now, timedelta(hours=1))
        return
    with pytest.raises(VerifyError, match="max_future") as error:
        check_time(proof, now, timedelta(hours=1))
    assert not isinstance(error.value, StaleError), "it is fetched once more"
    check_time(Proven(Sha256("0" * 64), None), now, timedelta())


@pytest.mark.parametrize(
    ("comment", "signed_at"),
    [
        ("timestamp:1700000000\tfile:list\thashed", 1700000000),
        ("file:list\thashed\ttimestamp:1700000000", 1700000000),
        ("timestamp:0", 0),
        ("timestamp:1700000000000", None),
        ("timestamp:-1", None),
        ("timestamp:soon", None),
        ("on timestamp:1700000000", None),
        ("a list", None),
        ("", None),
    ],
)
def test_the_time_is_a_field_of_the_trusted_comment(comment: str, signed_at: int | None) -> None:
    assert verified(BODY, signed(comment=comment)).signed_at == signed_at


def test_the_digest_covers_only_the_two_signatures() -> None:
    untrusted, first, trusted, second = signed().splitlines()
    before = verified(BODY, signed())
    slack = bytes([first[-2] + 1]) if first[-2:-1] in b"AQgw" else first[-2:-1]
    others = [
        b"\n".join([untrusted + b", served again", first, trusted, second]),
        b"\r\n".join([untrusted, first, trusted, second]) + b"\r\n",
        b"\n".join([untrusted, first[:-2] + slack + b"=", trusted, second]),
    ]
    assert [verified(BODY, other) for other in others] == [before] * 3


def test_another_body_time_or_algorithm_makes_another_digest() -> None:
    proofs = {
        verified(BODY, signed()).signature,
        verified(BODY, signed(comment="timestamp:1700000001")).signature,
        verified(BODY, signed(prehash=False)).signature,
        verified(b"", signed(b"")).signature,
    }
    assert len(proofs) == 4


def test_a_malleated_signature_is_refused() -> None:
    """Ed25519's S plus the group's order is the same number to a lax verifier (RFC 8032 section 5.1.7)."""
    untrusted, first, trusted, second = signed(prehash=False).splitlines()
    proper = base64.b64decode(first)
    s = int.from_bytes(proper[42:], "little") + ED25519_ORDER
    again = base64.b64encode(proper[:42] + s.to_bytes(32, "little"))
    with pytest.raises(VerifyError):
        verified(BODY, b"\n".join([untrusted, again, trusted, second]))


# -- replay --------------------------------------------------------------------------------------------------------


class Accepted:
    """The accepted signatures of a source; `take` is a pull that is verified and accepted."""

    def __init__(self) -> None:
        self.last: Sha256 | None = None
        self.histories: tuple[KeyHistory, ...] = ()
        self.superseded: set[Sha256] = set()

    def take(self, body: bytes, signature: bytes) -> None:
        proof = verified(body, signature)
        check_replay(proof, last_signature=self.last, histories=self.histories, superseded=frozenset(self.superseded))
        if self.last is not None and self.last != proof.signature:
            self.superseded.add(self.last)
        self.last, self.histories = proof.signature, (KeyHistory(None, proof.signed_at),)


def test_replays_are_refused_and_new_signatures_are_accepted() -> None:
    old, new = b"one.example\n", b"two.example\n"
    yesterday, today = signed(old, "timestamp:1000"), signed(new, "timestamp:2000")
    history = Accepted()
    history.take(old, yesterday)
    history.take(old, yesterday)  # unchanged
    history.take(new, today)
    with pytest.raises(StaleError, match="this signature was accepted before"):
        history.take(old, yesterday)
    with pytest.raises(StaleError, match=r"signed at 1970-01-01T00:33:19Z, before the last .* 1970-01-01T00:33:20Z"):
        history.take(b"", signed(b"", "timestamp:1999"))  # never seen, but older
    history.take(new, today)
    history.take(b"", signed(b"", "timestamp:2000"))  # two in one second
    history.take(old, signed(old, "timestamp:3000"))  # an old body, freshly signed: taken back on purpose


def test_signatures_without_a_time_are_compared_by_their_digest() -> None:
    history = Accepted()
    history.take(BODY, signed(comment="first"))
    history.take(b"", signed(b"", "second"))
    with pytest.raises(StaleError, match="this signature was accepted before"):
        history.take(BODY, signed(comment="first"))
    history.take(BODY, signed(comment="timestamp:1000"))
    history.take(BODY, signed(comment="no time again"))


def test_without_a_signature_nothing_is_a_replay() -> None:
    superseded = {digest("2")}
    with pytest.raises(StaleError):
        check_replay(Proven(digest("2"), None), last_signature=digest("1"), histories=(), superseded=superseded)
    check_replay(Proven(None, None), last_signature=digest("1"), histories=(), superseded=superseded)


@given(st.integers(0, 10), st.integers(0, 10))
def test_only_earlier_times_are_refused(last: int, now: int) -> None:
    try:
        histories = (KeyHistory(digest("k"), last),)
        proven = Proven(digest("a"), now, digest("k"))
        check_replay(proven, last_signature=digest("b"), histories=histories, superseded=())
        refused = False
    except StaleError:
        refused = True
    assert refused == (now < last)


def test_a_new_key_is_compared_with_the_times_of_the_others() -> None:
    """An old body may have the signatures of two keys, and the recorded one may be taken off."""
    recorded = (KeyHistory(digest("a"), signed_at=5),)
    for time, is_old in ((4, True), (5, False), (6, False)):
        stripped = Proven(digest("1"), time, digest("b"))
        with pytest.raises(StaleError, match="before the last accepted signature") if is_old else nullcontext():
            check_replay(stripped, last_signature=digest("2"), histories=recorded, superseded=())


def test_only_lower_sequence_numbers_are_refused() -> None:
    def check(number: int, *histories: KeyHistory) -> None:
        proven = Proven(sequence=number, key=digest("k"))
        check_replay(proven, last_signature=None, histories=histories, superseded=())

    known = KeyHistory(digest("k"), sequence=7)
    check(7, known)
    check(8, known)
    check(6, KeyHistory(digest("0"), sequence=7))
    for histories in ([known], [known, KeyHistory(digest("0"))], [KeyHistory(None, sequence=7)]):
        with pytest.raises(StaleError, match="its sequence number is 6, lower than 7"):
            check(6, *histories)


# -- several keys --------------------------------------------------------------------------------------------------


def proven_by(signature: bytes, *pairs: minisign.KeyPair) -> Proven:
    keys = tuple(pair.public_key.to_base64().decode() for pair in pairs)
    claim = Claim(signature, keys, datetime(2026, 1, 1, tzinfo=UTC), io.BytesIO())
    return PROOF.verify(io.BytesIO(BODY), claim)


def test_any_of_the_keys_verifies_and_is_named() -> None:
    other, third = minisign.KeyPair.generate(), minisign.KeyPair.generate()
    for pairs in ((KEYS,), (KEYS, other), (other, third, KEYS)):
        assert proven_by(signed(), *pairs).key == PROOF.fingerprint(KEYS.public_key.to_base64().decode())
    with pytest.raises(
        VerifyError, match=r"signed by key [0-9A-F]+, expected one of the keys [0-9A-F]+, [0-9A-F]+: ask"
    ):
        proven_by(signed(), other, third)
    with pytest.raises(VerifyError, match="four lines"):
        proven_by(b"", other, third)


def test_two_keys_with_one_id_are_both_tried() -> None:
    public = base64.b64decode(KEYS.public_key.to_base64())
    twin = base64.b64encode(public[:10] + base64.b64decode(minisign.KeyPair.generate().public_key.to_base64())[10:])
    own, now = base64.b64encode(public).decode(), datetime(2026, 1, 1, tzinfo=UTC)
    for keys in ((own, twin.decode()), (twin.decode(), own)):
        assert PROOF.verify(io.BytesIO(BODY), Claim(signed(), keys, now, io.BytesIO())).key == PROOF.fingerprint(own)
        with pytest.raises(VerifyError, match="does not fit the body"):
            PROOF.verify(io.BytesIO(b""), Claim(signed(), keys, now, io.BytesIO()))

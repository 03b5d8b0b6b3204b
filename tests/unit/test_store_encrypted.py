"""Encrypted files: another program can read them by the documented format, and any change of a byte is found."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.errors import StoreError
from blocklistd.store.encrypted import CHUNK, EncryptingFile, FileKey, decrypted

KEY = FileKey(bytes(range(32)))
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1]


def encrypt(content: bytes, key: FileKey = KEY, step: int = 10_000) -> bytes:
    out = io.BytesIO()
    made = EncryptingFile(out, key)
    for start in range(0, len(content), step):
        made.write(content[start : start + step])
    made.finish()
    return out.getvalue()


def decrypt(file: bytes, key: FileKey | None = KEY) -> bytes:
    return b"".join(decrypted(io.BytesIO(file), key))


def by_the_documentation(file: bytes, secret: bytes) -> bytes:
    """Reads a file as docs/operator.md describes it, with HKDF from RFC 5869."""
    header, chunks = file[:48], file[48:]
    assert header[:8] == b"BLKDENC1"
    assert header[8:16] == hashlib.sha256(secret).digest()[:8]
    extracted = hmac.digest(header[16:48], secret, "sha256")
    cipher = ChaCha20Poly1305(hmac.digest(extracted, b"blocklistd evidence 1\x01", "sha256"))
    size, content = 65_536 + 16, b""
    number = max(1, -(-len(chunks) // size))
    for n in range(number):
        nonce = n.to_bytes(11, "big") + (b"\1" if n == number - 1 else b"\0")
        content += cipher.decrypt(nonce, chunks[n * size : (n + 1) * size], header)
    return content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [777, CHUNK, 10**6])
def test_a_file_can_be_read_by_the_documented_format(size: int, step: int) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    file = encrypt(content, step=step)
    assert decrypt(file) == content
    assert by_the_documentation(file, KEY.secret) == content


@given(st.binary(max_size=300), st.data())
def test_every_changed_byte_is_found(content: bytes, data: st.DataObject) -> None:
    file = bytearray(encrypt(content))
    place = data.draw(st.integers(0, len(file) - 1))
    file[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreError):
        decrypt(bytes(file))


def test_chunks_can_not_be_removed_moved_or_repeated() -> None:
    file = encrypt(b"a" * CHUNK + b"b" * CHUNK + b"c")
    header, size = file[:48], CHUNK + 16
    first, second, third = file[48 : 48 + size], file[48 + size : 48 + 2 * size], file[48 + 2 * size :]
    for parts in ((first, second), (first,), (), (second, first, third), (first, first, second, third), (first, third)):
        with pytest.raises(StoreError):
            decrypt(header + b"".join(parts))
    with pytest.raises(StoreError):
        decrypt(file[:-1])
    with pytest.raises(StoreError):
        decrypt(file + b"\0")


def test_two_files_of_the_same_content_have_nothing_in_common() -> None:
    one, other = encrypt(b"content" * 100), encrypt(b"content" * 100)
    assert one[:16] == other[:16], "magic and fingerprint"
    assert one[48:80] != other[48:80]
    assert b"content" not in one


def test_another_key_is_named_and_neither_is_shown() -> None:
    other = FileKey(b"\xaa" * 32)
    for key in (other, None):
        with pytest.raises(StoreError, match=f"encrypted with the key {KEY.fingerprint}: put that secret into"):
            decrypt(encrypt(b"content"), key)
    assert KEY.secret.hex() not in f"{KEY!r} {KEY}"


def test_a_secret_is_32_bytes_in_hex_or_base64() -> None:
    secret = bytes(range(100, 132))
    for text in (secret.hex(), secret.hex().upper(), base64.b64encode(secret).decode()):
        assert FileKey.parse(text).secret == secret
    for text in ("", "00" * 31, "00" * 33, base64.b64encode(b"x" * 31).decode(), "a passphrase", "ä" * 64):
        with pytest.raises(ValueError, match="not a secret of 32 bytes"):
            FileKey.parse(text)

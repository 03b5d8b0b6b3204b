"""Content codings: complete streams, several in one body, truncated and corrupt ones, and decompression bombs."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.errors import ParseError
from blocklistd.sources.intake.decode import decode, sniff
from tests.peers import peer

MIB = 1 << 20
LINES = b"".join(b"host-%d.example\n" % number for number in range(50_000))
NOISE = random.Random(7).randbytes(3 * MIB)
PACK = {"gzip": lambda body: gzip.compress(body, mtime=0), "zstd": zstandard.compress, "identity": bytes}
SKIPPABLE = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345"

packed = pytest.mark.parametrize("encoding", ["gzip", "zstd"])


def decoded(data: bytes, encoding: str, max_bytes: int = 16 * MIB) -> bytes:
    out = io.BytesIO()
    assert decode(io.BytesIO(data), encoding, out, max_bytes) == len(out.getvalue())
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity"])
@pytest.mark.parametrize("body", [b"", b"\n", LINES, NOISE], ids=["empty", "byte", "lines", "noise"])
def test_an_encoded_body_is_decoded(encoding: str, body: bytes) -> None:
    assert decoded(PACK[encoding](body), encoding) == body


@packed
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_several_streams_are_one_body(encoding: str, parts: list[bytes]) -> None:
    assert decoded(b"".join(map(PACK[encoding], parts)), encoding) == b"".join(parts)


@pytest.mark.parametrize(("command", "encoding"), [("gzip", "gzip"), ("zstd", "zstd")])
def test_files_of_the_tools_are_decoded(command: str, encoding: str) -> None:
    tool = peer(command, command)
    data = subprocess.run([tool, "-c"], input=LINES, stdout=subprocess.PIPE, check=True).stdout
    assert sniff(data[:4]) == encoding
    assert decoded(data + data, encoding) == LINES + LINES


def test_zstds_skippable_frames_are_skipped() -> None:
    data = SKIPPABLE + zstandard.compress(LINES) + SKIPPABLE
    assert decoded(data, "zstd") == LINES
    assert sniff(data[:4]) == "zstd"


def test_a_zstd_frame_without_a_size_or_a_checksum_is_read() -> None:
    packer = zstandard.ZstdCompressor(write_content_size=False, write_checksum=False).compressobj()
    assert decoded(packer.compress(LINES) + packer.flush(), "zstd") == LINES


@packed
@given(st.data())
def test_a_stream_cut_anywhere_is_refused(encoding: str, data: st.DataObject) -> None:
    """Also in the second of two streams, and an empty input. Between two streams a truncation is not detectable."""
    first, second = PACK[encoding](b"one.example\n"), PACK[encoding](b"two.example\n")
    both = first + second
    length = data.draw(st.integers(0, len(both) - 1).filter(lambda offset: offset != len(first)))
    with pytest.raises(ParseError, match=f"the {encoding} stream is cut short"):
        decoded(both[:length], encoding)


@packed
@pytest.mark.parametrize("tail", [b"\0", b"two.example\n"])
def test_bytes_after_a_stream_must_be_another_stream(encoding: str, tail: bytes) -> None:
    with pytest.raises(ParseError, match="stream is c"):
        decoded(PACK[encoding](b"one.example\n") + tail, encoding)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_corrupt_stream_is_refused(encoding: str) -> None:
    data = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(NOISE) if encoding == "zstd" else b"")
    data = data or bytearray(gzip.compress(NOISE))
    data[len(data) // 2] ^= 1
    with pytest.raises(ParseError, match=f"the {encoding} stream is corrupt after [0-9]+ bytes"):
        decoded(bytes(data), encoding)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_plain_body_is_no_stream(encoding: str) -> None:
    with pytest.raises(ParseError, match="is corrupt") as refused:
        decoded(LINES, encoding)
    assert "example" not in str(refused.value)


def test_an_unknown_coding_is_refused() -> None:
    with pytest.raises(ParseError, match="expected identity, gzip or zstd"):
        decoded(b"", "br")


# -- bounds --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity"])
def test_the_limit_of_decoded_bytes_is_exact(encoding: str) -> None:
    data = PACK[encoding](LINES)
    assert decoded(data, encoding, len(LINES)) == LINES
    out = io.BytesIO()
    with pytest.raises(ParseError, match=f"more than {len(LINES) - 1} bytes when decompressed"):
        decode(io.BytesIO(data), encoding, out, len(LINES) - 1)
    assert LINES.startswith(out.getvalue())
    assert len(out.getvalue()) < len(LINES)


def bomb(encoding: str, size: int) -> bytes:
    if encoding == "zstd":
        return zstandard.ZstdCompressor().compress(bytes(size))
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()


@packed
@pytest.mark.parametrize("times", [1, 50])
def test_a_decompression_bomb_uses_little_memory_and_disk(encoding: str, times: int) -> None:
    data = bomb(encoding, 256 * MIB) * times
    out = io.BytesIO()
    tracemalloc.start()
    try:
        with pytest.raises(ParseError, match=f"more than {4 * MIB} bytes when decompressed"):
            decode(io.BytesIO(data), encoding, out, 4 * MIB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(out.getvalue()) <= 4 * MIB
    assert peak < 80 * MIB


def test_a_window_that_needs_too_much_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(ParseError, match="corrupt"):
        decoded(packer.compress(b"one.example\n") + packer.flush(), "zstd")


# -- sniffing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (gzip.compress(b"")[:4], "gzip"),
        (zstandard.compress(b"")[:4], "zstd"),
        (b"", "identity"),
        (b"\x1f\x8b", "identity"),
        (b"http", "identity"),
        (b"\x60\x2a\x4d\x18", "identity"),
    ],
)
def test_the_first_bytes_identify_a_coding(head: bytes, encoding: str) -> None:
    assert sniff(head) == encoding


@given(st.text(max_size=4))
def test_no_text_is_mistaken_for_an_encoded_file(text: str) -> None:
    assert sniff(text.encode()[:4]) == "identity" or text.startswith("\x1f")


@packed
def test_a_body_of_countless_streams_is_refused(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """A stream of a few bytes takes as long as a thousand bytes in one stream."""
    monkeypatch.setattr("blocklistd.sources.intake.decode.MAX_COMPRESSED_STREAMS", 10)
    assert decoded(PACK[encoding](b"a") * 10, encoding) == b"a" * 10
    with pytest.raises(ParseError, match="more than 10 "):
        decoded(PACK[encoding](b"a") * 11, encoding)

"""Frames of chunks: any zstd decoder reads them, and one that follows a change is the one of the new content."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.outputs import frame
from blocklistd.outputs.frame import END, HEAD, Chunks, Packer, pack
from blocklistd.outputs.snapshot import edited, edits

CHANCE = random.Random(7)
EVERY = sorted(
    b'{"type":"url","value":"https://n%d.example/%x","id":"e-%032x"}'
    % (number, CHANCE.getrandbits(90), CHANCE.getrandbits(128))
    for number in range(600)
)


@pytest.fixture(
    autouse=True, params=[(12 << 10, 48 << 10), (300, 6000), (50, 90)], ids=["as it is", "many chunks", "cut anywhere"]
)
def sizes(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame, "_SMALLEST", request.param[0])
        patch.setattr(frame, "_LARGEST", request.param[1])
        yield


def joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def packed(content: bytes, piece: int = 1 << 20) -> tuple[bytes, Chunks]:
    packer = Packer()
    out = [HEAD]
    for start in range(0, len(content), piece):
        out += packer.write(memoryview(content)[start : start + piece])
    return b"".join([*out, *packer.finish()]), packer.chunks


def decoded(frame: bytes) -> bytes:
    """By a decoder that stops after the first frame."""
    stream = zstandard.ZstdDecompressor().decompressobj()
    content = stream.decompress(frame)
    assert stream.eof
    assert not stream.unused_data
    return content


@pytest.mark.parametrize("count", [0, 1, 600])
@pytest.mark.parametrize("piece", [1, 700, 1 << 20])
def test_a_frame_has_its_content_and_the_same_bytes_whatever_the_pieces(count: int, piece: int) -> None:
    content = joined(EVERY[:count])
    made, chunks = packed(content, piece)
    assert decoded(made) == content
    assert chunks.fit(len(content), len(made))
    assert (made, chunks) == packed(content)
    assert Chunks.from_bytes(chunks.to_bytes()) == chunks


@given(old=st.sets(st.sampled_from(EVERY)), new=st.sets(st.sampled_from(EVERY)), near=st.booleans())
def test_what_follows_a_change_is_what_is_made_of_the_new_content(old: set[bytes], new: set[bytes], near: bool) -> None:
    if near:  # the change is some lines of many
        old, new = set(EVERY) - (old - new), set(EVERY) - (new - old)
    before, after = joined(sorted(old)), joined(sorted(new))
    made, chunks = packed(before)
    changes = edits(before, sorted(old - new), sorted(new - old))
    packer = Packer()
    out = b"".join([HEAD, *packer.splice(before, changes, made, chunks), *packer.finish()])
    assert b"".join(edited(before, changes)) == after
    assert decoded(out) == after
    assert (out, packer.chunks) == packed(after)


def test_most_of_a_frame_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "_SMALLEST", 300)
    monkeypatch.setattr(frame, "_LARGEST", 6000)  # far enough for a mark to end each chunk
    before = joined(EVERY)
    made, chunks = packed(before)
    packer = Packer()
    handled: list[int] = []

    def watched(contents: Sequence[memoryview]) -> list[bytes]:
        handled.extend(map(len, contents))
        return pack(contents)

    monkeypatch.setattr(frame, "pack", watched)
    b"".join([*packer.splice(before, edits(before, [EVERY[300]], []), made, chunks), *packer.finish()])
    assert len(chunks.lengths) > 20
    assert 1 <= len(handled) <= 3


def test_a_chunk_that_leans_on_the_offsets_before_it_is_stored_as_it_is() -> None:
    """The encoder takes for granted those that a frame begins with; behind other chunks they are others."""
    first, leaning = joined(EVERY[:40]), b"a" * 400
    alone = [frame._blocks(frame._COMPRESSOR.compress(content)) for content in (first, leaning)]
    assert decoded(b"".join((HEAD, *alone, END))) != first + leaning
    assert not frame._alone([leaning], alone[1:])
    assert frame._alone([first], alone[:1])
    made = pack([first, leaning, first])
    assert made[0] == made[2] == alone[0]
    assert made[1][3:] == leaning
    assert decoded(b"".join((HEAD, *made, END))) == first + leaning + first
    assert decoded(b"".join((HEAD, *reversed(made), END))) == first + leaning + first


@given(st.lists(st.binary(min_size=1, max_size=3000).map(lambda some: some.replace(b"\0", b"0")), max_size=8))
def test_chunks_decode_in_any_order(contents: list[bytes]) -> None:
    made = pack(contents)
    for order in (range(len(contents)), range(len(contents))[::-1]):
        whole = b"".join((HEAD, *(made[number] for number in order), END))
        assert decoded(whole) == b"".join(contents[number] for number in order)


@given(st.binary(max_size=8), st.integers(0, 400), st.integers(1, 40))
def test_runs_and_periods(start: bytes, length: int, period: int) -> None:
    """What leans on offsets of 1, 4 and 8, if anything does."""
    run = (start.replace(b"\0", b"0") + b"abcdefghijklmnopqrstuvwxyz"[:period]) * (1 + length // period)
    made = pack([EVERY[0], run, EVERY[1], run])
    assert decoded(b"".join((HEAD, *made, END))) == EVERY[0] + run + EVERY[1] + run


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="octet of zero"):
        list(Packer().write(b"a\0b"))


def test_chunks_that_do_not_fit() -> None:
    content = joined(EVERY)
    made, chunks = packed(content)
    assert not chunks.fit(len(content) + 1, len(made))
    assert not chunks.fit(len(content), len(made) - 1)
    for cut in (1, 2, 7):
        with pytest.raises(ValueError, match="bytes length"):
            Chunks.from_bytes(chunks.to_bytes()[:-cut])

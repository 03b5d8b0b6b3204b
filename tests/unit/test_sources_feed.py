"""Metadata files as the signature of a body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocklistd.sources.feed import SignedMetadata

FILES = st.binary(max_size=60)
METADATA = st.builds(SignedMetadata, st.dictionaries(st.integers(1, 999), FILES, max_size=3), FILES, FILES, FILES)


@given(METADATA)
def test_what_is_written_is_read(metadata: SignedMetadata) -> None:
    assert SignedMetadata.from_bytes(metadata.to_bytes()) == metadata


@given(METADATA, st.data())
def test_a_signature_is_read_in_one_way_only(metadata: SignedMetadata, data: st.DataObject) -> None:
    written = bytearray(metadata.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.sampled_from(b"0123 \n.rts"))
    try:
        found = SignedMetadata.from_bytes(bytes(written))
    except ValueError:
        return
    assert found.to_bytes() == bytes(written)


@pytest.mark.parametrize(
    "wrong",
    [b"", b"timestamp.json 0\n\n", b"root.json 0\n\n", b"1.timestamp.json 0\n\n", b"timestamp.json 99999999\n\n"],
)
def test_anything_else_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="metadata file"):
        SignedMetadata.from_bytes(wrong)

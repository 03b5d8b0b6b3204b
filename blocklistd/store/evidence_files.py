"""Writes and reads one file of the evidence: compressed if it is a body, encrypted if there is a key (encrypted.py)."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from blocklistd.errors import StoreError
from blocklistd.limits import FILE_CHUNK
from blocklistd.store.encrypted import EncryptingFile, FileKey, Output, PlainFile, decrypted

ENCRYPTED: Final = ".enc"
"""The end of the names of encrypted files."""
UNCOMPRESSED: Final = ".body"
"""The end of the names of bodies that version 0.3.0 kept."""
DRAFT: Final = ".draft-"
"""The beginning of the names of files that are being written."""
LEVEL: Final = 3  # of Zstandard: faster than most disks
DAMAGED: Final = "damaged: restore it from a backup, or delete it"


class TooLargeError(Exception):
    """A compressed body exceeds its bound."""


@contextmanager
def new_file(path: Path, key: FileKey | None) -> Iterator[Output]:
    """A context with the Output of a new file, encrypted if there is a key; its name then ends in ENCRYPTED. The file
    appears at `path`, synced, when the block ends without an error; a crash leaves a file whose name begins with DRAFT.
    Raises OSError."""
    draft = path.with_name(f"{DRAFT}{secrets.token_hex(8)}")
    file = open(draft, "xb")  # noqa: SIM115 - closed below, where an error of its buffer is ignored
    try:
        out: Output = EncryptingFile(file, key) if key else PlainFile(file)
        yield out
        out.finish()
        file.flush()
        os.fsync(file.fileno())
        draft.replace(path.with_name(f"{path.name}{ENCRYPTED if key else ''}"))
    finally:
        with suppress(OSError):
            file.close()
        draft.unlink(missing_ok=True)


def compress(content: BinaryIO, out: Output, most: int) -> None:
    """Writes the compressed content, from its beginning. Raises TooLargeError above `most` bytes, OSError."""
    import zstandard

    packer, written = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(), 0
    content.seek(0)
    while data := content.read(FILE_CHUNK):
        written += _write(out, packer.compress(data), most - written)
    _write(out, packer.flush(), most - written)


def _write(out: Output, data: bytes, most: int) -> int:
    if len(data) > most:
        raise TooLargeError
    out.write(data)
    return len(data)


class Unpacked(NamedTuple):
    """The SHA-256 of a body, in hex, and its number of bytes."""

    sha256: str
    length: int


def unpack(path: Path, file: BinaryIO, key: FileKey | None, out: BinaryIO) -> Unpacked:
    """Writes the bytes of a body to `out`. `file`: the open file at `path`. Raises StoreError if it is damaged or
    encrypted with another key, OSError."""
    import zstandard

    seen, length = hashlib.sha256(), 0
    source: Any = _Chunks(decrypted(file, key).__next__) if path.suffix == ENCRYPTED else file  # needs `read` only
    body = file if path.suffix == UNCOMPRESSED else zstandard.ZstdDecompressor().stream_reader(source)
    try:
        while data := body.read(FILE_CHUNK):
            out.write(data)
            seen.update(data)
            length += len(data)
    except zstandard.ZstdError:
        raise StoreError(DAMAGED) from None
    return Unpacked(seen.hexdigest(), length)


class _Chunks:
    """Reads chunks as a file, for the decompressor. `following` returns the next one, or raises StopIteration."""

    def __init__(self, following: Callable[[], bytes]) -> None:
        self._following = following
        self._pending = b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end."""
        while not self._pending:
            try:
                self._pending = self._following()
            except StopIteration:
                return b""
        data, self._pending = self._pending[:size], self._pending[size:]
        return data

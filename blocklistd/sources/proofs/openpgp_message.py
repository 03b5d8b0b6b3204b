"""Takes OpenPGP messages apart: the signed content, and the packets of its signatures (RFC 9580).

Nothing here decides whether a signature is valid. The content that is written is exactly what `openpgp.py` then has
verified, so that a mistake here can only make a good message fail. Text around armor is not signed, and not read.

    detached signature    packets of type 2, armored or binary
    signed message        [compressed] one-pass signatures, literal data, signatures; armored or binary
    cleartext             -----BEGIN PGP SIGNED MESSAGE-----, lines, -----BEGIN PGP SIGNATURE-----
"""

from __future__ import annotations

import binascii
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from blocklistd.errors import VerifyError
from blocklistd.limits import KIB, MAX_SIGNATURES, MIB
from blocklistd.sources.proofs.openpgp_packets import (
    CUT_SHORT,
    MANY_PACKETS,
    STEP,
    Body,
    Source,
    decompressed,
    limited,
    read_packets,
)

BINARY, TEXT = 0, 1
"""The types of signatures of documents (RFC 9580 section 5.2.1)."""
_SIGNATURE, _ONE_PASS, _COMPRESSED, _LITERAL = 2, 4, 8, 11
IGNORED: Final = (10, 21)
"""Tags of packets without meaning: marker, padding."""
_ENCRYPTED: Final = (1, 3, 9, 18, 20)
_PACKETS: Final = 4 * MAX_SIGNATURES  # of a message: signatures, the one-pass packet of each, markers
_ARMOR_LINE: Final = 4 * KIB  # bytes of a line of base64
_TEXT_LINE: Final = 64 * MIB  # bytes of a line of cleartext: a JSON document may be one line
_BEGIN: Final = re.compile(rb"-----BEGIN PGP ([A-Z ]{1,30})-----[ \t\r\n]*")
_CLEARTEXT: Final = b"SIGNED MESSAGE"
_BEGIN_SIGNATURE: Final = re.compile(rb"-----BEGIN PGP SIGNATURE-----[ \t\r\n]*")

MALFORMED: Final = (
    "not a signed OpenPGP message: expected the result of `gpg --sign`, `gpg --clearsign` or `sq sign`; if the"
    " signature is a file beside the body, set `verify.signature`"
)
ENCRYPTED: Final = "the OpenPGP message is encrypted: set `decrypt`, or ask the hotline for one that is only signed"
TWO_BLOCKS: Final = "more than one signed OpenPGP message in one body: expected one"
LONG_LINE: Final = "a line of the OpenPGP message is too long: ask the hotline"
LONE_CR: Final = (
    "a line of the signed text has a CR inside, which a signature does not cover: ask the hotline for LF alone"
)
TOO_LARGE: Final = "the OpenPGP message has more than {} bytes of content: raise `max_bytes` if the list is that large"
MANY_SIGNATURES: Final = f"more than {MAX_SIGNATURES} signatures of one body: expected fewer"


@dataclass(frozen=True, slots=True)
class SignedContent:
    """The signatures of a content, as packets, and the type that they must have: BINARY, or TEXT for cleartext."""

    signatures: list[bytes]
    kind: int


def detached_signatures(signature: bytes) -> list[bytes]:
    """The signature packets of a signature file. Empty if the file is not one."""
    found: list[bytes] = []
    try:
        for tag, body in read_packets(Source(_unarmored(io.BytesIO(signature), b"SIGNATURE"))):
            if tag == _SIGNATURE:
                _add(found, body)
            elif tag not in IGNORED:
                return []
    except VerifyError:
        return []
    return found


def extract(body: BinaryIO, content: BinaryIO, bound: int) -> SignedContent:
    """Write the content of a signed message to `content`, at most `bound` bytes. Raises VerifyError."""
    body.seek(0)
    head = body.read(1)
    body.seek(0)
    out = _Bounded(content, bound)
    if not head or head[0] < 0x80:
        block = _begin(body)
        if block == _CLEARTEXT:
            found = SignedContent(_cleartext(body, out), TEXT)
        elif block == b"MESSAGE":
            found = SignedContent(_message(Source(_base64(body)), out), BINARY)
        else:
            raise VerifyError(MALFORMED)
        for line in iter(lambda: body.readline(_TEXT_LINE), b""):
            if _BEGIN.fullmatch(line):
                raise VerifyError(TWO_BLOCKS)
    else:
        found = SignedContent(_message(Source(_chunks(body)), out), BINARY)
    if not found.signatures:
        raise VerifyError(MALFORMED)
    content.flush()
    return found


class _Bounded:
    """Writes at most `bound` bytes to `out`."""

    def __init__(self, out: BinaryIO, bound: int) -> None:
        self._out, self._left, self._bound = out, bound, bound

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise VerifyError(TOO_LARGE.format(self._bound))
        self._out.write(data)


# -- armor -------------------------------------------------------------------------------------------------------------


def _chunks(body: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: body.read(STEP), b"")


def _unarmored(body: BinaryIO, block: bytes) -> Iterator[bytes]:
    """The bytes of an armored block, or of a file without armor."""
    head = body.read(1)
    body.seek(0)
    if head and head[0] >= 0x80:  # the first byte of any packet
        return _chunks(body)
    if _begin(body) != block:
        raise VerifyError(CUT_SHORT)
    return _base64(body)


def _begin(body: BinaryIO) -> bytes | None:
    """Read up to the empty line after the headers of the first armored block. Returns its name."""
    for line in iter(lambda: body.readline(_TEXT_LINE), b""):
        if match := _BEGIN.fullmatch(line):
            for header in iter(lambda: body.readline(_ARMOR_LINE), b""):
                if not header.strip():
                    return match[1]
            raise VerifyError(CUT_SHORT)
    return None


def _base64(body: BinaryIO) -> Iterator[bytes]:
    """Decode up to the checksum or the end line of the block, and read it to its end. The checksum is not verified
    (RFC 9580 section 6.1), since the signature is."""
    lines: list[bytes] = []
    left = b""
    for line in iter(lambda: body.readline(_ARMOR_LINE), b""):
        if line.startswith((b"=", b"-----END")):
            while line and not line.startswith(b"-----END"):
                line = body.readline(_ARMOR_LINE)
            break
        lines.append(line.strip())
        if len(lines) >= 4096:
            data = left + b"".join(lines)
            lines, left = [], data[len(data) & ~3 :]
            yield _decoded(data[: len(data) & ~3])
    yield _decoded(left + b"".join(lines))


def _decoded(data: bytes) -> bytes:
    try:
        return binascii.a2b_base64(data, strict_mode=True) if data else b""
    except binascii.Error:
        raise VerifyError(CUT_SHORT) from None


def _cleartext(body: BinaryIO, out: _Bounded) -> list[bytes]:
    """Write the lines without dash escapes and blanks at their ends, as they are signed (RFC 9580 section 7.2), and
    return the signatures."""
    end = b""
    for line in iter(lambda: body.readline(_TEXT_LINE), b""):
        if _BEGIN_SIGNATURE.fullmatch(line):
            break
        if len(line) >= _TEXT_LINE:
            raise VerifyError(LONG_LINE)
        if line.startswith(b"-"):
            if not line.startswith(b"- "):
                raise VerifyError(CUT_SHORT)
            line = line[2:]
        line = line.rstrip(b" \t\r\n")
        if b"\r" in line:
            raise VerifyError(LONE_CR)
        out.write(end + line)
        end = b"\n"
    else:
        raise VerifyError(CUT_SHORT)
    for header in iter(lambda: body.readline(_ARMOR_LINE), b""):
        if not header.strip():
            break
    found: list[bytes] = []
    for tag, packet in read_packets(Source(_base64(body))):
        if tag == _SIGNATURE:
            _add(found, packet)
    return found


# -- messages ----------------------------------------------------------------------------------------------------------


def packets_of(body: BinaryIO) -> Iterator[tuple[int, Body]]:
    """(tag, body) of each packet of a message, armored or binary. Raises VerifyError."""
    return read_packets(Source(_unarmored(body, b"MESSAGE")))


def write_content(packets: Iterator[bytes], content: BinaryIO, bound: int) -> list[bytes]:
    """Write the content of a message in binary form, at most `bound` bytes, and return its signatures, perhaps none.
    Raises VerifyError."""
    found = _message(Source(packets), _Bounded(content, bound))
    content.flush()
    return found


def _add(found: list[bytes], body: Body) -> None:
    """Add a signature packet to `found`."""
    data = limited(body)
    if len(found) >= MAX_SIGNATURES:
        raise VerifyError(MANY_SIGNATURES)
    found.append(b"\xc2\xff" + len(data).to_bytes(4) + data)


def _message(source: Source, out: _Bounded, *, inside: bool = False) -> list[bytes]:
    """Write the literal data of a message to `out`, and return the signature packets around it."""
    found: list[bytes] = []
    literals = 0
    for number, (tag, body) in enumerate(read_packets(source)):
        if number >= _PACKETS:
            raise VerifyError(MANY_PACKETS)
        if tag == _SIGNATURE:
            _add(found, body)
        elif tag == _LITERAL and not literals:
            literals += 1
            data = Source(body)
            data.exactly(1)  # the format
            data.exactly(data.exactly(1)[0] + 4)  # name and time, which are not signed
            for part in iter(lambda data=data: data.some(STEP), b""):  # type: ignore[misc]
                out.write(part)
        elif tag == _COMPRESSED and not inside and not found and not literals:
            literals += 1
            found += _message(Source(decompressed(Source(body))), out, inside=True)
        elif tag in _ENCRYPTED:
            raise VerifyError(ENCRYPTED)
        elif tag in (_ONE_PASS, *IGNORED):
            limited(body)
        else:
            raise VerifyError(MALFORMED)
    if not literals:
        raise VerifyError(MALFORMED)
    return found

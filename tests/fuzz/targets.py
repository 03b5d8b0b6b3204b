"""The parsers that are fuzzed. A target takes any bytes and raises only for a bug: an unexpected exception, or a result
that differs from that of the plain implementation (tests/reference.py)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import zstandard

from blocklistd.errors import ParseError, VerifyError
from blocklistd.lines.patched import PatchedLines
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.sources.intake import entries
from blocklistd.sources.intake.decode import decode, sniff
from blocklistd.sources.intake.form import count
from blocklistd.sources.intake.incremental import Base
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.proofs.proof import Claim
from tests import reference
from tests.fuzz import queries
from tests.fuzz.options import OPTIONS

Target = Callable[[bytes], None]

NEXT: Final = b"\n%%%\n"
"""Separates the bodies of successive pulls in an input."""
MOST: Final = 3  # bodies of one input
NOW: Final = datetime(2026, 11, 28, 12, tzinfo=UTC)


def read_bodies(format: str, options: FormatOptions, data: bytes) -> None:
    """Reads successive bodies, each incrementally after the one before, and each as the plain implementation does."""
    base, earlier = None, None
    for body in data.split(NEXT, MOST)[: MOST + 1]:
        with contextlib.suppress(ParseError):
            lines = _lines(format, options, body, None)
            _compare(format, options, lines, None)
            base = _compare(format, options, lines, base)
            if earlier is not None:
                continued = _lines(format, options, body, earlier)
                assert _lines(format, options, body, continued) == continued, "a continuation seen twice changes more"
            earlier = lines


def _lines(format: str, options: FormatOptions, body: bytes, earlier: bytes | None) -> bytes:
    to_lines = FORMATS[format].to_lines
    if to_lines is None:
        return body
    out = io.BytesIO()
    to_lines(body, earlier, options, out)
    return out.getvalue()


def _compare(format: str, options: FormatOptions, body: bytes, base: Base | None) -> Base:
    out, plain_out = io.BytesIO(), io.BytesIO()
    found = entries.read_entries(body, format, options, base, out)
    plain = reference.read_entries(body, format, options, None, plain_out)
    canonical = b"".join(found.asserted.chunks()) if found.asserted is not None else out.getvalue()
    assert canonical == plain_out.getvalue(), "other entries than the plain implementation"
    assert found.canonical == plain.canonical, "other figures than the plain implementation"
    assert count(canonical) == found.canonical.types, "lines that are not canonical"
    made = found.canonical
    return Base(body, PatchedLines(canonical), made.notes, made.records, made.types, made.dropped_attributes)


def decode_body(data: bytes) -> None:
    """Decodes gzip or zstd, or refuses."""
    bound = 1 << 16
    out = io.BytesIO()
    with contextlib.suppress(ParseError):
        assert decode(io.BytesIO(data), sniff(data[:4]), out, bound) == len(out.getvalue())
    assert len(out.getvalue()) <= bound


def check_canonical(data: bytes) -> None:
    """Checks canonical lines: accepts only what the canonicaliser writes."""
    with contextlib.suppress(ValueError):
        count(data)


def verify(method: str, keys: bytes) -> Target:
    """A target that verifies a body and a signature, which are separated by NEXT. Nothing is ever proven."""
    proof = PROOFS[method]
    key = proof.read_key(keys)

    def target(data: bytes) -> None:
        body, _, signature = data.partition(NEXT)
        with contextlib.suppress(VerifyError):
            proof.verify(io.BytesIO(body), Claim(signature, (key,), NOW, io.BytesIO()))
            raise AssertionError("a signature that nobody made is accepted")

    return target


def read_key(method: str) -> Target:
    """A target that reads a public key, or refuses."""

    def target(data: bytes) -> None:
        with contextlib.suppress(VerifyError):
            PROOFS[method].read_key(data)

    return target


def _of_format(format: str, options: FormatOptions) -> Target:
    return lambda data: read_bodies(format, options, data)


def targets() -> Mapping[str, Target]:
    """All targets by name."""
    found: dict[str, Target] = {name: _of_format(format, options) for name, (format, options) in OPTIONS.items()}
    found |= {"decode": decode_body, "canonical": check_canonical, "dns-request": queries.answer_request}
    found |= {f"key-{method}": read_key(method) for method, proof in PROOFS.items() if proof.key is not None}
    return found


def compressed(data: bytes) -> bytes:
    """A seed of the target `decode`."""
    return zstandard.compress(data)

"""Which file has the list, once the body has proven its origin: before one byte is parsed.

Runs in the intake job; or, where the proof has a secret key, as the job `prove`, which has that key and no parser.
"""

from __future__ import annotations

import importlib
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

from blocklistd.errors import VerifyError, store_errors
from blocklistd.jobs.sandbox import enter_filter
from blocklistd.limits import MAX_FUTURE
from blocklistd.model import Sha256
from blocklistd.sources.intake.decode import decode, sniff
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.proofs.proof import Claim, Proven, check_replay, check_time


@dataclass(frozen=True, slots=True)
class Origin:
    """What is asked of a body: its proof, one of PROOFS, and what came with it (proofs.proof.Claim). `last_signature`,
    `last_signed_at` and `superseded` are what was accepted before, of this key (proofs.proof.check_replay)."""

    proof: str
    key: str | None = field(repr=False)
    signature: bytes | None
    now: datetime
    last_signature: Sha256 | None = None
    last_signed_at: int | None = None
    superseded: tuple[Sha256, ...] = ()
    max_future: timedelta = MAX_FUTURE


def load(origin: Origin | Proven) -> None:
    """Imports what verifying needs, before the sandbox is entered."""
    for name in PROOFS[origin.proof].imports if isinstance(origin, Origin) else ():
        importlib.import_module(name)


def proven(files: list[BinaryIO], encoding: str, bound: int, origin: Origin | Proven) -> tuple[BinaryIO, Proven]:
    """Which of `files` has the list: the body as it came, the three empty ones take it decoded, unwrapped by its proof,
    and unpacked. What a content coding wraps is verified, and then what it may wrap itself.

    `bound`: bytes that a decoded body may have. Raises VerifyError, StaleError, ParseError.
    """
    body, decoded, content, unpacked = files
    signed = _unpacked(body, encoding, decoded, bound)
    found = origin if isinstance(origin, Proven) else _verify(signed, content, origin)
    if content.seek(0, os.SEEK_END):
        signed = content
    signed.seek(0)
    return _unpacked(signed, sniff(signed.read(4)), unpacked, bound), found


def _unpacked(packed: BinaryIO, coding: str, out: BinaryIO, bound: int) -> BinaryIO:
    """The bytes under a content coding, from their beginning; `out` takes what has to be decoded."""
    packed.seek(0)
    if coding == "identity":
        return packed
    decode(packed, coding, out, bound)
    out.seek(0)
    return out


def _verify(body: BinaryIO, content: BinaryIO, origin: Origin) -> Proven:
    """The origin, then whether it is the newest that this origin said."""
    proof = PROOFS[origin.proof]
    if proof.needs_signature and origin.signature is None:
        raise VerifyError(f"no signature arrived: expected one of the method {origin.proof}")
    body.seek(0)
    found = proof.verify(body, Claim(origin.signature, origin.key, origin.now, content))
    check_time(found, origin.now, origin.max_future)
    check_replay(
        found,
        last_signature=origin.last_signature,
        last_signed_at=origin.last_signed_at,
        superseded=origin.superseded,
    )
    return found


# -- as a job of its own -----------------------------------------------------------------------------------------------


def candidates(body: Path, work: Path) -> tuple[Path, Path, Path, Path]:
    """Where the list can be: in the body as it came, under its content coding, in what its proof has unwrapped, or
    under a coding of its own."""
    return body, work / "decoded", work / "content", work / "unpacked"


def prove(body: Path, work: Path, encoding: str, bound: int, origin: Origin) -> dict[str, Any]:
    """The job; `listed`, which of `candidates` has the list, and the fields of Proven."""
    load(origin)
    first, *others = candidates(body, work)
    with store_errors(work), ExitStack() as stack:
        files: list[BinaryIO] = [stack.enter_context(open(first, "rb"))]
        files += [stack.enter_context(open(path, "x+b")) for path in others]
        enter_filter()
        listed, found = proven(files, encoding, bound, origin)
    return {"listed": files.index(listed), "signature": found.signature, "signed_at": found.signed_at}

"""Verifies the origin of a body, and unpacks its list, before one byte is parsed.

Runs in the intake job. If the proof needs a secret key, it runs as the job `prove` instead, which has that key and no
parser (`Proof.in_own_process`).
"""

from __future__ import annotations

import importlib
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from blocklistd.errors import VerifyError, store_errors
from blocklistd.jobs.sandbox import enter_filter
from blocklistd.limits import MAX_FUTURE
from blocklistd.model import Sha256
from blocklistd.sources.intake.decode import decode, sniff
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.proofs.proof import Claim, Proven, check_replay, check_time


@dataclass(frozen=True, slots=True)
class Origin:
    """How to verify a body. `proof`: a key of PROOFS. `key`, `signature` and `now`: as in proofs.proof.Claim.
    `last_signature`, `last_signed_at` and `superseded`: signatures of this key that were accepted before, as in
    proofs.proof.check_replay. `max_future`: as in proofs.proof.check_time."""

    proof: str
    key: str | None = field(repr=False)
    signature: bytes | None
    now: datetime
    last_signature: Sha256 | None = None
    last_signed_at: int | None = None
    superseded: tuple[Sha256, ...] = ()
    max_future: timedelta = MAX_FUTURE


def load(origin: Origin | Proven) -> None:
    """Import the modules that verifying needs. Call it before the sandbox, in which no file can be opened."""
    for name in PROOFS[origin.proof].imports if isinstance(origin, Origin) else ():
        importlib.import_module(name)


def prove_and_unpack(
    files: list[BinaryIO], encoding: str, bound: int, origin: Origin | Proven
) -> tuple[BinaryIO, Proven]:
    """Verify a body, and return the file that contains the list, and the proof.

    `files`: in the order of ListFiles, the last three of them empty. Order: the content coding of the transfer is
    decoded; the result is verified, and perhaps unwrapped by its proof; then the coding is decoded that the list itself
    may have (a .gz or .zst file). `bound`: the largest size of a decoded body, in bytes. Raises VerifyError,
    StaleError, ParseError.
    """
    body, decoded, content, unpacked = files
    signed = _unpacked(body, encoding, decoded, bound)
    found = origin if isinstance(origin, Proven) else _verify(signed, content, origin)
    if content.seek(0, os.SEEK_END):
        signed = content
    signed.seek(0)
    return _unpacked(signed, sniff(signed.read(4)), unpacked, bound), found


def _unpacked(packed: BinaryIO, coding: str, out: BinaryIO, bound: int) -> BinaryIO:
    """The decoded file, at its beginning: `packed` itself if it has no coding, else `out`."""
    packed.seek(0)
    if coding == "identity":
        return packed
    decode(packed, coding, out, bound)
    out.seek(0)
    return out


def _verify(body: BinaryIO, content: BinaryIO, origin: Origin) -> Proven:
    """Check the proof of the body, then that it is no replay and not from the future."""
    proof = PROOFS[origin.proof]
    if proof.needs_signature and origin.signature is None:
        raise VerifyError(f"no signature arrived: expected one of the method {origin.proof}, check `verify.signature`")
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


class ListFiles(NamedTuple):
    """The files of which one will contain the list: the body as it arrived, the body without its content coding, the
    list that the proof unwrapped, and the list without its own coding."""

    body: Path
    decoded: Path
    content: Path
    unpacked: Path


def list_files(body: Path, work: Path) -> ListFiles:
    """The files that may contain the list of `body`, in the folder `work`."""
    return ListFiles(body, work / "decoded", work / "content", work / "unpacked")


def prove(body: Path, work: Path, encoding: str, bound: int, origin: Origin) -> dict[str, Any]:
    """The job `prove`. Returns `listed`, the index in `list_files` of the file with the list, and the fields of Proven.

    Raises VerifyError, StaleError, ParseError, StoreError.
    """
    load(origin)
    first, *others = list_files(body, work)
    with store_errors(work), ExitStack() as stack:
        files: list[BinaryIO] = [stack.enter_context(open(first, "rb"))]
        files += [stack.enter_context(open(path, "x+b")) for path in others]
        enter_filter()
        listed, found = prove_and_unpack(files, encoding, bound, origin)
    return {"listed": files.index(listed), "signature": found.signature, "signed_at": found.signed_at}

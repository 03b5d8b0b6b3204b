"""Verifies the origin of a body, and unpacks its list, before one byte is parsed.

Runs in the intake job. If the proof needs a secret key, it runs as the job `prove` instead, which has that key and no
parser (`Proof.in_own_process`).
"""

from __future__ import annotations

import importlib
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from blocklistd.errors import VerifyError, store_errors
from blocklistd.jobs.sandbox import enter_filter
from blocklistd.limits import MAX_FUTURE
from blocklistd.lines.keys import Buffer
from blocklistd.model import KeyHistory, Sha256
from blocklistd.sources.intake.decode import decode, sniff
from blocklistd.sources.proofs import PROOFS, openpgp_decrypt
from blocklistd.sources.proofs.proof import Claim, Proven, check_replay, check_time


@dataclass(frozen=True, slots=True)
class Origin:
    """How to verify a body. `proof`: a key of PROOFS. `keys`, `signature`, `now` and `url`: as in proofs.proof.Claim.
    `last_signature`, `histories` and `superseded`: bodies that were accepted before, as in proofs.proof.check_replay.
    `max_future`: as in proofs.proof.check_time. `secret`: the secret key that decrypts the body (openpgp_decrypt.py);
    None if the body is not encrypted."""

    proof: str
    keys: tuple[str, ...] = field(repr=False)
    signature: bytes | None
    now: datetime
    last_signature: Sha256 | None = None
    histories: tuple[KeyHistory, ...] = ()
    superseded: tuple[Sha256, ...] = ()
    max_future: timedelta = MAX_FUTURE
    url: str = ""
    secret: str | None = field(default=None, repr=False)

    @property
    def is_inline(self) -> bool:
        """Whether the signature is in the body."""
        return self.signature is None and PROOFS[self.proof].may_be_inline

    @property
    def fingerprints(self) -> tuple[Sha256, ...]:
        """The fingerprints of the keys."""
        return tuple(map(PROOFS[self.proof].fingerprint, self.keys))


def load(origin: Origin | Proven) -> None:
    """Import the modules that verifying needs. Call it before the sandbox, in which no file can be opened."""
    if isinstance(origin, Origin):
        for name in (*PROOFS[origin.proof].imports, *(openpgp_decrypt.IMPORTS if origin.secret is not None else ())):
            importlib.import_module(name)


def prove_and_unpack(
    files: list[BinaryIO], encoding: str, bound: int, origin: Origin | Proven, earlier: Buffer | None = None
) -> tuple[BinaryIO, Proven]:
    """Verify a body, and return the file that contains the list, and the proof.

    `files`: in the order of ListFiles, all but the first of them empty. `earlier`: the list of the last body, if the
    body only continues it. Order: the content coding of the transfer is decoded; the result is verified, and perhaps
    unwrapped by its proof; it is decrypted, before it is verified if the signature is inside; then the coding is
    decoded that the list itself may have (a .gz or .zst file). `bound`: the largest size of a decoded body, in bytes.
    Raises VerifyError, StaleError, ParseError.
    """
    body, decoded, plain, content, unpacked, _ = files
    listed = _unpacked(body, encoding, decoded, bound)
    if isinstance(origin, Proven):
        found = origin
    else:
        inner: list[bytes] = []
        is_encrypted = origin.secret is not None
        if is_encrypted and origin.is_inline:
            inner, listed, is_encrypted = _decrypted(listed, plain, bound, origin), plain, False
        found = _verify(
            listed, origin, Claim(origin.signature, origin.keys, origin.now, content, earlier, origin.url, bound, inner)
        )
        # an empty signed message is an empty list, and not the text around it
        if content.seek(0, os.SEEK_END) or (origin.is_inline and not inner):
            listed = content
        if is_encrypted:
            _decrypted(listed, plain, bound, origin)
            listed = plain
    listed.seek(0)
    return _unpacked(listed, sniff(listed.read(4)), unpacked, bound), found


def _decrypted(body: BinaryIO, plain: BinaryIO, bound: int, origin: Origin) -> list[bytes]:
    """Decrypt `body` to the file `plain`. Returns the signatures inside."""
    assert origin.secret is not None
    return openpgp_decrypt.decrypt(body, origin.secret, plain, bound)


def _unpacked(packed: BinaryIO, coding: str, out: BinaryIO, bound: int) -> BinaryIO:
    """The decoded file, at its beginning: `packed` itself if it has no coding, else `out`."""
    packed.seek(0)
    if coding == "identity":
        return packed
    decode(packed, coding, out, bound)
    out.seek(0)
    return out


def _verify(body: BinaryIO, origin: Origin, claim: Claim) -> Proven:
    """Check the proof of the body, then that it is no replay and not from the future."""
    proof = PROOFS[origin.proof]
    if proof.needs_signature and not proof.may_be_inline and origin.signature is None:
        raise VerifyError(f"no signature arrived: expected one of the method {origin.proof}, check `verify.signature`")
    body.seek(0)
    found = proof.verify(body, claim)
    if found.key is None and len(origin.keys) == 1:
        found = replace(found, key=origin.fingerprints[0])
    check_time(found, origin.now, origin.max_future)
    check_replay(
        found,
        last_signature=origin.last_signature,
        histories=origin.histories,
        superseded=origin.superseded,
    )
    return found


# -- as a job of its own -----------------------------------------------------------------------------------------------


class ListFiles(NamedTuple):
    """The files of which one will contain the list: the body as it arrived, the body without its content coding, the
    body decrypted, the list that the proof unwrapped, the list without its own coding, and the list as lines
    (Format.to_lines)."""

    body: Path
    decoded: Path
    plain: Path
    content: Path
    unpacked: Path
    lines: Path


def list_files(body: Path, work: Path) -> ListFiles:
    """The files that may contain the list of `body`, in the folder `work`."""
    return ListFiles(body, *(work / name for name in ListFiles._fields[1:]))


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
    return {"listed": files.index(listed), **asdict(found)}

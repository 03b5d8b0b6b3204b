"""The job that reads a hotline's bytes: decode, verify, parse, canonicalise. Bytes in, one canonical file and a report.

It runs alone in its process, opens its files, enters the sandbox, and only then touches the body. It has no database,
no keys and no network; the worst that a body can do is to fail its own pull.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import minisign

from blocklistd.errors import ParseError, VerifyError, store_errors
from blocklistd.jobs.sandbox import enter_filter
from blocklistd.limits import CHUNK, DECOMPRESSED_FACTOR
from blocklistd.model import IntakeReport, Sha256
from blocklistd.sources import FORMATS
from blocklistd.sources.canonical import canonicalise
from blocklistd.sources.decode import decode, sniff
from blocklistd.sources.records import FormatOptions
from blocklistd.sources.verify import Proof, check_replay, verify_minisign


@dataclass(frozen=True, slots=True)
class Order:
    """What to do with a body. Paths are the job's own; `work` is a folder that is removed after it.

    `key` is the text of a minisign public key, or None for the method `none`. `last_signature`, `last_signed_at` and
    `superseded` are what was accepted before (verify.check_replay). `may_be_empty`: a body without a record is a list
    with nothing in it, and not a failure, because every list that uses it says `min_entries: 0`.
    """

    body: Path
    work: Path
    encoding: str
    signature: bytes | None
    format: str
    fields: dict[str, str]
    defaults: dict[str, str]
    max_bytes: int
    key: str | None
    last_signature: Sha256 | None
    last_signed_at: int | None
    superseded: tuple[Sha256, ...]
    may_be_empty: bool

    @property
    def canonical(self) -> Path:
        """Where the job leaves the sorted canonical lines."""
        return self.work / "canonical"


def intake(order: Order) -> dict[str, Any]:
    """The job; the fields of an IntakeReport. Raises VerifyError, StaleError or ParseError."""
    decoded, unpacked = order.work / "decoded", order.work / "unpacked"
    with (
        store_errors(order.work),
        open(order.body, "rb") as raw,
        open(decoded, "x+b") as body,
        open(unpacked, "x+b") as plain,
        open(order.canonical, "xb") as out,
    ):
        enter_filter()
        bound = order.max_bytes * DECOMPRESSED_FACTOR
        signed = _unpacked(raw, order.encoding, body, bound)
        digest = _digest(signed)
        proof = _verify(signed, order)
        signed.seek(0)
        packing = sniff(signed.read(4))
        listed = _unpacked(signed, packing, plain, bound)
        length = listed.seek(0, 2)
        listed.seek(0)
        if not length and not order.may_be_empty:
            raise ParseError(f"an empty body: expected a list in the format {order.format}")
        made = canonicalise(FORMATS[order.format](listed, FormatOptions(order.fields, order.defaults)), out)
        if made.records and not made.entries:
            raise ParseError(
                f"none of {made.records} records could be read as {order.format}"
                f" ({_most(made.rejected)}): is the URL right, and the format?"
            )
    return asdict(
        IntakeReport(
            body_sha256=digest,
            asserted=made.sha256,
            length=length,
            records=made.records,
            types=dict(made.types),
            rejected=dict(made.rejected),
            first_rejected=dict(made.first_rejected),
            dropped_attributes=made.dropped_attributes,
            signature=proof.signature,
            signed_at=proof.signed_at,
        )
    )


def _digest(body: BinaryIO) -> Sha256:
    digest = hashlib.sha256()
    while chunk := body.read(CHUNK):
        digest.update(chunk)
    return Sha256(digest.hexdigest())


def _unpacked(packed: BinaryIO, coding: str, out: BinaryIO, bound: int) -> BinaryIO:
    """The bytes under a content coding, from their beginning; `out` takes what has to be decoded."""
    packed.seek(0)
    if coding == "identity":
        return packed
    decode(packed, coding, out, bound)
    out.seek(0)
    return out


def _verify(body: BinaryIO, order: Order) -> Proof:
    """Before one byte is parsed: the origin, then whether it is the newest that this origin said."""
    if order.key is None:
        return Proof(None, None)
    if order.signature is None:
        raise VerifyError("no signature arrived: expected a minisign signature")
    body.seek(0)
    proof = verify_minisign(body, order.signature, minisign.PublicKey.from_base64(order.key))
    check_replay(
        proof,
        last_signature=order.last_signature,
        last_signed_at=order.last_signed_at,
        superseded=order.superseded,
    )
    return proof


def public_key(text: bytes) -> str:
    """The base64 of a minisign public key file; raises VerifyError where it is none."""
    try:
        return base64.b64encode(base64.b64decode(minisign.PublicKey.from_bytes(text).to_base64())).decode()
    except (minisign.Error, ValueError) as error:
        raise VerifyError(f"not a minisign public key ({error}): expected the two lines of a .pub file") from None


def _most(rejected: dict[str, int]) -> str:
    return ", ".join(f"{code}: {count}" for code, count in sorted(rejected.items(), key=lambda item: -item[1])[:3])

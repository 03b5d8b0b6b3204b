"""Describes a proof of origin as a value. To add one, write a module here that ends with its `PROOF`, and a line in
PROOFS.

The configuration imports the table. So a module here imports slow modules inside the functions that use them.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from blocklistd.errors import StaleError, VerifyError
from blocklistd.model import Sha256
from blocklistd.times import rfc3339


@dataclass(frozen=True, slots=True)
class Claim:
    """What comes with a body to be verified.

    `signature`: the bytes of the signature file, None if there is none. `key`: the result of `Proof.read_key`, None if
    the proof has no key. `now`: the time at which the body arrived. `content`: an empty file, to which `verify` writes
    the list if the body is a wrapping of it (an inline signature, encryption).
    """

    signature: bytes | None
    key: str | None = field(repr=False)
    now: datetime
    content: BinaryIO


@dataclass(frozen=True, slots=True)
class Proven:
    """The result of verifying a body, by which a replay is recognised.

    `signature`: a SHA-256 of the signature, of a part that only the owner of the key can make; None if the proof has no
    signature. `signed_at`: the time of signing, in Unix seconds; None if the signature has none. A wrapped list is in
    `Claim.content`.
    """

    signature: Sha256 | None = None
    signed_at: int | None = None


def no_key(text: bytes) -> str:
    """For `Proof.read_key` of a proof without key: it is never called."""
    raise AssertionError("a proof with a `key` needs a `read_key`")


@dataclass(frozen=True, slots=True)
class Proof:
    """How bodies prove their origin. Only `verify` is required.

    `verify` runs before any byte of the body is parsed, in a process without network, files and database. The parser
    runs in the same process, unless `in_own_process` is set.
    """

    verify: Callable[[BinaryIO, Claim], Proven]
    """Verifies a complete decoded body, from its beginning. Raises VerifyError."""
    key: str | None = None
    """A description of the file `verify.key`, for the error if the file is not a key; None if the proof has no key."""
    read_key: Callable[[bytes], str] = no_key
    """Makes `Claim.key` from the bytes of the file `verify.key`. Raises VerifyError."""
    needs_signature: bool = False
    """Whether a signature is fetched from `verify.signature`, unless the transport has fetched it with the body."""
    needs_pinned_tls: bool = False
    """Whether `ca` or `auth.client_cert` is required, which prove the origin."""
    proves_origin: bool = True
    """Whether anything is proven; if not, status and log report it permanently."""
    in_own_process: bool = False
    """True if the key is secret: then `verify` runs in a process without parser."""
    reasons: tuple[str, ...] = ()
    """The messages of the errors of `verify`. Any other message is replaced by a general one (sources/reasons.py)."""
    imports: tuple[str, ...] = ()
    """Modules that `verify` imports; they are loaded before the sandbox, in which no file can be opened."""


def check_time(proven: Proven, now: datetime, max_future: timedelta) -> None:
    """Raises VerifyError if the time of signing is later than `now` by more than `max_future`. Once such a signature
    was accepted, every earlier one would count as a replay."""
    if proven.signed_at is not None and proven.signed_at > (now + max_future).timestamp():
        raise VerifyError(
            f"signed at {_time_text(proven.signed_at)}, ahead of now by more than `verify.max_future`: check the clocks"
            f" of the hotline and this machine"
        )


def check_replay(
    proven: Proven, *, last_signature: Sha256 | None, last_signed_at: int | None, superseded: Container[Sha256]
) -> None:
    """Raises StaleError for a replay: a signature that is older than one that was accepted.

    `last_signature`: the signature that was accepted last; it may come again. `last_signed_at`: its time of signing, in
    Unix seconds. `superseded`: signatures that were accepted before it; they are refused.

    A signature with an earlier time is refused. A new signature of an old body is accepted, since a hotline may take a
    change back. Without times, an old body that is signed again has its old signature, and is refused.
    """
    if proven.signature is None or proven.signature == last_signature:
        return
    if proven.signature in superseded:
        raise StaleError(
            "this signature was accepted before, and then a newer one: an old body is served again; ask the hotline"
        )
    if proven.signed_at is not None and last_signed_at is not None and proven.signed_at < last_signed_at:
        raise StaleError(
            f"signed at {_time_text(proven.signed_at)}, before the last accepted signature,"
            f" {_time_text(last_signed_at)}: an old body is served again; ask the hotline"
        )


def _time_text(seconds: int) -> str:
    try:
        return rfc3339(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError):
        return "a time after the year 9999"

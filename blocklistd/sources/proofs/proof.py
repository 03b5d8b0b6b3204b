"""What a proof of origin is, as a value. A new one is a file here that ends with its `PROOF`, and a line in PROOFS.

The configuration imports the table: a module here imports what is slow to import where it is used.
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
    """What came with a body. `key` is what `read_key` made of the configured file; `now` is when the body arrived.

    `content` is an empty file: it takes the list where the body is a wrapping of it (an inline signature, encryption).
    """

    signature: bytes | None
    key: str | None = field(repr=False)
    now: datetime
    content: BinaryIO


@dataclass(frozen=True, slots=True)
class Proven:
    """What a verified body is remembered by; both None where it has nothing that can be told from another's.

    `signature` is a SHA-256 of what nobody but the key's owner can make another of. `signed_at` is in Unix seconds,
    None where the signature says none. A list that was wrapped is in `Claim.content`.
    """

    signature: Sha256 | None = None
    signed_at: int | None = None


def no_key(text: bytes) -> str:
    raise AssertionError("a proof that names a `key` says how it is read")


@dataclass(frozen=True, slots=True)
class Proof:
    """How bodies prove their origin. Only `verify` has to be given.

    It is called before anything of a body is parsed, in a process without network, files and database, which it shares
    with the parser unless it says `in_own_process`.
    """

    verify: Callable[[BinaryIO, Claim], Proven]
    """Checks the whole of a decoded body, from its start. Raises VerifyError."""
    key: str | None = None
    """What the file `verify.key` holds, for the error where it does not; None: there is no such key."""
    read_key: Callable[[bytes], str] = no_key
    """The key as `verify` gets it, from the bytes of its file. Raises VerifyError."""
    needs_signature: bool = False
    """Whether a signature is fetched beside the body, from `verify.signature`, unless the transport brings it along."""
    needs_pinned_tls: bool = False
    """Whether `ca` or `auth.client_cert` has to stand for the origin."""
    proves_origin: bool = True
    """Whether anything is proven; else status and log say so for ever."""
    in_own_process: bool = False
    """True where `key` is a secret: no process that parses has it."""
    reasons: tuple[str, ...] = ()
    """The texts of the errors of `verify`. Any other text is replaced by a general one (sources/reasons.py)."""
    imports: tuple[str, ...] = ()
    """Modules that `verify` imports: where it runs, no file can be opened any more."""


def check_time(proven: Proven, now: datetime, max_future: timedelta) -> None:
    """Raises VerifyError where the signed time is ahead of `now` by more than `max_future`: once accepted, everything
    signed before that time would count as a replay."""
    if proven.signed_at is not None and proven.signed_at > (now + max_future).timestamp():
        raise VerifyError(
            f"signed at {_written(proven.signed_at)}, ahead of now by more than `verify.max_future`: is the clock of "
            f"the hotline right, and ours?"
        )


def check_replay(
    proven: Proven, *, last_signature: Sha256 | None, last_signed_at: int | None, superseded: Container[Sha256]
) -> None:
    """Raises StaleError for what was said before something newer was accepted.

    The last accepted signature may come again. So may an old body with a new signature: taking a change back is the
    hotline's right. A signature without a time is refused only when it was accepted, and superseded, before; and where
    a hotline signs without any time, an old body signed again has its old signature, and is refused.
    """
    if proven.signature is None or proven.signature == last_signature:
        return
    if proven.signature in superseded:
        raise StaleError("this signature was accepted before, and a newer one after it: an old body is served again")
    if proven.signed_at is not None and last_signed_at is not None and proven.signed_at < last_signed_at:
        raise StaleError(
            f"signed at {_written(proven.signed_at)}, expected no earlier than the last accepted one, "
            f"{_written(last_signed_at)}: an old body is served again"
        )


def _written(seconds: int) -> str:
    try:
        return rfc3339(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError):
        return "a time after the year 9999"

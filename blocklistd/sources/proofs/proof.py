"""Describes a proof of origin as a value. To add one, write a module here that ends with its `PROOF`, and a line in
PROOFS.

The configuration imports the table. So a module here imports slow modules inside the functions that use them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

from blocklistd.errors import StaleError, VerifyError
from blocklistd.limits import PROOF_LIFE
from blocklistd.lines.keys import Buffer
from blocklistd.model import KeyHistory, Sha256
from blocklistd.times import rfc3339


@dataclass(frozen=True, slots=True)
class Claim:
    """What comes with a body to be verified.

    `signature`: the bytes of the signature file, None if there is none. `keys`: the results of `Proof.read_key`, one
    for each file of `verify.key`; any of them verifies. `now`: the time at which the body arrived. `content`: an empty
    file, to which `verify` writes the list if the body only wraps the list (an inline signature, encryption, a diff
    from the last list). `earlier`: the last list, if the body only continues it; `verify` then verifies the complete
    list. `url`: the URL of the source.
    """

    signature: bytes | None
    keys: tuple[str, ...] = field(repr=False)
    now: datetime
    content: BinaryIO
    earlier: Buffer | None = None
    url: str = ""
    bound: int = 2**63
    """The largest size of `content`, in bytes."""
    inner_signatures: Sequence[bytes] = ()
    """Signatures of the body that were inside its encryption (`openpgp_decrypt.decrypt`)."""

    @property
    def key(self) -> str | None:
        """The key of a proof that has one key; None if the proof has none."""
        return self.keys[0] if self.keys else None


@dataclass(frozen=True, slots=True)
class Proven:
    """The result of verifying a body, by which a replay is recognised.

    `signature`: a SHA-256 of the signature, of a part that only the owner of the key can make; None if the proof has no
    signature. `signed_at`: the time of signing, in Unix seconds; None if the signature has none. `key`: the fingerprint
    of the key that verified the body (`Proof.fingerprint`); None means the only key. `sequence`: a number of the body
    that never goes back, such as the serial of a zone; None if it has none. `expires`: until when the proof is valid,
    in Unix seconds; None if it does not end. A wrapped list is in `Claim.content`.
    """

    signature: Sha256 | None = None
    signed_at: int | None = None
    key: Sha256 | None = None
    sequence: int | None = None
    expires: int | None = None

    @property
    def is_signed(self) -> bool:
        """Whether a key has proven the body. `key` may be None nevertheless, if the method has no key file."""
        return self.signature is not None or self.sequence is not None


def no_key(text: bytes) -> str:
    """For `Proof.read_key` of a proof without key: it is never called."""
    raise AssertionError("a proof with a `key` needs a `read_key`")


def no_warning(key: str, now: datetime) -> str:
    """For `Proof.key_warning`: a key without an end."""
    return ""


def text_fingerprint(key: str) -> Sha256:
    """For `Proof.fingerprint`: the SHA-256 of the key's text."""
    return Sha256(hashlib.sha256(key.encode()).hexdigest())


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
    """Makes an item of `Claim.keys` from the bytes of a file of `verify.key`. Raises VerifyError."""
    fingerprint: Callable[[str], Sha256] = text_fingerprint
    """The fingerprint of a key, from the result of `read_key`: accepted times and signatures belong to it."""
    key_warning: Callable[[str, datetime], str] = no_warning
    """A function of (result of `read_key`, now): why the key verifies nothing now, for `check-config`; else empty."""
    several_keys: bool = False
    """Whether `verify.key` may be a list, any of which verifies."""
    needs_signature: bool = False
    """Whether a signature is fetched from `verify.signature`, unless the transport has fetched it with the body."""
    signature_ending: str = ""
    """What follows the URL of the body in the URL of the signature, if `verify.signature` is not configured."""
    may_be_inline: bool = False
    """Whether `verify.signature` may be `inline`: the signature is then in the body."""
    needs_pinned_tls: bool = False
    """Whether `ca` or `auth.client_cert` is required, which prove the origin."""
    needs_feed: bool = False
    """Whether only the feed of another blocklistd has the metadata that the method verifies."""
    needs_tsig: bool = False
    """Whether `auth.tsig` is required, which proves the origin."""
    proves_origin: bool = True
    """Whether anything is proven; if not, status and log report it permanently."""
    in_own_process: bool = False
    """True if the key is secret: then `verify` runs in a process without parser."""
    reasons: tuple[str, ...] = ()
    """The messages of the errors of `verify`. Any other message is replaced by a general one (sources/reasons.py)."""
    imports: tuple[str, ...] = ()
    """Modules that `verify` imports; they are loaded before the sandbox, in which no file can be opened."""

    @property
    def is_of_body(self) -> bool:
        """Whether the proof belongs to the bytes of one complete body, and not to the connection. Such a list is
        transferred as one body."""
        return self.key is not None or self.needs_signature


def check_time(proven: Proven, now: datetime, max_future: timedelta) -> None:
    """Raises VerifyError if the time of signing is later than `now` by more than `max_future`. Once such a signature
    was accepted, every earlier one would count as a replay."""
    if proven.signed_at is not None and proven.signed_at > (now + max_future).timestamp():
        raise VerifyError(
            f"signed at {_time_text(proven.signed_at)}, ahead of now by more than `verify.max_future`: check the clocks"
            f" of the hotline and this machine"
        )


def bounded_expiry(proven: Proven, now: datetime) -> int | None:
    """When the proof is to be verified again, in Unix seconds; None if it does not expire. The job that found the
    expiry may have been taken over, so it is at most PROOF_LIFE after `now`."""
    return None if proven.expires is None else min(proven.expires, int((now + PROOF_LIFE).timestamp()))


def check_replay(
    proven: Proven, *, last_signature: Sha256 | None, histories: Sequence[KeyHistory], superseded: Container[Sha256]
) -> None:
    """Raises StaleError for a replay: a body that is older than one that was accepted.

    `last_signature`: the signature that was accepted last; it may come again. `histories`: the newest accepted values
    of each key, in the order in which the keys were first accepted. `superseded`: signatures that were accepted before
    the last one; they are refused.

    A signature with an earlier time than the newest of any configured key is refused, and a lower sequence number of
    the same key. A new key is compared with the times of the others, too: an old body may have the signatures of
    several keys, of which only one was recorded. To forget a time that was too far ahead, remove its key. A new
    signature of an old body is accepted, since a hotline may take a change back. Without times, an old body that is
    signed again has its old signature, and is refused.
    """
    if proven.signature is not None and proven.signature == last_signature:
        return
    if proven.signature is not None and proven.signature in superseded:
        raise StaleError(
            "this signature was accepted before, and then a newer one: an old body is served again; ask the hotline"
        )
    last_time = max((one.signed_at for one in histories if one.signed_at is not None), default=None)
    if proven.signed_at is not None and last_time is not None and proven.signed_at < last_time:
        raise StaleError(
            f"signed at {_time_text(proven.signed_at)}, before the last accepted signature, {_time_text(last_time)}:"
            " an old body is served again; ask the hotline"
        )
    own = [one for one in histories if one.key in (None, proven.key)]
    last_number = max((one.sequence for one in own if one.sequence is not None), default=None)
    if proven.sequence is not None and last_number is not None and proven.sequence < last_number:
        raise StaleError(
            f"its sequence number is {proven.sequence}, lower than {last_number}, which was accepted before:"
            " an old body is served again; ask the hotline"
        )


def _time_text(seconds: int) -> str:
    try:
        return rfc3339(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, ValueError):
        return "a time after the year 9999"

"""The method `tuf`: the TUF metadata of another blocklistd, from the trusted root.json on. Pure: no clock, no network.

The transport has fetched the metadata (`SignedMetadata`), and a body that is the list's snapshot or the diff from the
last one. The steps are those of the client's workflow (TUF 5.3 to 5.7) without the files that a client keeps: the
versions of root.json and of the timestamp are `Proven.sequence`, by which older ones are refused. The timestamp names
the version of the snapshot metadata, and the snapshot metadata that of the targets metadata, so that neither of them
goes back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, TypeVar

from blocklistd.errors import StaleError, VerifyError
from blocklistd.limits import CHUNK, MIB
from blocklistd.lines.delta import ENTRIES, apply
from blocklistd.lines.keys import Buffer
from blocklistd.sources.feed import SignedMetadata
from blocklistd.sources.proofs.proof import Claim, Proof, Proven
from blocklistd.sources.transports.tuf import feed_address
from blocklistd.times import rfc3339

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, MetaFile, Root

Role = TypeVar("Role")

_DIFF_SLACK: Final = MIB  # bytes that a diff may have in addition to all lines of both versions
_VERSIONS: Final = 10**12  # no timestamp has so high a version: a sequence begins with that of root.json
_NOT_TUF: Final = "no TUF metadata arrived with the list: check `url`"
_NOT_A_ROOT: Final = "not a root.json that is signed by its own keys: expected the one that the publisher gave you"
_BROKEN_CHAIN: Final = (
    "a newer root.json is not signed by the keys of the one before: check that `verify.key` is this publisher's"
    " root.json, or ask the publisher"
)
_NOT_SIGNED: Final = (
    "the metadata is not signed by the keys in root.json: check that `verify.key` is this publisher's root.json, or ask"
    " the publisher"
)
_ANOTHER: Final = (
    "a file is not the one that the metadata names: the next pull tries again; if it fails too, ask the publisher"
)
_NO_VERSION: Final = "the list has no version yet: the next pull tries again"
_OTHER_LIST: Final = "the metadata is signed for another list: check `url`, or ask the publisher"
_NOT_THE_LIST: Final = "the list is not the signed one: expected its length and its SHA-256; the next pull tries again"
_BAD_DIFF: Final = "the diff does not lead from the last version to the signed one: the snapshot is taken instead"


class SignedList(NamedTuple):
    """The signed description of a list. `length` (bytes) and `sha256` (hex) are those of its snapshot. `sequence`: the
    version of root.json times _VERSIONS, and that of the timestamp. `expires`: the earliest expiry of the metadata."""

    length: int
    sha256: str
    sequence: int
    expires: datetime


def signed_list(metadata: SignedMetadata, trusted: bytes, name: str, now: datetime) -> SignedList:
    """Verify the metadata of the list `name`, from the trusted root.json on. Raises VerifyError, and StaleError for
    metadata that has expired."""
    from tuf.api.metadata import Snapshot, Targets, Timestamp

    root = _newest_root(trusted, metadata.roots)
    timestamp = _signed(root, Timestamp, metadata.timestamp)
    snapshot = _named(root, Snapshot, timestamp.snapshot_meta, metadata.snapshot)
    try:
        meta = snapshot.meta["targets.json"]
    except KeyError:
        raise VerifyError(_ANOTHER) from None
    targets = _named(root, Targets, meta, metadata.targets)
    for role, expires in (
        ("root.json", root.signed.expires),
        ("timestamp.json", timestamp.expires),
        ("snapshot.json", snapshot.expires),
        ("targets.json", targets.expires),
    ):
        if expires <= now:
            raise StaleError(
                f"{role} expired on {rfc3339(expires)}: the feed has no newer one; ask the publisher, or check the"
                " clock"
            )
    if not targets.targets:
        raise VerifyError(_NO_VERSION)
    target = targets.targets.get(f"{name}.ndjson")
    if target is None or not isinstance(target.custom, dict) or target.custom.get("list") != name:
        raise VerifyError(_OTHER_LIST)
    first = min(root.signed.expires, timestamp.expires, snapshot.expires, targets.expires)
    if timestamp.version >= _VERSIONS:
        raise VerifyError(_ANOTHER)
    # a root.json that a mirror withholds must not bring back the keys that it replaced
    sequence = root.signed.version * _VERSIONS + timestamp.version
    return SignedList(target.length, target.hashes.get("sha256", ""), sequence, first)


def _newest_root(trusted: bytes, roots: dict[int, bytes]) -> Metadata[Root]:
    """The newest root.json, each signed by the keys of the one before and by its own (TUF 5.3). Raises VerifyError."""
    from tuf.api.exceptions import RepositoryError

    root = trusted_root(trusted)
    try:
        for content in roots.values():
            newer = _root(content)
            root.verify_delegate("root", newer)
            newer.verify_delegate("root", newer)
            if newer.signed.version != root.signed.version + 1:
                raise RepositoryError
            root = newer
    except (RepositoryError, ValueError):
        raise VerifyError(_BROKEN_CHAIN) from None
    return root


def trusted_root(content: bytes) -> Metadata[Root]:
    """Read a root.json that signs itself. Raises VerifyError for anything else."""
    from tuf.api.exceptions import RepositoryError

    try:
        root = _root(content)
        root.verify_delegate("root", root)
    except (RepositoryError, ValueError):
        raise VerifyError(_NOT_A_ROOT) from None
    return root


def _root(content: bytes) -> Metadata[Root]:
    """Parse a root.json. Raises RepositoryError, ValueError."""
    from tuf.api.metadata import Metadata, Root

    root: Metadata[Any] = Metadata.from_bytes(content)
    if not isinstance(root.signed, Root):
        raise ValueError("metadata of another role")
    return root


def _signed(root: Metadata[Root], role: type[Role], content: bytes) -> Role:
    """Parse metadata of a role, and verify its signatures. Raises VerifyError."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    try:
        found: Metadata[Any] = Metadata.from_bytes(content)
        if not isinstance(found.signed, role):
            raise VerifyError(_ANOTHER)
        root.verify_delegate(found.signed.type, found)  # type: ignore[attr-defined]
    except (RepositoryError, ValueError):
        raise VerifyError(_NOT_SIGNED) from None
    return found.signed


def _named(root: Metadata[Root], role: type[Role], meta: MetaFile, content: bytes) -> Role:
    """Parse and verify metadata that other metadata names (TUF 5.5, 5.6). Raises VerifyError."""
    from tuf.api.exceptions import RepositoryError

    try:
        meta.verify_length_and_hashes(content)
    except RepositoryError:
        raise VerifyError(_ANOTHER) from None
    found = _signed(root, role, content)
    if found.version != meta.version:  # type: ignore[attr-defined]
        raise VerifyError(_ANOTHER)
    return found


# -- the body ----------------------------------------------------------------------------------------------------------


def _verify(body: BinaryIO, claim: Claim) -> Proven:
    assert claim.key is not None
    try:
        metadata = SignedMetadata.from_bytes(claim.signature or b"")
    except ValueError:
        raise VerifyError(_NOT_TUF) from None
    found = signed_list(metadata, claim.key.encode(), feed_address(claim.url).list, claim.now)
    if claim.earlier is None:
        if not _is_signed(iter(lambda: body.read(CHUNK), b""), found, None):
            raise VerifyError(_NOT_THE_LIST)
    else:
        _apply(body, claim.earlier, found, claim.content)
    return Proven(sequence=found.sequence, expires=int(found.expires.timestamp()))


def _apply(body: BinaryIO, earlier: Buffer, found: SignedList, out: BinaryIO) -> None:
    """Write the list that the diff `body` makes of the last list. Raises VerifyError unless it is the signed one."""
    diff = body.read(len(earlier) + found.length + _DIFF_SLACK + 1)
    if len(diff) > len(earlier) + found.length + _DIFF_SLACK or not found.length:
        raise VerifyError(_BAD_DIFF)
    try:
        fits = _is_signed(apply(ENTRIES, earlier, diff), found, out)
    except (ValueError, LookupError):
        fits = False
    if not fits:
        raise VerifyError(_BAD_DIFF)


def _is_signed(chunks: Iterable[bytes | memoryview], found: SignedList, out: BinaryIO | None) -> bool:
    """Whether the chunks are the signed list. Writes them, but never more than the signed length."""
    digest = hashlib.sha256()
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > found.length:
            break
        digest.update(chunk)
        if out is not None:
            out.write(chunk)
    if out is not None:
        out.flush()
    return (length, digest.hexdigest()) == (found.length, found.sha256)


def _read_key(content: bytes) -> str:
    """Check a root.json. Raises VerifyError."""
    trusted_root(content)
    return content.decode()


PROOF: Final = Proof(
    _verify,
    key="the publisher's root.json (`blocklistd keys show --root` prints it)",
    read_key=_read_key,
    needs_feed=True,
    reasons=(
        *(_NOT_TUF, _NOT_A_ROOT, _BROKEN_CHAIN, _NOT_SIGNED, _ANOTHER, _NO_VERSION, _OTHER_LIST),
        *(_NOT_THE_LIST, _BAD_DIFF),
        *(
            f"{role}.json expired on TIME: the feed has no newer one; ask the publisher, or check the clock"
            for role in ("root", "timestamp", "snapshot", "targets")
        ),
    ),
    # datetime.strptime imports _strptime at its first call
    imports=("tuf.api.metadata", "tuf.api.serialization.json", "securesystemslib.signer", "_strptime"),
)
"""The transport fetches the metadata with the body."""

"""TUF metadata of a feed: accepted from the trusted root.json on, refused when any byte of it differs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from blocklistd.errors import StaleError, VerifyError
from blocklistd.limits import PROOF_LIFE
from blocklistd.sources.feed import SignedMetadata
from blocklistd.sources.proofs.proof import Claim, Proven, bounded_expiry
from blocklistd.sources.proofs.tuf import PROOF
from tests.sim.feed import LIST, FeedSimulator, difference

NOW = datetime.now(UTC)


@pytest.fixture
def feed() -> Iterator[FeedSimulator]:
    made = FeedSimulator()
    made.publish("one.example", "two.example")
    yield made
    made.close()


def metadata(feed: FeedSimulator, **roots: bytes) -> SignedMetadata:
    count = max(int(name.partition(".")[0]) for name in feed.metadata if name.endswith(".targets.json"))
    return SignedMetadata(
        {int(version[1:]): root for version, root in roots.items()},
        feed.metadata["timestamp.json"],
        feed.metadata[f"{count}.snapshot.json"],
        feed.metadata[f"{count}.targets.json"],
    )


def verify(
    feed: FeedSimulator,
    body: bytes,
    signature: bytes | None,
    *,
    now: datetime = NOW,
    earlier: bytes | None = None,
    url: str = f"tuf+https://feed.example/{LIST}",
) -> tuple[Proven, bytes]:
    out = io.BytesIO()
    claim = Claim(signature, (PROOF.read_key(feed.root),), now, out, earlier, url)
    return PROOF.verify(io.BytesIO(body), claim), out.getvalue()


def test_a_snapshot_is_accepted_until_the_first_metadata_expires(feed: FeedSimulator) -> None:
    proven, written = verify(feed, feed.live, metadata(feed).to_bytes())
    assert written == b""
    assert proven.sequence == 10**12 + 2
    assert proven.expires is not None
    assert NOW + timedelta(days=29) < datetime.fromtimestamp(proven.expires, UTC) < NOW + timedelta(days=31)
    verify(feed, feed.live, metadata(feed).to_bytes(), now=datetime.fromtimestamp(proven.expires - 1, UTC))
    with pytest.raises(StaleError, match=r"root\.json expired on .*: the feed has no newer one; ask the publisher"):
        verify(feed, feed.live, metadata(feed).to_bytes(), now=datetime.fromtimestamp(proven.expires, UTC))
    feed.expires = timedelta(hours=1)
    feed.sign()
    with pytest.raises(StaleError, match=r"timestamp\.json expired"):
        verify(feed, feed.live, metadata(feed).to_bytes(), now=NOW + timedelta(hours=2))


def test_a_proof_is_verified_again_when_it_expires_or_after_two_days() -> None:
    def expiry(after: timedelta) -> timedelta:
        found = bounded_expiry(Proven(expires=int((NOW + after).timestamp())), NOW)
        assert found is not None
        return datetime.fromtimestamp(found, UTC) - NOW.replace(microsecond=0)

    assert expiry(timedelta(hours=1)) == timedelta(hours=1)
    assert expiry(timedelta(days=900)) == PROOF_LIFE
    assert bounded_expiry(Proven(), NOW) is None


def test_nothing_is_imported_once_the_sandbox_is_entered(feed: FeedSimulator, tmp_path: Path) -> None:
    """In a process that has only what the job has loaded before."""
    files = {"root": feed.root, "body": feed.live, "signature": metadata(feed).to_bytes()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    program = """
import importlib, io, sys
from datetime import UTC, datetime
from pathlib import Path
from blocklistd.sources.intake import job
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.proofs.proof import Claim
for name in PROOFS["tuf"].imports:
    importlib.import_module(name)
root, body, signature = (Path(sys.argv[1], name).read_bytes() for name in ("root", "body", "signature"))
claim = Claim(signature, (root.decode(),), datetime.now(UTC), io.BytesIO(), None, "tuf+https://feed.example/national")
loaded = set(sys.modules)
PROOFS["tuf"].verify(io.BytesIO(body), claim)
print(*(set(sys.modules) - loaded))
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize("body", [b"", b"x", b"%s\n", b"%s%s"])
def test_another_body_is_refused(feed: FeedSimulator, body: bytes) -> None:
    with pytest.raises(VerifyError, match="the list is not the signed one"):
        verify(feed, body.replace(b"%s", feed.live), metadata(feed).to_bytes())


def test_a_diff_makes_the_signed_list_or_is_refused(feed: FeedSimulator) -> None:
    before = feed.live
    feed.publish("one.example", "three.example")
    diff = difference(before, feed.live)
    signature = metadata(feed).to_bytes()
    _, written = verify(feed, diff, signature, earlier=before)
    assert written == feed.live
    assert verify(feed, b"", signature, earlier=feed.live)[1] == feed.live
    for wrong in (b"", diff[:-1], diff + b"x\n", diff.replace(b"three", b"thr3e"), b"\0" * (2 << 20)):
        with pytest.raises(VerifyError, match="the diff does not lead from the last version to the signed one"):
            verify(feed, wrong, signature, earlier=before)
    with pytest.raises(VerifyError, match="does not lead from"):
        verify(feed, diff, signature, earlier=feed.live)


def test_a_diff_never_makes_an_empty_list(feed: FeedSimulator) -> None:
    before = feed.live
    feed.publish()
    with pytest.raises(VerifyError, match="does not lead from"):
        verify(feed, difference(before, b""), metadata(feed).to_bytes(), earlier=before)
    verify(feed, b"", metadata(feed).to_bytes())


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused(feed: FeedSimulator, data: st.DataObject) -> None:
    """Bytes outside of the signed part may differ only where JSON means the same."""
    signature = metadata(feed).to_bytes()
    at = data.draw(st.integers(0, len(signature) - 1))
    changed = bytearray(signature)
    changed[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        verify(feed, feed.live, bytes(changed))
    except VerifyError:
        return
    assert _meaning(bytes(changed)) == _meaning(signature)


def _meaning(signature: bytes) -> list[object]:
    found = SignedMetadata.from_bytes(signature)
    return [Metadata.from_bytes(one).signed for one in (found.timestamp, found.snapshot, found.targets)]


def test_the_signature_is_the_metadata_files_and_nothing_else(feed: FeedSimulator) -> None:
    signature = metadata(feed).to_bytes()
    for wrong in (
        None,
        b"",
        b"x",
        signature[:-1],
        signature + b"x",
        signature * 2,
        signature.replace(b"t.json", b"t.j"),
    ):
        with pytest.raises(VerifyError, match="no TUF metadata arrived"):
            verify(feed, feed.live, wrong)


def test_metadata_of_another_list_role_or_time_is_refused(feed: FeedSimulator) -> None:
    good = metadata(feed)
    with pytest.raises(VerifyError, match="signed for another list"):
        verify(feed, feed.live, good.to_bytes(), url="tuf+https://feed.example/other")
    for mixed in (
        replace(good, snapshot=good.targets),
        replace(good, targets=good.snapshot),
        replace(good, timestamp=good.snapshot),
    ):
        with pytest.raises(VerifyError, match="a file is not the one that the metadata names"):
            verify(feed, feed.live, mixed.to_bytes())
    feed.sign()
    newer = metadata(feed)
    for mixed in (replace(newer, snapshot=good.snapshot), replace(newer, targets=good.targets)):
        with pytest.raises(VerifyError, match="a file is not the one that the metadata names"):
            verify(feed, feed.live, mixed.to_bytes())
    feed.custom = {"list": "other"}
    feed.sign()
    with pytest.raises(VerifyError, match="signed for another list"):
        verify(feed, feed.live, metadata(feed).to_bytes())
    feed.start_over()
    feed.sign()
    with pytest.raises(VerifyError, match="no version yet"):
        verify(feed, b"", metadata(feed).to_bytes())


def test_a_withheld_root_does_not_bring_back_the_keys_that_it_replaced(feed: FeedSimulator) -> None:
    """A thief of the online key serves newer timestamps under the old root; a mirror answers 404 for the new one."""
    old_root, new_root, new_online = (
        feed._root_keys[0],
        CryptoSigner.generate_ed25519(),
        CryptoSigner.generate_ed25519(),
    )
    stolen = feed._online
    second = root(2, new_root, new_online, signed_by=(old_root, new_root))
    feed._online = new_online
    feed.sign()
    accepted = verify(feed, feed.live, metadata(feed, _2=second).to_bytes())[0].sequence
    feed._online = stolen
    for _ in range(5):
        feed.sign()
    forged = verify(feed, feed.live, metadata(feed).to_bytes())[0].sequence
    assert accepted is not None
    assert forged is not None
    assert forged < accepted, "which check_replay refuses"


def test_root_keys_rotate_one_version_at_a_time(feed: FeedSimulator) -> None:
    old_root, new_root, new_online = (
        feed._root_keys[0],
        CryptoSigner.generate_ed25519(),
        CryptoSigner.generate_ed25519(),
    )
    second = root(2, new_root, feed._online, signed_by=(old_root, new_root))
    third = root(3, new_root, new_online, signed_by=(new_root,))
    assert verify(feed, feed.live, metadata(feed, _2=second).to_bytes())[0].sequence == 2 * 10**12 + 2
    feed._online = new_online
    feed.sign()
    assert verify(feed, feed.live, metadata(feed, _2=second, _3=third).to_bytes())[0].sequence == 3 * 10**12 + 3
    with pytest.raises(VerifyError, match=r"not signed by the keys in root\.json"):
        verify(feed, feed.live, metadata(feed, _2=second).to_bytes())
    forged = root(3, new_root, new_online, signed_by=(CryptoSigner.generate_ed25519(),))
    for roots in ({"_3": third}, {"_2": second, "_3": forged}, {"_2": second, "_3": second}, {"_2": b"{}"}):
        with pytest.raises(VerifyError, match=r"a newer root\.json is not signed by the keys of the one before"):
            verify(feed, feed.live, metadata(feed, **roots).to_bytes())
    expired = root(2, new_root, feed._online, signed_by=(old_root, new_root), expires=NOW - timedelta(1))
    with pytest.raises(StaleError, match=r"root\.json expired"):
        verify(feed, feed.live, metadata(feed, _2=expired).to_bytes())


def root(
    version: int,
    key: CryptoSigner,
    online: CryptoSigner,
    signed_by: tuple[CryptoSigner, ...],
    expires: datetime = NOW + timedelta(days=30),
) -> bytes:
    made = Root(version=version, expires=expires, consistent_snapshot=True)
    made.add_key(key.public_key, "root")
    for role in ("timestamp", "snapshot", "targets"):
        made.add_key(online.public_key, role)
    signed = Metadata(made)
    for signer in signed_by:
        signed.sign(signer, append=True)
    return signed.to_bytes()


def test_another_publishers_root_is_found_out(feed: FeedSimulator) -> None:
    other = FeedSimulator()
    try:
        claim = Claim(
            metadata(feed).to_bytes(),
            (PROOF.read_key(other.root),),
            NOW,
            io.BytesIO(),
            None,
            f"tuf+https://feed.example/{LIST}",
        )
        with pytest.raises(VerifyError, match=r"check that `verify\.key` is this publisher's root\.json"):
            PROOF.verify(io.BytesIO(feed.live), claim)
    finally:
        other.close()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[1]", b'{"signed":{}}', b'{"signed":1,"signatures":[]}'])
def test_a_key_that_is_no_root_is_refused(content: bytes, feed: FeedSimulator) -> None:
    changed = json.loads(feed.root)
    changed["signed"]["version"] = 2
    for wrong in (content, feed.metadata["timestamp.json"], json.dumps(changed).encode()):
        with pytest.raises(VerifyError, match=r"not a root\.json that is signed by its own keys"):
            PROOF.read_key(wrong)

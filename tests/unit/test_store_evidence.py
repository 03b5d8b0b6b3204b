"""Bodies are kept as they arrived, within bounds of bytes, age and number; refused ones are the first to be dropped."""

from __future__ import annotations

import hashlib
import io
import os
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

from blocklistd.errors import RefusedError, StoreError
from blocklistd.model import Outcome, Sha256, SourceId, TlsPeer
from blocklistd.store import evidence
from blocklistd.store.encrypted import FileKey
from blocklistd.store.evidence import Bound, Listed
from blocklistd.store.evidence_record import EvidenceRecord, Verdict
from blocklistd.store.store import Store
from tests.versions_of import report

HOTLINE = SourceId("hotline")
NOW = datetime(2026, 11, 28, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = FileKey(bytes(range(32)))
PEER = TlsPeer(Sha256("1" * 64), Sha256("2" * 64))
ACCEPTED, REFUSED, HELD = Verdict.ACCEPTED, Verdict.REFUSED, Verdict.HELD


def random_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress."""
    return random.Random(f"{size} {seed}").randbytes(size)


def record(content: bytes, now: datetime = NOW, verdict: Verdict = ACCEPTED, **more: Any) -> EvidenceRecord:
    digest = Sha256(hashlib.sha256(content).hexdigest())
    fields: dict[str, Any] = {"encoding": "identity", "proof": "minisign", "format": "text", "signature": b"signed\n"}
    url = "https://hotline.example/list.txt"
    made = EvidenceRecord(HOTLINE, now, verdict, url, digest, len(content), **fields)
    return replace(made, **more)


def keep(
    store: Store,
    content: bytes,
    now: datetime = NOW,
    verdict: Verdict = ACCEPTED,
    bound: Bound | None = None,
    key: FileKey | None = None,
    **more: Any,
) -> str | None:
    return evidence.keep(store, record(content, now, verdict, **more), io.BytesIO(content), bound or Bound(), key)


def kept(store: Store, key: FileKey | None = None) -> list[Listed]:
    return evidence.listed(store, HOTLINE, key)


def lengths(store: Store) -> list[int]:
    """The lengths of the kept bodies, oldest first."""
    return [one.record.length for one in reversed(kept(store)) if one.record is not None]


def total(store: Store) -> int:
    return sum(path.stat().st_size for path in (store.evidence / HOTLINE).iterdir())


def body_of(store: Store, name: str, key: FileKey | None = None) -> bytes:
    out = io.BytesIO()
    evidence.copy_body(store, HOTLINE, name, key, out)
    return out.getvalue()


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("content", [b"", b"a.example\n", b"b.example\n" * 50_000, random_bytes(3_000_000)])
def test_a_body_is_kept_as_it_arrived_with_its_record(tmp_path: Path, key: FileKey | None, content: bytes) -> None:
    store = Store(tmp_path)
    made = record(
        content,
        outcome=Outcome.PUBLISHED,
        report=report(Sha256("3" * 64)),
        peer=PEER,
        key=Sha256("4" * 64),
        signed_at=1_700_000_000,
        versions={"national": 3},
    )
    name = evidence.keep(store, made, io.BytesIO(content), Bound(), key)
    assert name is not None
    assert body_of(store, name, key) == content
    (found,) = kept(store, key)
    assert found.record == made
    assert (found.name, found.time, found.verdict, found.body, found.problem) == (name, NOW, ACCEPTED, True, None)
    assert found.bytes == total(store)


def test_a_plain_body_is_a_zstandard_file_that_any_program_reads(tmp_path: Path) -> None:
    store, content = Store(tmp_path), b"a.example\n" * 1000
    name = keep(store, content)
    path = store.evidence / HOTLINE / f"{name}.zst"
    assert path.stat().st_size < 100
    with open(path, "rb") as file:
        assert zstandard.ZstdDecompressor().stream_reader(file).read() == content


def test_encrypted_evidence_contains_no_byte_run_of_the_body_or_the_record(tmp_path: Path) -> None:
    store, content = Store(tmp_path), random_bytes(200_000)
    text = b"https://hotline.example/list.txt"
    assert keep(store, content, key=KEY) is not None
    names = os.listdir(store.evidence / HOTLINE)
    stored = b"".join((store.evidence / HOTLINE / name).read_bytes() for name in names)
    assert not any(content[start : start + 8] in stored for start in range(0, len(content) - 8, 37))
    made = record(content)
    for word in (text, b"hotline", b"signed", made.sha256.encode(), made.sha256[:8].encode()):
        assert word not in stored
        assert not any(word in name.encode() for name in names)


def test_the_same_bytes_are_kept_once_with_a_record_of_each_new_signature(tmp_path: Path) -> None:
    store, content = Store(tmp_path), b"a.example\n"
    assert keep(store, content) is not None
    assert keep(store, content, NOW + DAY) is None, "nothing new"
    name = keep(store, content, NOW + 2 * DAY, signature=b"signed again")
    assert name is not None
    assert keep(store, content, NOW + 3 * DAY, signature=b"signed again") is None
    assert len(list((store.evidence / HOTLINE).glob("*.zst"))) == 1
    assert [one.record and one.record.signature for one in kept(store)] == [b"signed again", b"signed\n"]
    assert body_of(store, name) == content, "by the name of any of its records"
    keep(store, b"b.example\n", NOW + 4 * DAY)
    assert keep(store, content, NOW + 5 * DAY) is not None, "another body came between"
    assert len(list((store.evidence / HOTLINE).glob("*.zst"))) == 3


def test_a_refused_body_that_is_accepted_later_gets_a_record(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, b"a.example\n", verdict=REFUSED)
    assert keep(store, b"a.example\n", NOW + DAY) is not None
    assert [one.verdict for one in kept(store)] == [ACCEPTED, REFUSED]


def test_records_of_one_body_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "EVIDENCE_RECORDS", 3)
    store = Store(tmp_path)
    for number in range(9):
        keep(store, b"a.example\n", NOW + number * DAY, signature=b"%d" % number)
    assert [one.record and one.record.signature for one in kept(store)] == [b"8", b"7", b"6", b"0"]


def test_evidence_never_has_more_bytes_than_its_bound(tmp_path: Path) -> None:
    store, bound = Store(tmp_path), Bound(max_bytes=9_000)
    for number, size in enumerate((1000, 2000, 3000, 3000, 7500)):
        assert keep(store, random_bytes(size, number), NOW + number * DAY, bound=bound) is not None
        assert total(store) <= bound.max_bytes
    assert lengths(store) == [7500], "the oldest are dropped first"


def test_refused_bodies_are_dropped_first(tmp_path: Path) -> None:
    store, bound = Store(tmp_path), Bound(max_bytes=9_000)
    for number, verdict in enumerate((ACCEPTED, REFUSED, HELD, REFUSED)):
        keep(store, random_bytes(1500, number), NOW + number * DAY, verdict, bound)
    assert [one.verdict for one in kept(store)] == [REFUSED, HELD, REFUSED, ACCEPTED]
    keep(store, random_bytes(1500, 4), NOW + 4 * DAY, bound=bound)
    assert [one.verdict for one in kept(store)] == [ACCEPTED, REFUSED, HELD, ACCEPTED], "the oldest refused one"
    keep(store, random_bytes(3000, 5), NOW + 5 * DAY, bound=bound)
    assert [one.verdict for one in kept(store)] == [ACCEPTED, ACCEPTED, HELD]


def test_a_refused_body_does_not_drop_accepted_ones(tmp_path: Path) -> None:
    store, bound = Store(tmp_path), Bound(max_bytes=9_000)
    for number in range(4):
        keep(store, random_bytes(1500, number), NOW + number * DAY, bound=bound)
    assert keep(store, random_bytes(4000, 9), NOW + 9 * DAY, REFUSED, bound) is None
    assert [one.verdict for one in kept(store)] == [ACCEPTED] * 4


def test_a_body_that_alone_exceeds_the_bound_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, bound = Store(tmp_path), Bound(max_bytes=5_000)
    keep(store, random_bytes(1000), bound=bound)
    assert keep(store, random_bytes(5_001), NOW + DAY, bound=bound) is None
    assert keep(store, random_bytes(4_800), NOW + DAY, bound=bound) is None, "the record counts too"
    assert caplog.text.count("is not kept as evidence: raise `evidence.max_bytes`") == 2


def test_evidence_expires_after_its_age_but_for_the_newest_accepted_body(tmp_path: Path) -> None:
    store, bound = Store(tmp_path), Bound(keep=7 * DAY)
    for number, verdict in enumerate((ACCEPTED, REFUSED, ACCEPTED, REFUSED)):
        keep(store, b"%d" % number, NOW + number * DAY, verdict, bound)
    evidence.expire(store, {HOTLINE: bound}, NOW + 8 * DAY)
    assert [one.verdict for one in kept(store)] == [REFUSED, ACCEPTED, REFUSED]
    evidence.expire(store, {HOTLINE: bound}, NOW + 80 * DAY)
    assert [one.time for one in kept(store)] == [NOW + 2 * DAY], "the proof of what is live"
    evidence.expire(store, {}, NOW + 91 * DAY)
    assert len(kept(store)) == 1, "a source that is not configured has the default bound"
    evidence.expire(store, {}, NOW + 93 * DAY)
    assert total(store) == 0


def test_a_body_is_as_old_as_its_newest_record(tmp_path: Path) -> None:
    store, bound = Store(tmp_path), Bound(keep=7 * DAY)
    keep(store, b"a.example\n", NOW, bound=bound)
    keep(store, b"a.example\n", NOW + 6 * DAY, signature=b"again", bound=bound)
    keep(store, b"b.example\n", NOW + 7 * DAY, bound=bound)
    evidence.expire(store, {HOTLINE: bound}, NOW + 10 * DAY)
    assert len(kept(store)) == 3


def test_the_number_of_bodies_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "EVIDENCE_BODIES", 3)
    store = Store(tmp_path)
    for number in range(6):
        keep(store, b"x" * number)
    assert lengths(store) == [3, 4, 5], "in the same microsecond, too"


def test_expiry_without_evidence_does_nothing(tmp_path: Path) -> None:
    evidence.expire(Store(tmp_path), {}, NOW)
    assert not (tmp_path / "evidence").exists()
    assert kept(Store(tmp_path)) == []


def test_refused_bodies_of_version_0_3_0_are_listed_and_expire(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.evidence / HOTLINE
    folder.mkdir(parents=True)
    (folder / "20261120T000000-0123abcd.body").write_bytes(b"old\n")
    (folder / "20261120T000000-0123abcd.minisig").write_bytes(b"signed\n")
    (found,) = kept(store)
    assert (found.verdict, found.bytes, found.time, found.body) == (
        REFUSED,
        11,
        datetime(2026, 11, 20, tzinfo=UTC),
        True,
    )
    assert (found.record, found.problem) == (None, None)
    assert body_of(store, found.name) == b"old\n"
    keep(store, b"a.example\n", bound=Bound(max_bytes=2000))
    assert len(kept(store)) == 2
    evidence.expire(store, {HOTLINE: Bound(keep=7 * DAY)}, NOW)
    assert [one.verdict for one in kept(store)] == [ACCEPTED]


def test_a_body_whose_record_a_crash_prevented_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    name = keep(store, b"a.example\n")
    (store.evidence / HOTLINE / f"{name}.json").unlink()
    (found,) = kept(store)
    assert found.problem == "damaged: restore it from a backup, or delete it"
    (store.evidence / HOTLINE / ".draft-0123456789abcdef").write_bytes(b"unfinished")
    evidence.expire(store, {HOTLINE: Bound()}, NOW)
    assert list((store.evidence / HOTLINE).iterdir()) == []


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("suffix", ["zst", "json"])
def test_damaged_evidence_is_reported(tmp_path: Path, key: FileKey | None, suffix: str) -> None:
    store, content = Store(tmp_path), random_bytes(200_000)
    name = keep(store, content, key=key)
    assert name is not None
    (path,) = (store.evidence / HOTLINE).glob(f"{name}.{suffix}*")
    intact = path.read_bytes()
    for damaged in (b"", intact[:-10], intact[: len(intact) // 2], bytes([intact[0] ^ 1]) + intact[1:]):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=f"evidence {name} of source hotline: damaged"):
            body_of(store, name, key)
        (found,) = kept(store, key)
        assert (found.problem is not None and found.problem.startswith("damaged")) == (suffix == "json")
        assert keep(store, b"other", NOW + DAY, key=key) is not None, "the next body is kept"
        for added in (store.evidence / HOTLINE).glob(f"{NOW + DAY:%Y%m%d}*"):
            added.unlink()
    path.write_bytes(intact)
    assert body_of(store, name, key) == content


def test_a_lost_body_keeps_its_record(tmp_path: Path) -> None:
    store, content = Store(tmp_path), b"a.example\n"
    name = keep(store, content)
    assert name is not None
    (store.evidence / HOTLINE / f"{name}.zst").unlink()
    (found,) = kept(store)
    assert (found.body, found.record) == (False, record(content))
    with pytest.raises(RefusedError, match="there is no such evidence"):
        body_of(store, name)
    assert keep(store, content, NOW + DAY) is not None, "its body is kept again"
    assert body_of(store, kept(store)[0].name) == content


def test_evidence_of_an_earlier_key_says_so(tmp_path: Path) -> None:
    store, content = Store(tmp_path), b"a.example\n"
    first = keep(store, content, key=KEY)
    assert first is not None
    other = FileKey(b"\7" * 32)
    for key in (other, None):
        with pytest.raises(StoreError, match=f"encrypted with the key {KEY.fingerprint}"):
            body_of(store, first, key)
        assert [one.problem for one in kept(store, key)] == [
            f"encrypted with the key {KEY.fingerprint}: put that secret into `evidence.key` to read it"
        ]
    second = keep(store, content, NOW + DAY, key=other)
    assert second is not None, "whether it is the same can't be known"
    assert body_of(store, second, other) == content


def test_a_full_disk_is_a_store_error_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="the disk is full"):
        keep(store, b"a.example\n")
    assert list((store.evidence / HOTLINE).iterdir()) == []


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"null", b"\xff", b'{"record":1}', b'{"record":2}', b'{"record":1,"time":3}']
)
def test_a_text_that_is_no_record_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a record"):
        EvidenceRecord.from_bytes(text)

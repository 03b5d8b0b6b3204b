"""Refused bodies are kept within bounds of bytes, age and number; the newest ones stay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocklistd.model import Fetched, Sha256, SourceId
from blocklistd.store import evidence
from blocklistd.store.evidence import Bound
from blocklistd.store.store import Store

HOTLINE = SourceId("hotline")
NOW = datetime(2026, 11, 28, tzinfo=UTC)
DAY = timedelta(days=1)


def refuse(store: Store, now: datetime, size: int, bound: Bound, signature: bytes | None = b"s") -> Path | None:
    body = store.state_dir / "body"
    body.write_bytes(b"x" * size)
    return evidence.keep(store, HOTLINE, Fetched(body, size, Sha256("0" * 64), signature=signature), now, bound)


def sizes(store: Store) -> list[int]:
    """The sizes of the bodies in bytes, oldest first."""
    return [path.stat().st_size for path in sorted((store.evidence / HOTLINE).glob("*.body"))]


def total(store: Store) -> int:
    return sum(path.stat().st_size for path in (store.evidence / HOTLINE).iterdir())


def test_refused_bodies_never_have_more_bytes_than_their_bound(tmp_path: Path) -> None:
    store, bound = Store(tmp_path), Bound(max_bytes=100)
    for number, size in enumerate((30, 31, 32, 33, 99)):
        kept = refuse(store, NOW + number * DAY, size, bound)
        assert kept is not None
        assert kept.stat().st_size == size
        assert kept.with_suffix(".minisig").read_bytes() == b"s"
        assert total(store) <= bound.max_bytes
    assert sizes(store) == [99], "the oldest are dropped first"


def test_a_refused_body_that_is_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    store, bound = Store(tmp_path), Bound(max_bytes=100)
    refuse(store, NOW, 50, bound)
    assert refuse(store, NOW + DAY, 100, bound) is None, "the signature counts too"
    assert sizes(store) == [50]


def test_refused_bodies_expire_after_their_age(tmp_path: Path) -> None:
    store, bound = Store(tmp_path), Bound(keep=7 * DAY)
    for number in range(4):
        refuse(store, NOW + number * DAY, number + 1, bound)
    evidence.expire(store, {HOTLINE: bound}, NOW + 8 * DAY)
    assert sizes(store) == [2, 3, 4]
    evidence.expire(store, {HOTLINE: Bound(keep=7 * DAY, max_bytes=6)}, NOW + 8 * DAY)
    assert sizes(store) == [4], "a smaller bound takes effect at the next upkeep"
    evidence.expire(store, {}, NOW + 92 * DAY)
    assert sizes(store) == [4], "a source that is not configured has the default bound"
    evidence.expire(store, {}, NOW + 94 * DAY)
    assert total(store) == 0


def test_the_number_of_refused_bodies_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "EVIDENCE_BODIES", 3)
    store = Store(tmp_path)
    for number in range(6):
        refuse(store, NOW + timedelta(seconds=number), number, Bound(), None)
    assert sizes(store) == [3, 4, 5]


def test_expiry_without_evidence_does_nothing(tmp_path: Path) -> None:
    evidence.expire(Store(tmp_path), {}, NOW)
    assert not (tmp_path / "evidence").exists()

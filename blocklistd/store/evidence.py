"""Refused bodies, kept as evidence for the operator and the hotline. blocklistd does not read them again.

On the disk, in STATE_DIR/evidence, for each body: `SOURCE/TIME-RANDOM.body`, and `SOURCE/TIME-RANDOM.minisig` with its
signature, if it had one; TIME is in UTC. For each source they are bounded in bytes, age and number, so that a hotline
can't fill the disk; the oldest are dropped first.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from blocklistd.errors import store_errors
from blocklistd.events import Event
from blocklistd.limits import EVIDENCE_BODIES, EVIDENCE_BYTES, EVIDENCE_DAYS
from blocklistd.model import Fetched, SourceId
from blocklistd.store.store import Store

log: Final = logging.getLogger(__name__)

BODY: Final = ".body"
SIGNATURE: Final = ".minisig"
_TIME: Final = "%Y%m%dT%H%M%S"  # in UTC: names sort by time


@dataclass(frozen=True, slots=True)
class Bound:
    """The bound of one source's evidence: `keep` is the maximum age, `max_bytes` includes signatures."""

    keep: timedelta = timedelta(days=EVIDENCE_DAYS)
    max_bytes: int = EVIDENCE_BYTES


def keep(store: Store, source: SourceId, body: Fetched, now: datetime, bound: Bound) -> Path | None:
    """Moves a refused body and its signature into the source's folder, after dropping older ones to stay within the
    bound. Returns the body's new path. A body that alone exceeds the bound is not kept: then None. Raises StoreError.
    """
    folder = store.evidence / source
    signature = body.signature or b""
    room = bound.max_bytes - body.length - len(signature)
    if room < 0:
        Event.EVIDENCE_NOT_STORED.log(log, source=source, bytes=body.length)
        return None
    with store_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _drop(folder, now - bound.keep, room, EVIDENCE_BODIES - 1)
        kept = folder / f"{now:{_TIME}}-{secrets.token_hex(4)}{BODY}"
        if signature:
            kept.with_suffix(SIGNATURE).write_bytes(signature)
        body.body.replace(kept)
    return kept


def expire(store: Store, bounds: Mapping[SourceId, Bound], now: datetime) -> None:
    """Drops evidence that exceeds the bound of its source. A source that is not configured any more has the default
    bound. Raises StoreError."""
    with store_errors(store.evidence):
        for folder in store.evidence.iterdir() if store.evidence.is_dir() else ():
            bound = bounds.get(SourceId(folder.name), Bound())
            _drop(folder, now - bound.keep, bound.max_bytes, EVIDENCE_BODIES)


def _drop(folder: Path, oldest: datetime, max_bytes: int, count: int) -> None:
    """Keeps the newest `count` bodies, of at most `max_bytes` in total and not older than `oldest`; drops the rest."""
    found: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        found.setdefault(path.stem, []).append(path)
    for name in sorted(found, reverse=True):
        max_bytes -= sum(path.stat().st_size for path in found[name])
        count -= 1
        if max_bytes < 0 or count < 0 or name < oldest.strftime(_TIME):
            for path in found[name]:
                path.unlink(missing_ok=True)

"""Refused bodies, kept for the operator and the hotline to look at; nothing reads them again."""

from __future__ import annotations

import secrets
from datetime import datetime
from pathlib import Path

from blocklistd.errors import store_errors
from blocklistd.limits import MAX_EVIDENCE_PER_SOURCE
from blocklistd.model import Fetched, SourceId
from blocklistd.store.store import Store


def keep(store: Store, source: SourceId, body: Fetched, now: datetime) -> Path:
    """Moves a body and its signature into the source's folder of evidence, and drops the oldest past the limit."""
    folder = store.evidence / source
    with store_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        kept = folder / f"{name}.body"
        if body.signature is not None:
            (folder / f"{name}.minisig").write_bytes(body.signature)
        body.body.replace(kept)
        for old in sorted(folder.glob("*.body"))[:-MAX_EVIDENCE_PER_SOURCE]:
            old.unlink(missing_ok=True)
            old.with_suffix(".minisig").unlink(missing_ok=True)
    return kept

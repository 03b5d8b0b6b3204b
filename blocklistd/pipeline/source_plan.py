"""The configuration of a source, as the pipeline needs it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from blocklistd.kinds import CANONICALISER
from blocklistd.limits import MAX_FUTURE
from blocklistd.model import ListId, Sha256, SourceId, Validators
from blocklistd.sources.proofs import PROOFS
from blocklistd.sources.transports.transport import Request
from blocklistd.store.evidence import Bound


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """The configuration of a source, as the pipeline needs it.

    `request` makes the request of a pull from the validators of the last one. `proof` is one of PROOFS; `key` is the
    verification key as that proof reads it. `lists`: the lists that take the source, in any order. `options`: more
    options of the format (FormatOptions). `unusable`: if not empty, each pull fails with this text, since a file that
    the source needs can't be read.
    """

    id: SourceId
    request: Callable[[Validators], Request]
    format: str
    fields: dict[str, str]
    defaults: dict[str, str]
    proof: str
    key: str | None
    lists: tuple[ListId, ...]
    quarantine: bool
    evidence: Bound = field(default_factory=Bound)
    max_future: timedelta = MAX_FUTURE
    max_age: timedelta = timedelta.max
    options: dict[str, Any] = field(default_factory=dict)
    unusable: str = ""

    @property
    def proves_origin(self) -> bool:
        """Whether the proof of this source verifies the origin of a body."""
        return PROOFS[self.proof].proves_origin

    @property
    def key_fingerprint(self) -> Sha256 | None:
        """The SHA-256 of the key, which stored signatures and times belong to; None if the proof has no key."""
        return Sha256(hashlib.sha256(self.key.encode()).hexdigest()) if self.key is not None else None

    @property
    def settings(self) -> str:
        """A digest of all settings that a body was fetched and read with. With other settings, a body has to be fetched
        and read again, even if it has not changed."""
        url = self.request(Validators()).url
        proof = self.key or (self.proof if self.proves_origin else None)
        read_with = (self.format, *(sorted(part.items()) for part in (self.fields, self.defaults, self.options)))
        parts = (url, *read_with, proof, CANONICALISER)
        return hashlib.sha256(repr(parts).encode()).hexdigest()  # a URL's query may hold a secret

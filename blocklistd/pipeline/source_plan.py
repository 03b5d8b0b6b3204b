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
from blocklistd.store.encrypted import FileKey
from blocklistd.store.evidence import Bound


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """The configuration of a source, as the pipeline needs it.

    `request` makes the request of a pull from the validators of the last one. `proof` is one of PROOFS; `keys` are the
    verification keys as that proof reads them. `lists`: the lists that take the source, in any order. `options`: more
    options of the format (FormatOptions). `unusable`: if not empty, each pull fails with this text, since a file that
    the source needs can't be read. `secret`: the key that decrypts the body; None if the body is not encrypted.
    `receipts`: this machine's name in the receipts that its publisher gets; "": it gets none.
    """

    id: SourceId
    request: Callable[[Validators], Request]
    format: str
    fields: dict[str, str]
    defaults: dict[str, str]
    proof: str
    keys: tuple[str, ...]
    lists: tuple[ListId, ...]
    quarantine: bool
    evidence: Bound = field(default_factory=Bound)
    evidence_key: FileKey | None = None
    max_future: timedelta = MAX_FUTURE
    max_age: timedelta = timedelta.max
    options: dict[str, Any] = field(default_factory=dict)
    unusable: str = ""
    secret: str | None = field(default=None, repr=False)
    receipts: str = ""

    @property
    def proves_origin(self) -> bool:
        """Whether the proof of this source verifies the origin of a body."""
        return PROOFS[self.proof].proves_origin

    @property
    def needs_own_job(self) -> bool:
        """Whether a secret key verifies or decrypts a body, in a job that has this key and no parser."""
        return PROOFS[self.proof].in_own_process or self.secret is not None

    @property
    def fingerprints(self) -> tuple[Sha256, ...]:
        """The fingerprints of the keys, which accepted times and signatures belong to."""
        return tuple(map(PROOFS[self.proof].fingerprint, self.keys))

    @property
    def location(self) -> Sha256:
        """The SHA-256 of the URL, which sequence numbers belong to. A URL's query may hold a secret."""
        return Sha256(hashlib.sha256(self.request(Validators()).url.encode()).hexdigest())

    @property
    def settings(self) -> str:
        """A digest of all settings that a body was fetched and read with. With other settings, a body has to be fetched
        and read again, even if it has not changed."""
        url = self.request(Validators()).url
        keys = self.keys[0] if len(self.keys) == 1 else self.keys  # one key makes the digest of earlier versions
        proof = keys or (self.proof if self.proves_origin else None)
        read_with = (self.format, *(sorted(part.items()) for part in (self.fields, self.defaults, self.options)))
        parts = (url, *read_with, proof, CANONICALISER, *(["decrypt"] if self.secret is not None else []))
        return hashlib.sha256(repr(parts).encode()).hexdigest()  # a URL's query may hold a secret

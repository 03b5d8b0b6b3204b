"""The record of a kept body: how it arrived, its proof of origin, and how its pull ended. Without any entry."""

from __future__ import annotations

import base64
import enum
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson

from blocklistd.model import CandidateId, Fetched, IntakeReport, ListId, Outcome, Sha256, SourceId, TlsPeer, Version
from blocklistd.times import rfc3339

FORMAT: Final = 1
"""Raised when a field changes its meaning."""


class Verdict(enum.StrEnum):
    """What the pull made of a body."""

    ACCEPTED = "accepted"
    """It was verified and read: its entries are what the source asserts."""
    HELD = "held"
    """It was accepted, and a guard held the change that it makes."""
    REFUSED = "refused"
    """It was not accepted: its proof or its content is not valid."""


@dataclass(frozen=True, slots=True)
class EvidenceRecord:
    """One arrival of a body. With it, its origin can be proven again without blocklistd.

    `time`: of the arrival. `url`: redacted. `sha256`, `length` (bytes), `encoding` (HTTP content coding): of the body
    as it arrived. `signature`: the bytes of the signature file, None if there was none. `proof`: the method. `key`:
    fingerprint of the key that verified it; None if unknown. `signed_at`: Unix seconds. `peer`: the TLS server.
    `continues`: whether the body only continues the one before. `format`: the source's, with which the body was read.
    `outcome`, `reason`, `candidate`, `versions` (of the lists): of the pull. `report`: of the intake job, if the body
    was accepted.
    """

    source: SourceId
    time: datetime
    verdict: Verdict
    url: str
    sha256: Sha256
    length: int
    encoding: str
    proof: str
    format: str
    signature: bytes | None = None
    key: Sha256 | None = None
    signed_at: int | None = None
    peer: TlsPeer | None = None
    continues: bool = False
    outcome: Outcome | None = None
    reason: str | None = None
    candidate: CandidateId | None = None
    versions: dict[ListId, Version] | None = None
    report: IntakeReport | None = None

    @classmethod
    def arrived(
        cls, source: SourceId, body: Fetched, time: datetime, *, proof: str, format: str, verdict: Verdict
    ) -> EvidenceRecord:
        """The record of a body, without what its proof and the end of its pull add."""
        return cls(
            source=source,
            time=time,
            verdict=verdict,
            url=body.url,
            sha256=body.sha256,
            length=body.length,
            encoding=body.encoding,
            proof=proof,
            format=format,
            signature=body.signature,
            peer=body.peer,
            continues=body.continues,
        )

    def accepted(self, report: IntakeReport) -> EvidenceRecord:
        """The record of an accepted body, with its proof. A report without a signature names the key of an earlier
        body."""
        return replace(
            self,
            verdict=Verdict.ACCEPTED,
            report=report,
            key=report.key if report.is_signed else None,
            signed_at=report.signed_at,
        )

    def is_repeated_by(self, newer: EvidenceRecord) -> bool:
        """Whether a newer record adds nothing: same bytes, signature and verdict."""
        return (self.sha256, self.signature, self.verdict) == (newer.sha256, newer.signature, newer.verdict)

    def to_bytes(self) -> bytes:
        """The record as one line of JSON."""
        fields = asdict(self) | {
            "record": FORMAT,
            "time": self.time.isoformat(),
            "signature": None if self.signature is None else base64.b64encode(self.signature).decode(),
        }
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS) + b"\n"

    @classmethod
    def from_bytes(cls, text: bytes) -> EvidenceRecord:
        """Reads what `to_bytes` writes. Raises ValueError for anything else."""
        try:
            fields: dict[str, Any] = orjson.loads(text)
            if fields.pop("record") != FORMAT:
                raise ValueError
            report, peer, signature = fields["report"], fields["peer"], fields["signature"]
            fields |= {
                "time": datetime.fromisoformat(fields["time"]),
                "verdict": Verdict(fields["verdict"]),
                "outcome": None if fields["outcome"] is None else Outcome(fields["outcome"]),
                "signature": None if signature is None else base64.b64decode(signature, validate=True),
                "peer": None if peer is None else TlsPeer(**peer),
                "report": None if report is None else IntakeReport(**report),
                "length": int(fields["length"]),
            }
            return cls(**fields)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError("not a record of a body") from None

    def document(self) -> dict[str, Any]:
        """The record for `source evidence`. The signature is in base64, times are RFC 3339 in UTC."""
        signed = None if self.signed_at is None else rfc3339(datetime.fromtimestamp(self.signed_at, self.time.tzinfo))
        fields: dict[str, Any] = orjson.loads(self.to_bytes())
        hidden = ("record", "report", "signed_at", "time", "verdict", "source")
        return {name: value for name, value in fields.items() if name not in hidden} | {"signed": signed}

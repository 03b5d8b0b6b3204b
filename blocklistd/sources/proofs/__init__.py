"""The proofs of origin. Each module here verifies bodies in one way, and ends with its `PROOF` (proof.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocklistd.sources.proofs import minisign, none, openpgp, pinned_tls, tsig, tuf
from blocklistd.sources.proofs.proof import Proof

__all__ = ["PROOFS"]

PROOFS: Final[Mapping[str, Proof]] = {
    "minisign": minisign.PROOF,
    "openpgp": openpgp.PROOF,
    "tuf": tuf.PROOF,
    "pinned-tls": pinned_tls.PROOF,
    "tsig": tsig.PROOF,
    "none": none.PROOF,
}
"""The proofs by the name of their method in the configuration (`verify.method`)."""

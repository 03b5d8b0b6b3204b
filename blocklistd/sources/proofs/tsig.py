"""The method `tsig`: the signatures of a zone transfer prove the origin (TSIG, RFC 8945).

The body itself proves nothing, and can't be verified again later. A replay is detected: an answer is signed for its
request.
"""

from __future__ import annotations

from typing import BinaryIO, Final

from blocklistd.sources.proofs.proof import Claim, Proof, Proven


def _verify(body: BinaryIO, claim: Claim) -> Proven:
    """Nothing to do: the transport has verified every message of the transfer."""
    return Proven()


PROOF: Final = Proof(_verify, needs_tsig=True)
"""The transport refuses every answer that the key of `auth.tsig` has not signed."""

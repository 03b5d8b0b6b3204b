"""Receipts: what the publisher learns of a version that this node applied, or failed to apply."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from blocklistd.client.feed import FeedClient
from blocklistd.client.mirrors import Emit
from blocklistd.client.options import Options
from blocklistd.client.state import SentReceipt, State
from blocklistd.errors import SyncError
from blocklistd.times import rfc3339_precise

_NO_RECEIPTS = (404, 405, 501)
"""Statuses of a feed that takes no receipts: a mirror, or an older publisher. That is no error."""
_FINAL = (400, 409, 410, 413, 415, 422)
"""Statuses with which the feed refuses a receipt for good."""


def receipt_for(options: Options, state: State, failure: str, probe: str | None, now: datetime) -> SentReceipt:
    """The receipt of the version in the folder. `failure`: why it is not applied, "" if it is.

    It is the last receipt, with its time, if nothing has changed since.
    """
    omitted, excepted = (counts.get(options.rendering or "", 0) for counts in (state.omitted, state.excepted))
    reasons = [
        *([f"{omitted} of {state.entries} entries can't be expressed in {options.format}"] if omitted else []),
        *([f"{excepted} of {state.entries} entries are withheld by local exceptions"] if excepted else []),
    ]
    if failure:
        what, reason = "failed", failure
    elif reasons:
        what, reason = "partial", ", ".join(reasons)
    else:
        what, reason = "applied", ""
    made = SentReceipt(
        state.session, state.version, options.node_name(), what, reason or None, rfc3339_precise(now), probe
    )
    last = state.receipt
    if last is not None and replace(made, applied_at=last.applied_at, taken=last.taken) == last:
        return last
    return made


def deliver(feed: FeedClient, receipt: SentReceipt, emit: Emit) -> SentReceipt:
    """Sends a receipt, and returns it as taken unless it must be sent again. A line says why it was not taken."""
    if receipt.taken:
        return receipt
    again = f"the receipt for version {receipt.version} was not taken: the next sync sends it again"
    try:
        status = feed.post("/receipts", receipt.document())
    except SyncError as error:
        emit(f"{error}; {again}")
        return receipt
    if status in _FINAL:
        refused = f"the publisher refused the receipt for version {receipt.version} with {status}"
        emit(f"{feed.base}: {refused}: ask the publisher")
    elif not 200 <= status < 300 and status not in _NO_RECEIPTS:
        emit(f"{feed.status_error(status)}; {again}")
        return receipt
    return replace(receipt, taken=True)

"""The effects of the commands (daemon/commands). A method reads the state, or passes the request to the pipeline.

Methods return a Document: the `--json` result of the command.
"""

from __future__ import annotations

from dataclasses import dataclass

from blocklistd.daemon.operations.audit import AuditOperations
from blocklistd.daemon.operations.candidates import CandidateOperations
from blocklistd.daemon.operations.keys import KeyOperations
from blocklistd.daemon.operations.lists import ListOperations
from blocklistd.daemon.operations.overview import Overview
from blocklistd.daemon.operations.sources import SourceOperations
from blocklistd.daemon.operations.state import StateOperations
from blocklistd.daemon.operations.subscribers import SubscriberOperations


@dataclass(frozen=True, slots=True)
class Operations:
    """All operations, by the object that they concern. Methods raise RefusedError or SubscriberError for a request that
    can't be done, and StoreError if the database can't be read or written."""

    overview: Overview
    sources: SourceOperations
    candidates: CandidateOperations
    lists: ListOperations
    subscribers: SubscriberOperations
    keys: KeyOperations
    audit: AuditOperations
    state: StateOperations

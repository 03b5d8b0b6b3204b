"""What the commands do (daemon/commands): each reads the state, or hands what was asked for to the pipeline."""

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
    """By what they are of. Methods raise RefusedError or SubscriberError for what can't be done."""

    overview: Overview
    sources: SourceOperations
    candidates: CandidateOperations
    lists: ListOperations
    subscribers: SubscriberOperations
    keys: KeyOperations
    audit: AuditOperations
    state: StateOperations

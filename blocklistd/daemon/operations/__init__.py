"""The effects of the commands (daemon/commands). A method reads the state, or passes the request to the pipeline.

Methods return a Document: the `--json` result of the command.
"""

from __future__ import annotations

from dataclasses import dataclass

from blocklistd.daemon.operations.alarms import AlarmOperations
from blocklistd.daemon.operations.audit import AuditOperations
from blocklistd.daemon.operations.backups import BackupOperations
from blocklistd.daemon.operations.candidates import CandidateOperations
from blocklistd.daemon.operations.corrections import CorrectionOperations
from blocklistd.daemon.operations.distrust import DistrustOperations
from blocklistd.daemon.operations.doctor import DoctorOperations
from blocklistd.daemon.operations.due import DueOperations
from blocklistd.daemon.operations.evidence import EvidenceOperations
from blocklistd.daemon.operations.explain import ExplainOperations
from blocklistd.daemon.operations.keys import KeyOperations
from blocklistd.daemon.operations.lists import ListOperations
from blocklistd.daemon.operations.node_report import NodeReportOperations
from blocklistd.daemon.operations.overview import Overview
from blocklistd.daemon.operations.report import ReportOperations
from blocklistd.daemon.operations.source_tests import SourceTestOperations
from blocklistd.daemon.operations.sources import SourceOperations
from blocklistd.daemon.operations.state import StateOperations
from blocklistd.daemon.operations.subscribers import SubscriberOperations


@dataclass(frozen=True, slots=True)
class Operations:
    """All operations, by the object that they concern. Methods raise RefusedError or SubscriberError for a request that
    can't be done, and StoreError if the database can't be read or written."""

    overview: Overview
    sources: SourceOperations
    tests: SourceTestOperations
    candidates: CandidateOperations
    lists: ListOperations
    report: ReportOperations
    node_report: NodeReportOperations
    subscribers: SubscriberOperations
    keys: KeyOperations
    audit: AuditOperations
    state: StateOperations
    evidence: EvidenceOperations
    distrust: DistrustOperations
    corrections: CorrectionOperations
    explain: ExplainOperations
    alarms: AlarmOperations
    due: DueOperations
    doctor: DoctorOperations
    backups: BackupOperations

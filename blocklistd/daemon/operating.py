"""Constructs the operations of the commands, from the parts of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocklistd.daemon import plans
from blocklistd.daemon.operations import Operations
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
from blocklistd.daemon.operations.free_text import FreeText
from blocklistd.daemon.operations.keys import KeyOperations
from blocklistd.daemon.operations.lists import ListOperations
from blocklistd.daemon.operations.node_report import NodeReportOperations
from blocklistd.daemon.operations.overview import Overview
from blocklistd.daemon.operations.report import ReportOperations
from blocklistd.daemon.operations.source_tests import SourceTestOperations
from blocklistd.daemon.operations.sources import SourceOperations
from blocklistd.daemon.operations.state import StateOperations
from blocklistd.daemon.operations.subscribers import SubscriberOperations
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.distrust import Distrust
from blocklistd.pipeline.dry_run import DryRuns
from blocklistd.pipeline.explain import Explainer
from blocklistd.pipeline.freezing import Freezing
from blocklistd.times import CheckedClock
from blocklistd.tls import has_untrusted_authority

if TYPE_CHECKING:
    from blocklistd.daemon.parts import Parts


def operations_of(parts: Parts, checked_clock: CheckedClock) -> Operations:
    """The operations of all commands on these parts."""
    resources, configured, releases = parts.resources, parts.configured, parts.releases
    store, database, clock = resources.store, resources.database, resources.clock
    rejected, due = parts.reconciler.rejected_policies, parts.due_counts.counts
    certificate = parts.certificate
    free_text, freezing = FreeText(database, store.sealed), Freezing(resources, releases, parts.reconciler)
    sources = SourceOperations(configured, database, parts.pipeline, clock, parts.scheduler.next_run)
    dry_runs = DryRuns(
        resources, releases, lambda source: plans.list_plans(parts.config, parts.guard_names.names, source)
    )
    subscribers = SubscriberOperations(
        *(configured, database, parts.admit_subscribers, parts.zones, parts.served_zones, clock, parts.access),
        dns=parts.dns,
        private_ca=lambda: certificate.context is not None and has_untrusted_authority(certificate.context),
        names_changed=lambda: releases.in_background(parts.tasks.do("guard files", parts.guard_names.refresh)),
        nodes=parts.nodes,
    )
    decisions = Decisions(releases, parts.reconciler, database, clock)

    keys = KeyOperations(configured, database, parts.publisher, clock, lambda: parts.housekeeping.check_alarms())

    def check_alarms() -> None:
        releases.in_background(parts.housekeeping.check_alarms())

    overview = Overview(
        *(database, parts.live_lists, parts.zones, sources, subscribers, parts.wrong, configured, rejected, due),
        root=keys.root_expiry,
        exceptions=parts.guard_names.exceptions.summary,
    )
    alarms = AlarmOperations(parts.delivery)
    return Operations(
        overview,
        sources,
        SourceTestOperations(configured, resources, dry_runs),
        CandidateOperations(configured, resources, decisions, free_text, check_alarms),
        ListOperations(database, parts.live_lists, parts.renderings, freezing, free_text, clock),
        ReportOperations(configured, database, clock),
        NodeReportOperations(resources, parts.zones, parts.nodes),
        *(subscribers, keys, AuditOperations(database)),
        StateOperations(resources, checked_clock, parts.resume, parts.reloading.run, rejected),
        EvidenceOperations(resources, parts.pipeline.evidence, lambda: releases.sources),
        DistrustOperations(database, Distrust(resources, releases, parts.pipeline), free_text, clock),
        CorrectionOperations(database, parts.corrections, free_text, clock),
        *(ExplainOperations(database, Explainer(resources, releases), clock), alarms),
        DueOperations(database, parts.due_entries, free_text, lambda: parts.housekeeping.count_due()),
        DoctorOperations(
            *(overview, resources.alarms, parts.readiness, lambda: parts.reloading.running, alarms.undelivered),
            *(parts.dns, parts.served_zones),
        ),
        BackupOperations(resources, lambda: parts.upkeep.without_sweep(), parts.repair_file),
    )

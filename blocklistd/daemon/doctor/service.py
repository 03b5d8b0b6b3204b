"""Checks of the service: alarms, sources, guards, lists, subscribers and the stored state.

Conditions that have an alarm are not judged again here: the check `alarms` takes the alarms of the running daemon, or
those that a daemon would raise for the state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Final

from blocklistd.config.values import format_duration
from blocklistd.daemon.doctor.check import Check, Finding, Level
from blocklistd.daemon.doctor.facts import Facts
from blocklistd.limits import (
    BEHIND_LEAST,
    BEHIND_REFRESHES,
    EVIDENCE_FULL_PARTS,
    NOTIFY_UNANSWERED,
    OLD_GUARD_FILE_DAYS,
    RECEIPT_DAYS,
    UPKEEP_MINUTES,
)
from blocklistd.model import ListId
from blocklistd.store.database import NEWEST_MIGRATION
from blocklistd.times import rfc3339

LATE_UPKEEP: Final = timedelta(minutes=2 * UPKEEP_MINUTES)
"""The most by which the daemon may be late in removing what is past its retention."""

KINDS: Final = {
    "halted": ("state", Level.CRITICAL),
    "database": ("state", Level.CRITICAL),
    "high_water": ("state", Level.CRITICAL),
    "housekeeping": ("state", Level.CRITICAL),
    "read_only": ("disk", Level.CRITICAL),
    "clock": ("clock", Level.CRITICAL),
    "client_ahead": ("subscribers", Level.CRITICAL),
    "configuration": ("configuration", Level.CRITICAL),
    "guard_file": ("guards", Level.CRITICAL),
    "exceptions": ("guards", Level.WARNING),
    "root": ("keys and certificates", Level.WARNING),
    "certificate": ("keys and certificates", Level.WARNING),
    "source_overdue": ("sources", Level.WARNING),
    "source_frozen": ("sources", Level.WARNING),
    "candidate_waiting": ("lists", Level.WARNING),
    "list_frozen": ("lists", Level.WARNING),
    "entries_due": ("lists", Level.WARNING),
    "policy_rejected": ("lists", Level.WARNING),
    "node_late": ("subscribers", Level.WARNING),
    "node_silent": ("subscribers", Level.WARNING),
    "probe_failed": ("subscribers", Level.WARNING),
}
"""The group and the level of each kind of alarm; a kind that is not here is a warning about the state."""


# -- alarms ------------------------------------------------------------------------------------------------------------
def _alarms(facts: Facts) -> Iterator[Finding]:
    for (kind, _), text in facts.alarms.items():
        if kind == "configuration" and facts.problems:
            continue  # the check of the configuration has it, as the file is now
        group, level = KINDS.get(kind, ("state", Level.WARNING))
        if kind in ("root", "certificate") and " expired" in text:
            level = Level.CRITICAL
        yield Finding(level, text, group)


# -- sources -----------------------------------------------------------------------------------------------------------
def _failed_pulls(facts: Facts) -> Iterator[Finding]:
    for name, source in facts.sources.items():
        if source["outcome"] == "failed":
            yield Finding(
                Level.WARNING,
                f"the last pull of source {name} failed: {source['reason']}"
                f": run `blocklistd source pull {name}` once that is corrected",
            )
        elif source["outcome"] is None:
            yield Finding(Level.NOTE, f"source {name} was never pulled: run `blocklistd source pull {name}`")


def _origins(facts: Facts) -> Iterator[Finding]:
    for name, source in facts.sources.items():
        if source["verify"] == "none":
            yield Finding(
                Level.NOTE,
                f"nothing proves the origin of source {name} (`verify: none`): ask the hotline for a signature",
            )
        if source["quarantine"]:
            yield Finding(
                Level.NOTE,
                f"source {name} is in quarantine, and in no list"
                f": run `blocklistd source test {name}`, then remove `quarantine`",
            )


# -- guards ------------------------------------------------------------------------------------------------------------
def _unguarded(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    for name, found in facts.config.lists.items():
        if not found.guards.never_block:
            yield Finding(
                Level.NOTE,
                f"list {name} has no `never_block`: a hotline's mistake could block names that must always work"
                ": name a file of them in `guards`",
            )


def _old_guard_files(facts: Facts) -> Iterator[Finding]:
    assert facts.host is not None
    for file in facts.host.guard_files:
        if facts.now - file.changed > timedelta(days=OLD_GUARD_FILE_DAYS):
            yield Finding(
                Level.NOTE,
                f"{file.path} ({file.guard} of list {file.list}) has not changed since {file.changed:%Y-%m-%d}"
                ": see whether its names are still right, then `touch` it",
            )


# -- lists -------------------------------------------------------------------------------------------------------------
def _held(facts: Facts) -> Iterator[Finding]:
    held: Mapping[ListId, int] = facts.stored.held if facts.stored is not None else {}
    if facts.daemon is not None:
        held = Counter(one["list"] for one in facts.daemon["status"]["candidates"])
    for name, count in held.items():
        yield Finding(
            Level.NOTE, f"list {name}: candidates that wait for a decision: {count}: run `blocklistd candidate list`"
        )


# -- subscribers -------------------------------------------------------------------------------------------------------
def _notify(facts: Facts) -> Iterator[Finding]:
    assert facts.daemon is not None
    for one in facts.daemon["notify"]:
        if one["unanswered"] >= NOTIFY_UNANSWERED:
            removal = f"`blocklistd subscriber set {one['subscriber']} --remove-notify {one['address']}`"
            yield Finding(
                Level.WARNING,
                f"{one['address']} of {one['subscriber']} does not acknowledge NOTIFY of zone {one['zone']}"
                f" ({one['unanswered']} requests): "
                "ask the provider to allow UDP from this server to that port, and NOTIFY in the name server"
                f"; if it is no longer used, run {removal}",
            )


def _behind(facts: Facts) -> Iterator[Finding]:
    """Secondaries of subscribers without an objective; the alarm node_late is about the others."""
    assert facts.daemon is not None
    refresh = {zone.name: zone.soa.refresh for zone in facts.config.served_zones} if facts.config is not None else {}
    for name, who in facts.daemon["status"]["subscribers"].items():
        if who["revoked"] or who["objective"]:
            continue
        for zone, found in who["zones"].items():
            allowed = max(BEHIND_REFRESHES * refresh.get(zone, timedelta()), BEHIND_LEAST)
            for one in found["secondaries"]:
                if one["lag"] is not None and one["lag"] > allowed.total_seconds():
                    since = format_duration(timedelta(minutes=one["lag"] // 60))
                    yield Finding(
                        Level.WARNING,
                        f"secondary {one['address']} of {name} has lacked the newest serial of zone {zone} for {since}"
                        ": ask the provider whether transfers over TCP succeed (its log says it)",
                    )


# -- state -------------------------------------------------------------------------------------------------------------
def _schema(facts: Facts) -> Iterator[Finding]:
    assert facts.stored is not None
    found = facts.stored.revision
    if found is not None and found > NEWEST_MIGRATION:
        yield Finding(
            Level.CRITICAL,
            f"the schema of the database is {found}, this program knows up to {NEWEST_MIGRATION}"
            ": install the newer blocklistd again, which wrote it",
        )
    elif found != NEWEST_MIGRATION:
        yield Finding(
            Level.NOTE,
            f"the schema of the database is {found or 'missing'}, and the next start upgrades it to {NEWEST_MIGRATION}"
            ": make a backup of the state_dir before",
        )


def _audit(facts: Facts) -> Iterator[Finding]:
    assert facts.stored is not None
    if facts.stored.audit is not None:
        yield Finding(
            Level.CRITICAL,
            f"the audit is not complete: {facts.stored.audit}"
            ": run `blocklistd audit verify`, and look for who changed the state_dir",
        )


def _retention(facts: Facts) -> Iterator[Finding]:
    """What the daemon should have removed; one that does not run removes nothing."""
    assert facts.stored is not None
    assert facts.config is not None
    oldest = facts.stored.oldest_receipt
    if oldest is not None and facts.now - oldest > timedelta(days=RECEIPT_DAYS) + LATE_UPKEEP:
        yield Finding(
            Level.WARNING,
            f"receipts since {rfc3339(oldest)} are kept, longer than {RECEIPT_DAYS} days"
            ": look for `housekeeping` in the log, then restart the daemon",
        )
    for name, usage in facts.stored.evidence.items():
        keep = facts.config.sources[name].evidence.keep
        if usage.oldest is not None and facts.now - usage.oldest > keep + LATE_UPKEEP:
            yield Finding(
                Level.WARNING,
                f"evidence of source {name} since {rfc3339(usage.oldest)} is kept, longer than evidence.keep"
                ": look for `housekeeping` in the log, then restart the daemon",
            )


def _short_evidence(facts: Facts) -> Iterator[Finding]:
    assert facts.stored is not None
    assert facts.config is not None
    for name, usage in facts.stored.evidence.items():
        bound = facts.config.sources[name].evidence
        is_full = usage.bytes * EVIDENCE_FULL_PARTS > bound.max_bytes * (EVIDENCE_FULL_PARTS - 1)
        if is_full and (usage.oldest is None or facts.now - usage.oldest < bound.keep):
            yield Finding(
                Level.WARNING,
                f"evidence of source {name} fills its evidence.max_bytes, so that bodies go before evidence.keep"
                f" ({format_duration(bound.keep)}): raise `max_bytes`, or lower `keep`",
            )


CHECKS: Final = (
    Check("alarms", "state", "each active alarm; without a daemon, each that the state would raise", _alarms),
    Check("pulls", "sources", "the last pull failed, or there was none", _failed_pulls),
    Check("origins", "sources", "a source without a proof of origin, or in quarantine", _origins),
    Check("never_block", "guards", "a list without names that must always work", _unguarded, ("config",)),
    Check("guard files", "guards", "a file of names that has not changed for a year", _old_guard_files, ("host",)),
    Check("held", "lists", "changes that wait for a decision", _held),
    Check("notify", "subscribers", "secondaries that do not acknowledge NOTIFY", _notify, ("daemon",)),
    Check("secondaries", "subscribers", "secondaries that are behind", _behind, ("daemon",)),
    Check("schema", "state", "a database of another version", _schema, ("stored",)),
    Check("audit", "state", "missing lines of the audit", _audit, ("stored",)),
    Check("retention", "state", "receipts or evidence older than allowed", _retention, ("daemon", "stored", "config")),
    Check("evidence", "state", "evidence that goes before its time", _short_evidence, ("stored", "config")),
)

"""The resources that the stages of the pipeline share, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from blocklistd.jobs.runner import Jobs
from blocklistd.serve.claims import Claims
from blocklistd.store.database import Database
from blocklistd.store.high_water import HighWater
from blocklistd.store.store import Store
from blocklistd.store.verified import Verified
from blocklistd.telemetry import ActiveAlarms, Telemetry
from blocklistd.times import Clock


@dataclass(frozen=True, slots=True)
class Resources:
    """The state on the disk (`store`, `database`), the sealed files that are known to be intact (`verified`), the
    processes that run jobs, the clock, the telemetry, the active alarms, the highest numbers that were served, and the
    claims of clients to hold higher ones."""

    store: Store
    database: Database
    jobs: Jobs
    verified: Verified
    clock: Clock
    telemetry: Telemetry
    alarms: ActiveAlarms = field(default_factory=ActiveAlarms)
    high_water: HighWater = field(default_factory=HighWater)
    claims: Claims = field(default_factory=Claims)

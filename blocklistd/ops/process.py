"""The process metrics of prometheus_client, also where systemd shows the daemon only its own part of /proc."""

from __future__ import annotations

import time

from prometheus_client.process_collector import ProcessCollector


class Process(ProcessCollector):
    """ProcessCollector without /proc/stat.

    The base class reads the time of boot there, and exports no metric where the file is missing, as under
    ProcSubset=pid (systemd.exec(5)).
    """

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

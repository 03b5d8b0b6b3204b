"""Memory, processor time and open files of the serving process, also where a unit shows it nothing else of /proc."""

from __future__ import annotations

import time

from prometheus_client.process_collector import ProcessCollector


class Process(ProcessCollector):
    """prometheus_client's. It takes the time of boot from /proc/stat, and where that is not there (systemd.exec(5),
    ProcSubset=pid) it says nothing at all."""

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)

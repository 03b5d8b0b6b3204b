"""The process's own metrics under the unit's ProcSubset=pid."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from blocklistd.ops.metrics import Metrics
from blocklistd.ops.process import Process


async def test_a_scrape_does_not_hold_the_loop() -> None:
    threads: list[threading.Thread] = []

    class Probe(Collector):
        def collect(self) -> Iterable[Metric]:
            threads.append(threading.current_thread())
            return ()

    metrics = Metrics()
    metrics.registry.register(Probe())
    threads.clear()
    text = await metrics.text()
    assert b"blocklistd_event_loop_lag_seconds_count" in text
    assert b"_created" not in text
    assert threads
    assert threading.current_thread() not in threads


def test_the_process_is_measured_without_the_rest_of_proc(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self")  # and no /proc/stat
    registry = CollectorRegistry()
    Process(proc=str(tmp_path), registry=registry)
    assert (registry.get_sample_value("process_resident_memory_bytes") or 0) > 2**20
    assert (registry.get_sample_value("process_open_fds") or 0) > 2
    began = registry.get_sample_value("process_start_time_seconds") or 0
    assert 0 <= time.time() - began < 86400

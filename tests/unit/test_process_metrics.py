"""The process's own metrics under the unit's ProcSubset=pid."""

from __future__ import annotations

import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from blocklistd.ops.process import Process


def test_the_process_is_measured_without_the_rest_of_proc(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("/proc/self")  # and no /proc/stat
    registry = CollectorRegistry()
    Process(proc=str(tmp_path), registry=registry)
    assert (registry.get_sample_value("process_resident_memory_bytes") or 0) > 2**20
    assert (registry.get_sample_value("process_open_fds") or 0) > 2
    began = registry.get_sample_value("process_start_time_seconds") or 0
    assert 0 <= time.time() - began < 86400

"""The daemon under the restrictions of its unit that work without systemd: system calls and memory."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.peers import peer
from tests.system.test_zones import Scene


def test_the_daemon_works_under_the_seccomp_filter_of_its_unit(tmp_path: Path) -> None:
    peer("systemd-analyze", "systemd")
    scene = Scene(tmp_path)
    scene.daemon.prefix = [sys.executable, "-m", "tests.system.filtered"]
    with scene.daemon as daemon:
        daemon.first_pull("hotline")
        secondary = scene.secondary("isp")
        secondary.refresh("AXFR")
        scene.publish(*(f"n{number}.example" for number in range(500)))
        assert secondary.refresh() == 2
        token = daemon.subscriber("provider", "national")
        assert len(daemon.snapshot("national", token).splitlines()) == 500
        assert daemon.get("/v1/lists/national/diffs/1-2", token, Accept_Encoding="gzip").status == 200
        assert daemon.stop() == 0

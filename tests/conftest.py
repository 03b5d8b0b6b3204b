"""Settings of all tests.

Hypothesis tries 100 examples of each property, the same ones in each run; with HYPOTHESIS_PROFILE=fuzz (`make fuzz`) it
tries 2,000 random ones. Temporary files are in /dev/shm if it has enough space: each store has 256 folders, and a busy
disk makes only 1,000 a second.
"""

from __future__ import annotations

import os
import tempfile
from typing import Final

import pytest
from hypothesis import settings

from tests.examples import PROFILE, examples
from tests.system.daemon import Daemon

settings.register_profile("default", derandomize=True)
settings.register_profile("fuzz", max_examples=examples(100), deadline=None)
settings.load_profile(PROFILE)

Daemon.in_forks = True

for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):  # tests read English, whatever the person who runs them does
    os.environ.pop(name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts slow tests first, so that none of them runs alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


MEMORY: Final = "/dev/shm"
ROOM: Final = 4 * 2**30  # bytes


def _in_memory() -> bool:
    if "TMPDIR" in os.environ or not os.path.isdir(MEMORY):
        return False
    found = os.statvfs(MEMORY)
    return found.f_bavail * found.f_frsize >= ROOM and not found.f_flag & os.ST_NOEXEC


if _in_memory():
    os.environ["TMPDIR"] = tempfile.tempdir = MEMORY

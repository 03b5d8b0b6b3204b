"""Programs of other projects that tests use: finds them, or skips the test."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def unchecked(why: str) -> NoReturn:
    """Skips the test. In CI (`CI=true`) the test fails instead: no check may be skipped there."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def peer(command: str, package: str) -> str:
    """The path of `command`, from the Debian package `package`. Calls `unchecked` if it is not installed."""
    found = shutil.which(command)
    if found is None:
        unchecked(f"{command} is not installed: apt-get install {package}")
    return found

"""Other people's programs that tests check against."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def unchecked(why: str) -> NoReturn:
    """Skips the test, and fails it in CI (`CI=true`), where nothing may go unchecked."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def peer(command: str, package: str) -> str:
    """The path of `command`, from the Debian package `package`.

    Where it is missing the test is `unchecked`.
    """
    found = shutil.which(command)
    if found is None:
        unchecked(f"{command} is not installed: apt-get install {package}")
    return found

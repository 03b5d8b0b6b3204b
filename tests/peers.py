"""Other people's programs that tests check against."""

from __future__ import annotations

import os
import shutil

import pytest


def peer(command: str, package: str) -> str:
    """The path of `command`, from the Debian package `package`.

    Where it is missing the test is skipped, and fails in CI (`CI=true`), where nothing may go unchecked.
    """
    found = shutil.which(command)
    if found is None:
        missing = f"{command} is not installed: apt-get install {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found

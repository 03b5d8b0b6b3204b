"""Fixtures of the tests of the real daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sim.hotline import HotlineThread
from tests.system.incident import Incident


@pytest.fixture
def hotline() -> Iterator[HotlineThread]:
    """A hotline that signs its list with minisign."""
    with HotlineThread() as made:
        yield made


@pytest.fixture
def incident(tmp_path: Path) -> Iterator[Callable[..., Incident]]:
    """Makes publishers whose hotline is one simulator, and ends them."""
    made: list[Incident] = []
    with HotlineThread() as hotline:

        def make(**settings: Any) -> Incident:
            made.append(Incident(tmp_path, hotline, **settings))
            return made[-1]

        yield make
        for one in made:
            one.daemon.__exit__()

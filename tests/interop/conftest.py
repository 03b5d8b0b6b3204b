"""Fixtures of the tests with programs of other projects."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.interop.programs import Peers
from tests.interop.release import ROOT, tested
from tests.interop.stub import Stub


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With another release of Debian, leaves only the tests that run its name servers."""
    if ROOT in os.environ:
        others = [item for item in items if "peers" not in getattr(item, "fixturenames", ())]
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=others)


@pytest.fixture(scope="session")
def peers() -> Peers:
    """The name servers of this machine, or those of the release that `make interop-next` tests."""
    return Peers(tested())


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A name server for the names that no list blocks."""
    made = Stub()
    yield made
    made.close()

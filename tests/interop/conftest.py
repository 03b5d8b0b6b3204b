"""Fixtures of the tests with programs of other projects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.stub import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A name server for the names that no list blocks."""
    made = Stub()
    yield made
    made.close()

"""Every input of the fuzzing corpus passes its target, and every format has a target."""

from __future__ import annotations

import pytest

from blocklistd.sources.formats import FORMATS
from tests.fuzz.__main__ import CORPUS, corpus
from tests.fuzz.options import OPTIONS, SEEDS
from tests.fuzz.targets import targets

TARGETS = targets()


def test_every_format_is_fuzzed() -> None:
    assert {format for format, _ in OPTIONS.values()} == FORMATS.keys()
    assert SEEDS.keys() == TARGETS.keys()


def test_every_corpus_has_a_target() -> None:
    assert {path.stem for path in CORPUS.iterdir()} <= TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_passes(name: str) -> None:
    inputs = [*SEEDS[name], *corpus(name)]
    assert inputs
    for data in inputs:
        TARGETS[name](data)

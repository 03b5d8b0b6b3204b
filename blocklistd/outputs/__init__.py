"""Output formats of `sync`: each renders a snapshot for a program. A new one is a file here and a line in OUTPUTS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, Final

from blocklistd.outputs import plain, rpz

OUTPUTS: Final[Mapping[str, Callable[[BinaryIO, BinaryIO], int]]] = {"plain": plain.render, "rpz": rpz.render}
"""By the name in `sync --format`: (snapshot, out) → number of entries that the format can't express and skips. The
snapshot itself (`ndjson`) needs no rendering."""

"""Renderings of a snapshot. A new output is a file here and a line in OUTPUTS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, Final

from blocklistd.outputs import plain

OUTPUTS: Final[Mapping[str, Callable[[BinaryIO, BinaryIO], int]]] = {"plain": plain.render}
"""By the name of `sync --format`; each writes what it can say and answers how many entries it left out. The snapshot
itself (`ndjson`) needs no rendering."""

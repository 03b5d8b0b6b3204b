"""Stores a state made by the present version."""

from __future__ import annotations

import tempfile
from pathlib import Path

from blocklistd import __version__
from tests.stored import make, pack
from tests.system.daemon import free_port

with tempfile.TemporaryDirectory() as name:
    pack(Path(name), __version__, make(Path(name), free_port()))

"""The formats of bodies. Each module here reads one into records (records.py), and ends with its FORMAT (format.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocklistd.sources.formats import csv, hosts, ndjson, text
from blocklistd.sources.formats.format import Format

__all__ = ["FORMATS"]

FORMATS: Final[Mapping[str, Format]] = {
    "text": text.FORMAT,
    "hosts": hosts.FORMAT,
    "csv": csv.FORMAT,
    "ndjson": ndjson.FORMAT,
}
"""The formats by their names in the configuration."""

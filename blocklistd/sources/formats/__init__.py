"""How a body is read into records (records.py): a file a format, each with its `FORMAT` (format.py)."""

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
"""By its name in the configuration."""

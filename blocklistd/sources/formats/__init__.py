"""The formats of bodies. Each module here reads one into records (records.py), and ends with its FORMAT (format.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from blocklistd.sources.formats import action_log, csv, entries, hosts, json, ndjson, rpz, text, xml, xml_pages
from blocklistd.sources.formats.format import Format

__all__ = ["FORMATS"]

FORMATS: Final[Mapping[str, Format]] = {
    "text": text.FORMAT,
    "hosts": hosts.FORMAT,
    "csv": csv.FORMAT,
    "ndjson": ndjson.FORMAT,
    "json": json.FORMAT,
    "xml": xml.FORMAT,
    "xml-pages": xml_pages.FORMAT,
    "action-log": action_log.FORMAT,
    "entries": entries.FORMAT,
    "rpz": rpz.FORMAT,
}
"""The formats by their names. The configuration has those that no transport implies (`Format.is_implied`)."""

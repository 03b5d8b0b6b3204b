"""How a body is read into records (records.py): a file a format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final

from blocklistd.sources.formats import csv, hosts, ndjson, text
from blocklistd.sources.formats.records import FormatOptions, Record, Reject

__all__ = ["FORMATS"]

FORMATS: Final[Mapping[str, Callable[[BinaryIO, FormatOptions], Iterator[Record | Reject]]]] = {
    "text": text.records,
    "hosts": hosts.records,
    "csv": csv.records,
    "ndjson": ndjson.records,
}
"""By its name in the configuration. Each streams a decoded body from its beginning, raises ParseError where it is no
list in this format, and answers a Reject for what can't be read while the rest goes on."""

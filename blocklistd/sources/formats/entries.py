"""The entries of another blocklistd: one a line, as in its feed (docs/feed.md). They keep their attributes and ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from blocklistd.model import ATTRIBUTES, ID
from blocklistd.sources.formats import ndjson
from blocklistd.sources.formats.format import Format, all_lines_independent
from blocklistd.sources.formats.records import FormatOptions, Record, Reject

_FIELDS: Final = {name: f"/{name}" for name in ("type", "value", ID, *ATTRIBUTES)}


def records(body: BinaryIO, options: FormatOptions) -> Iterator[Record | Reject]:
    """Yield a record for each line that is not blank (`Format.records`), with the rejects of ndjson.

    Each value is canonicalised here too, since the other blocklistd may have other rules. Attributes that this version
    does not know are ignored.
    """
    return ndjson.records(body, FormatOptions(_FIELDS))


FORMAT: Final = Format(records, first_independent_line=all_lines_independent, has_ids=True, is_implied=True)
"""A snapshot."""

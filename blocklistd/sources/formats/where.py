"""`options.where` and `options.unless`, for every format whose records have fields: which records count.

A record that does not match `where`, or matches one of `unless`, is no entry and no reject, and is not counted: for
example a row with the date of its deletion.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import orjson

from blocklistd.sources.formats.records import WHITESPACE

_NO_TEXT: Final = "\0"  # for an object or an array in an array: not empty, and equal to no text of a configuration


def matches(found: object, expected: str | None) -> bool:
    """Whether a part of a record is as `where` expects.

    `found`: None, a text, a list of these, or any JSON value; numbers, `true` and `false` are compared by their JSON
    text. `expected`: a text that `found` is, or that is in the list; None if `found` must be absent or empty. White
    space around a text does not count.
    """
    texts = list(_texts(found if isinstance(found, list) else (found,)))
    return expected in texts if expected is not None else not texts


def _texts(parts: Iterable[object]) -> Iterable[str]:
    """The texts of the parts that are not empty."""
    for part in parts:
        if isinstance(part, str):
            part = part.strip(WHITESPACE)
        elif isinstance(part, bool | int | float):
            part = orjson.dumps(part).decode()
        elif part is not None:
            part = _NO_TEXT
        if part:
            yield part

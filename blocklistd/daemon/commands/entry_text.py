"""The entry that a command reads from stdin: the plain value as a hotline writes it, or an id."""

from __future__ import annotations

from typing import Final

from blocklistd.daemon.commands.command import Argument, word
from blocklistd.errors import RefusedError
from blocklistd.limits import MAX_ENTRY_TEXT


def entry_text(value: object) -> str:
    """Reads one line of at most MAX_ENTRY_TEXT bytes. Whether it is an entry is checked in the daemon, as the parsers
    are heavy to import. Raises RefusedError, which does not repeat the text."""
    text = word(value).strip()
    if not text or len(text.splitlines()) != 1:
        raise RefusedError("expected one line with an entry, or with its id (e-…)")
    if len(text.encode()) > MAX_ENTRY_TEXT:
        raise RefusedError(f"the text is too long: expected at most {MAX_ENTRY_TEXT} bytes")
    return text


ENTRY: Final = Argument(
    "entry",
    "Read the entry, or its id, from stdin (one line), so that it is in no shell history and no list of processes.",
    option="--stdin",
    read=entry_text,
    stdin=True,
    required=True,
)

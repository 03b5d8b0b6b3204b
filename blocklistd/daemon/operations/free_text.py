"""Checks the text that an operator writes for the audit: it must contain no entry."""

from __future__ import annotations

import asyncio

from blocklistd.errors import RefusedError, StoreError
from blocklistd.kinds.mentions import has_url, mentions
from blocklistd.store.database import Database
from blocklistd.store.files import SealedFiles
from blocklistd.store.listed import files_to_search, is_listed


class FreeText:
    """Searches a text for entries of the live versions, of the sources, and of held candidates."""

    def __init__(self, database: Database, files: SealedFiles) -> None:
        self._database = database
        self._files = files

    async def check(self, what: str, text: str) -> None:
        """Raises RefusedError for a text that contains a URL or an entry; the error repeats neither. `what`: the name
        of the option, for the error."""
        if has_url(text):
            raise RefusedError(f"{what}: it contains a URL; the audit is kept for ever: name an entry by its id (e-…)")
        named = list(mentions(text))
        where = await self._database.reading(files_to_search)
        try:
            found = await asyncio.to_thread(is_listed, self._files, named, where)
        except StoreError as error:
            raise RefusedError(f"{what}: can't check now whether it contains an entry: {error}") from None
        if found:
            raise RefusedError(
                f"{what}: it contains an entry of a list, a source or a candidate: name an entry by its id (e-…)"
            )

"""Text that an operator writes for the record: it goes into the audit and into pages, so it must not name an entry."""

from __future__ import annotations

import asyncio

from blocklistd.errors import RefusedError, StoreError
from blocklistd.kinds.mentions import has_url, mentions
from blocklistd.store.database import Database
from blocklistd.store.files import SealedFiles
from blocklistd.store.listed import files_to_search, is_listed


class FreeText:
    """Looks for entries in the live versions, in what sources offer, and in what is held."""

    def __init__(self, database: Database, files: SealedFiles) -> None:
        self._database = database
        self._files = files

    async def check(self, what: str, text: str) -> None:
        """Raises RefusedError for a text with a URL or a listed entry in it; the error repeats neither."""
        if has_url(text):
            raise RefusedError(f"{what}: it holds a URL. The text is kept for ever: name an entry by its id (e-…)")
        named = list(mentions(text))
        where = await self._database.reading(files_to_search)
        try:
            found = await asyncio.to_thread(is_listed, self._files, named, where)
        except StoreError as error:
            raise RefusedError(f"{what}: whether it names an entry can't be looked up now: {error}") from None
        if found:
            raise RefusedError(
                f"{what}: it names what is listed, offered by a source or held: name an entry by its id (e-…)"
            )

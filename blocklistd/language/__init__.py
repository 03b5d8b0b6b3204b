"""The languages that people read: English, French and German. Logs, the audit and `--json` are English.

A text is written in English where it is used. It is the key of its translations in catalogs/*.po (GNU gettext). A text
with values is a template: `language.text("{count} entries", count=3)`.

A program with a reader for each request takes a Language as a value: `accepted(header, configured)`. The command line
has one reader, so its modules use the Language in force (context.py).
"""

from __future__ import annotations

from blocklistd.language.choice import LANGUAGES, accepted, from_environment, language_of
from blocklistd.language.language import ENGLISH, Language

__all__ = ["ENGLISH", "LANGUAGES", "Language", "accepted", "from_environment", "language_of"]

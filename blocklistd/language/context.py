"""The language in force in a program with one reader: the command line.

`_`, `N_`, `ngettext` and `known` are for modules that print for this reader. They use the language of the innermost
`speaking` block, else English. A thread starts in English: run it in a copy of the context (contextvars.copy_context).
A server has a reader for each request, and uses a Language instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from blocklistd.language.language import ENGLISH, Language

_IN_FORCE: Final[ContextVar[Language]] = ContextVar("language", default=ENGLISH)


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Within the block, the language is in force."""
    token = _IN_FORCE.set(language)
    try:
        yield
    finally:
        _IN_FORCE.reset(token)


def in_force() -> Language:
    """The language in force."""
    return _IN_FORCE.get()


def _(text: str, /, **values: object) -> str:
    """Language.text of the language in force."""
    return _IN_FORCE.get().text(text, **values)


def ngettext(one: str, many: str, count: int, /, **values: object) -> str:
    """Language.plural of the language in force."""
    return _IN_FORCE.get().plural(one, many, count, **values)


def N_(text: str) -> str:  # the name that gettext's tools know
    """The text itself. Marks a text that is translated where it is used, `_(name)`, for the catalogs."""
    return text


def known(message: str) -> str:
    """Language.message of the language in force: a finished English message, translated."""
    return _IN_FORCE.get().message(message)

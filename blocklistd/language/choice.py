"""Which language a person reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

from blocklistd.language.forms import FORMS
from blocklistd.language.language import ENGLISH, Language
from blocklistd.language.messages import CONTEXT, KnownMessages, checked
from blocklistd.language.po import read_po, translations_of

LANGUAGES: Final = ("en", "fr", "de")
"""The languages that `language:` of the configuration may name."""
_MAX_HEADER: Final = 500  # characters of Accept-Language that are read


@cache
def language_of(code: str) -> Language:
    """The language with this code of LANGUAGES. Its catalog is read once. Raises KeyError for another code."""
    if code == ENGLISH.code:
        return ENGLISH
    if code not in LANGUAGES:
        raise KeyError(code)
    text = resources.files("blocklistd.language").joinpath("catalogs", f"{code}.po").read_text(encoding="utf-8")
    entries = read_po(text)
    messages = ((one.message, one.translations[0]) for one in entries if one.context == CONTEXT and not one.is_fuzzy)
    return Language(code, translations_of(entries), KnownMessages(checked(messages)), FORMS[code])


def accepted(header: str | None, configured: str) -> Language:
    """The language for an Accept-Language header (RFC 9110, 12.5.4): the one of LANGUAGES with the highest weight, of
    equal ones the first. Without one of them, or without the header, the configured language."""
    best, highest = configured, 0.0
    for part in (header or "")[:_MAX_HEADER].split(","):
        name, _, rest = part.strip().partition(";")
        weight = _weight(rest)
        code = configured if name.strip() == "*" else name.strip().partition("-")[0].lower()
        if code in LANGUAGES and weight > highest:
            best, highest = code, weight
    return language_of(best)


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if not name:
        return 1.0
    try:
        return min(float(value), 1.0) if name.strip().lower() == "q" else 0.0
    except ValueError:
        return 0.0


def from_environment(environment: Mapping[str, str]) -> Language:
    """The language of a user without a configuration, as gettext finds it: the first of LANGUAGE, LC_ALL, LC_MESSAGES
    and LANG that is set. LANGUAGE names several, in their order, and counts only where the locale is not C."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next((environment[name] for name in names if environment.get(name)), "")
    several = environment.get("LANGUAGE", "").split(":") if locale.partition(".")[0] not in ("", "C", "POSIX") else []
    for one in [*filter(None, several), locale]:
        code = one.replace("-", "_").partition("_")[0].partition(".")[0].lower()
        if code in LANGUAGES:
            return language_of(code)
    return ENGLISH

"""Translates finished English messages: errors, and reasons that a document or the database contains.

The daemon writes messages in English, because logs, the audit, the database and `--json` have them. Where a person
reads one, it is translated: the catalog has the message as a template (context `error`), such as
`{path}: {strerror}: expected a root.json`. A message that fits the template is written with the template's translation
and the values that were found in it. A value can be a message itself, and is translated, too. What no template fits
stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

CONTEXT: Final = "error"
"""The context (msgctxt) of the messages in a catalog."""
_PLACE: Final = re.compile(r"\{([a-z_][a-z_0-9]*)\}")
_DEPTH: Final = 6  # messages within messages
_SEPARATORS: Final = ("\n", "; ", ", ", ": ")
"""Joins of several messages. Each part is translated by itself where no template fits the whole."""
_MAX_LENGTH: Final = 20_000  # characters; a longer text is no message


def places(template: str) -> list[str]:
    """The names of the values in a template, in their order."""
    return _PLACE.findall(template)


@dataclass(slots=True)
class _Template:
    source: str
    translation: str
    weight: int = field(init=False)
    longest: str = field(init=False)
    _pattern: re.Pattern[str] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        literals = _PLACE.split(self.source)[::2]
        self.weight = sum(map(len, literals))
        self.longest = max(literals, key=len)

    def match(self, text: str) -> dict[str, str] | None:
        """The values in a message that fits the template; None for another text."""
        if self.longest not in text:
            return None
        if self._pattern is None:
            parts = _PLACE.split(self.source)
            made = (f"(?P<{part}>.*?)" if number % 2 else re.escape(part) for number, part in enumerate(parts))
            self._pattern = re.compile("".join(made), re.DOTALL)
        found = self._pattern.fullmatch(text)
        return found.groupdict() if found else None


class KnownMessages:
    """The messages of one catalog. `translations`: English template to translation."""

    def __init__(self, translations: Iterable[tuple[str, str]] = ()) -> None:
        self._translations = dict(translations)

    @cached_property
    def _exact(self) -> dict[str, str]:
        return {source: made for source, made in self._translations.items() if not places(source)}

    @cached_property
    def _templates(self) -> list[_Template]:
        """The templates, those with the most text first: the first one that fits is the most exact one."""
        made = [_Template(source, made) for source, made in self._translations.items() if places(source)]
        return sorted(made, key=lambda one: -one.weight)

    def translate(self, message: str) -> str:
        """The message in the language of the catalog. Any part that is not known stays in English."""
        if not self._translations or len(message) > _MAX_LENGTH:
            return message
        return self._translated(message, 0) or message

    def _translated(self, message: str, depth: int) -> str | None:
        """The translation; None if neither the message nor a part of it is known."""
        if message in self._exact:
            return self._exact[message]
        if depth >= _DEPTH or " " not in message.strip():
            return None
        for template in self._templates:
            values = template.match(message)
            if values is not None:
                return _filled(
                    template.translation, {n: self._translated(v, depth + 1) or v for n, v in values.items()}
                )
        return self._joined(message, depth)

    def _joined(self, message: str, depth: int) -> str | None:
        for separator in _SEPARATORS:
            parts = message.split(separator)
            if len(parts) > 1:
                made = [self._translated(part, depth + 1) for part in parts]
                if any(made):
                    return separator.join(new or old for new, old in zip(made, parts, strict=True))
        return None


def _filled(template: str, values: dict[str, str]) -> str:
    """The template with its values. Other braces in it stay: they are no places."""
    return _PLACE.sub(lambda place: values[place[1]], template)


def checked(entries: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The (template, translation) pairs whose translation has the values of the template; the others are not used."""
    for source, made in entries:
        if made and sorted(set(places(made))) == sorted(set(places(source))):
            yield source, made

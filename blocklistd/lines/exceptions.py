"""Local exceptions: entries of a list that a provider does not block, each with a reason and an end. Pure.

The file is JSON, as the local filters for routes in RFC 8416 are:

    {"exceptions": [{"id": "e-…", "reason": "ticket 7", "until": "2027-01-31T00:00:00Z"},
                    {"name": "shop.example", "reason": "ticket 8", "until": "2027-02-28T00:00:00Z"}]}

An id takes out the entry with this id. A name takes out the `host` and the `domain` entry of exactly this name; what
another entry blocks, a domain above it or a URL, stays blocked. `until` has passed: the exception has no effect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from blocklistd.limits import MAX_EXCEPTIONS, MAX_FREE_TEXT
from blocklistd.lines.ids import FORM
from blocklistd.lines.keys import key_of
from blocklistd.model import Entry

NAME_TYPES: Final = ("host", "domain")
EXCEPTION: Final = "exception"
"""The rule that withholds entries with an exception."""
_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
)
_KEYS: Final = ("id", "name", "reason", "until")


class InvalidExceptions(ValueError):
    """A file of exceptions that can't be used. The text names the first fault, and no name."""


@dataclass(frozen=True, slots=True)
class LocalException:
    """An exception. `subject`: an id, or a name. `until`: its end."""

    subject: str
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Excepted:
    """The exceptions in force at a time: ids, and the names as keys of lines. `next_end`: when the first one ends; None
    if there is none."""

    ids: frozenset[str]
    names: frozenset[str]
    next_end: datetime | None = None

    def __len__(self) -> int:
        return len(self.ids) + len(self.names)

    @property
    def keys(self) -> frozenset[bytes]:
        """The keys of the entries that names take out."""
        return frozenset(Entry(kind, name).line().removesuffix(b"}") for name in self.names for kind in NAME_TYPES)

    def to_bytes(self) -> bytes:
        """The content of a sealed file: a subject a line, sorted."""
        return "".join(f"{subject}\n" for subject in sorted(self.ids | self.names)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Excepted:
        """The exceptions of a sealed file."""
        return _of(content.decode().split(), None)

    def takes_out(self, line: bytes) -> bool:
        """Whether a line of a snapshot, which has an id, is taken out."""
        return key_of(line) in self.keys or (bool(self.ids) and Entry.from_line(line).attributes.get("id") in self.ids)


NO_EXCEPTIONS: Final = Excepted(frozenset(), frozenset())


def _of(subjects: Iterable[str], next_end: datetime | None) -> Excepted:
    given = frozenset(subjects)
    ids = frozenset(subject for subject in given if FORM.fullmatch(subject))
    return Excepted(ids, given - ids, next_end)


def in_force(exceptions: Iterable[LocalException], now: datetime) -> Excepted:
    """The exceptions that have not ended."""
    lasting = [one for one in exceptions if one.until > now]
    return _of((one.subject for one in lasting), min((one.until for one in lasting), default=None))


def parse_exceptions(content: bytes) -> list[LocalException]:
    """Parses a file of exceptions. Raises InvalidExceptions."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidExceptions("no JSON: expected an object with `exceptions`") from None
    found = document.get("exceptions") if isinstance(document, dict) and list(document) == ["exceptions"] else None
    if not isinstance(found, list):
        raise InvalidExceptions("expected one object with the key `exceptions` alone, and a list under it")
    if len(found) > MAX_EXCEPTIONS:
        raise InvalidExceptions(f"{len(found)} exceptions: expected at most {MAX_EXCEPTIONS}")
    return [_exception(one, number) for number, one in enumerate(found, 1)]


def _exception(found: Any, number: int) -> LocalException:
    where = f"exception {number}"
    if not isinstance(found, dict) or not found.keys() <= set(_KEYS) or ("id" in found) == ("name" in found):
        raise InvalidExceptions(f"{where}: expected an object with `id` or `name`, `reason` and `until`")
    texts = {key: value if isinstance(value, str) else "" for key, value in found.items()}
    if "id" in found and not FORM.fullmatch(texts["id"]):
        raise InvalidExceptions(f"{where}: `id`: expected `e-` and 32 hex digits")
    if "name" in found and not _NAME.fullmatch(texts["name"]):
        raise InvalidExceptions(f"{where}: `name`: expected a name in lower-case A-labels, without a dot at its end")
    reason = texts.get("reason", "").strip()
    if not reason or not reason.isprintable() or len(reason) > MAX_FREE_TEXT:
        raise InvalidExceptions(f"{where}: `reason`: expected one line of at most {MAX_FREE_TEXT} characters")
    return LocalException(texts.get("id") or texts["name"], reason, _until(texts.get("until", ""), where))


def _until(text: str, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError("no time zone")
        return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidExceptions(f"{where}: `until`: expected a time like 2030-01-31T12:00:00Z") from None

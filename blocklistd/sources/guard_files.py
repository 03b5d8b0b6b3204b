"""Reads the names that a guard of a list refers to: files of names, and lists of the package pymispwarninglists.

A reference is the absolute path of a file, or `warninglist:NAME`. A file has one name, address or prefix a line; blank
lines and what follows a `#` are skipped. A warning list is JSON in the package, which is found but not imported: its
code loads every list, and can fetch newer ones.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from blocklistd.errors import GuardFileError
from blocklistd.kinds import InvalidEntry
from blocklistd.kinds.ip import is_meant_as_address, protected
from blocklistd.kinds.name import is_public_suffix, name
from blocklistd.limits import GUARD_LINES, MAX_GUARD_FILE, MAX_GUARD_NAMES
from blocklistd.sources.reject_words import words_of

WARNINGLIST: Final = "warninglist:"
_PACKAGE: Final = "pymispwarninglists"
_NAME_TYPES: Final = {"hostname", "string", "substring"}
_NAME_ATTRIBUTES: Final = {"hostname", "domain", "domain|ip", "url"}
_SAMPLE: Final = 1000
"""Names of a warning list that are looked up in the Public Suffix List."""


def read_names(reference: str) -> frozenset[str]:
    """The canonical names of a file or of a warning list. Raises GuardFileError."""
    if reference.startswith(WARNINGLIST):
        return _read_warninglist(reference.removeprefix(WARNINGLIST))
    return parse_names(_content(Path(reference)))


def path_of(reference: str) -> Path:
    """The file of a reference. A warning list that the package does not have gives a path that does not exist."""
    if not reference.startswith(WARNINGLIST):
        return Path(reference)
    return _folder() / reference.removeprefix(WARNINGLIST) / "list.json"


def warninglists() -> list[str]:
    """The names of the warning lists in the package; empty if it is not installed."""
    return sorted(path.parent.name for path in _folder().glob("*/list.json"))


def nearest(name: str) -> list[str]:
    """The warning lists whose names resemble this one, the nearest first."""
    found = difflib.get_close_matches(name[:64], warninglists(), n=3, cutoff=0.5)
    return found or [known for known in warninglists() if name and name[:3] in known][:3]


@cache
def _folder() -> Path:
    found = importlib.util.find_spec(_PACKAGE)  # of a top-level package: imports nothing
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return Path(places[0] if places else "/nonexistent") / "data" / "misp-warninglists" / "lists"


def _content(path: Path) -> bytes:
    try:
        if not path.exists():
            raise GuardFileError("it does not exist: put it there, or correct the path")
        if not path.is_file():
            raise GuardFileError("it is not a regular file: expected a file with one name a line")
        with open(path, "rb") as file:
            content = file.read(MAX_GUARD_FILE + 1)
    except OSError as error:
        raise GuardFileError(f"it can't be read: {error.strerror}") from None
    if len(content) > MAX_GUARD_FILE:
        raise GuardFileError(f"it has more than {MAX_GUARD_FILE} bytes: expected one name a line")
    return content


def parse_names(content: bytes) -> frozenset[str]:
    """The canonical names of a file's content. Raises GuardFileError if there is none, or for the lines that can't be
    read; it has their numbers, and not their text."""
    found: set[str] = set()
    wrong: list[str] = []
    unreadable = 0
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        text, reason = line.partition(b"#")[0].strip(), ""
        if not text:
            continue
        try:
            found.add(_protected(text.decode()))
        except UnicodeDecodeError:
            reason = words_of("not-utf8")
        except InvalidEntry as error:
            reason = words_of(error.code)
            if error.code == "wildcard":
                reason = "It is a wildcard: write the name without `*.`; what is below a name is protected, too."
        if reason:
            unreadable += 1
            wrong += [f"line {number}: {reason}"] if len(wrong) < GUARD_LINES else []
    if wrong:
        more = f" {unreadable - GUARD_LINES} more lines can't be read." if unreadable > GUARD_LINES else ""
        raise GuardFileError(" ".join(wrong) + more, frozenset(found))
    if not found:
        raise GuardFileError("there is no name in it: expected one name a line")
    return frozenset(found)


def _protected(text: str) -> str:
    """The canonical form of a name, or of an address or prefix. Raises InvalidEntry."""
    return protected(text) if is_meant_as_address(text) else name(text)


def _read_warninglist(listed: str) -> frozenset[str]:
    path = path_of(WARNINGLIST + listed)
    if listed not in warninglists():
        if not warninglists():
            raise GuardFileError(f"{_PACKAGE} is not installed: install the package")
        near = ", ".join(nearest(listed))
        expected = f"one like {near}" if near else f"the name of a folder in {_folder()}"
        raise GuardFileError(f"{_PACKAGE} has no such list: expected {expected}")
    try:
        document = orjson.loads(path.read_bytes())
    except OSError as error:
        raise GuardFileError(f"it can't be read: {error.strerror}") from None
    except orjson.JSONDecodeError:
        raise GuardFileError("it is not JSON: install the package again") from None
    return names_of_warninglist(document)


def names_of_warninglist(document: dict[str, Any]) -> frozenset[str]:
    """The names of a warning list. Items that are no names, such as addresses, are skipped. Raises GuardFileError for a
    list of something else than names, and for one whose names have everything below them."""
    kind, attributes = document.get("type"), set(document.get("matching_attributes") or _NAME_ATTRIBUTES)
    if kind not in _NAME_TYPES or not attributes & _NAME_ATTRIBUTES:
        what = {"cidr": "networks", "regex": "regular expressions"}.get(str(kind), ", ".join(sorted(attributes)[:3]))
        raise GuardFileError(f"it is a list of {what}: expected a list of host names or domains")
    found = frozenset(filter(None, map(_name, map(str, document.get("list", ())))))
    if not found:
        raise GuardFileError("there is no name in it: expected a list of host names or domains")
    sample = list(islice(sorted(found), _SAMPLE))
    if len(sample) > 1 and _suffixes(sample) * 2 > len(sample) and len(found) > _SAMPLE:
        raise GuardFileError(
            "most of its names are public suffixes, and every entry is below one of these: "
            "`allow_public_suffix: false` withholds the suffixes themselves"
        )
    return found


def _suffixes(names: Iterable[str]) -> int:
    return sum(map(is_public_suffix, names))


def _name(text: str) -> str | None:
    """The canonical name of an item; a leading dot means that names below it count, which they always do here."""
    try:
        return name(text.strip().removeprefix("."))
    except InvalidEntry:
        return None


def check_count(count: int) -> None:
    """Raises GuardFileError if a guard has too many names."""
    if count > MAX_GUARD_NAMES:
        raise GuardFileError(f"the guard has {count} names with it: expected at most {MAX_GUARD_NAMES}")

"""Reads a value whose type is not given: every entry that it can be."""

from __future__ import annotations

from contextlib import suppress

from blocklistd.kinds.hash import DIGITS, md5, sha1, sha256
from blocklistd.kinds.invalid import InvalidEntry
from blocklistd.kinds.ip import ip
from blocklistd.kinds.name import name
from blocklistd.kinds.url import url

_HASHES = {"md5": md5, "sha1": sha1, "sha256": sha256}


def readings(text: str) -> list[tuple[str, str]]:
    """The (type, canonical value) of each entry that `text` can be: a URL, an address, a hash by its length, a host
    and a domain.

    `text` is a plain value as a hotline writes it. It is a URL if it contains `://`. Raises InvalidEntry, with the
    reason of the most likely type, if it can be no entry.
    """
    value = text.strip()
    if "://" in value:
        return [("url", url(value))]
    address = ""
    try:
        return [("ip", ip(value))]
    except InvalidEntry as error:
        address = error.code
    if address not in ("empty", "not-an-address"):
        raise InvalidEntry(address)
    found: list[tuple[str, str]] = []
    for kind, digits in DIGITS.items():
        if len(value) == digits:
            with suppress(InvalidEntry):
                found.append((kind, _HASHES[kind](value)))
    reason = "not-a-url" if "/" in value else ""
    if not reason:
        try:
            host = name(value)
            found += [("host", host), ("domain", host)]
        except InvalidEntry as error:
            reason = error.code
    if not found:
        raise InvalidEntry(reason)
    return found

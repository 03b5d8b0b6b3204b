"""The publisher's own names, from the configuration: no list may block what its delivery needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from blocklistd.config.names import ACTIONS
from blocklistd.kinds import InvalidEntry
from blocklistd.kinds.name import name

if TYPE_CHECKING:
    from blocklistd.config import Config


def configured_names(config: Config) -> frozenset[str]:
    """The names of the feed, the zones with their servers and targets, and the hosts of sources and of the alarms'
    webhook. Addresses, and names below localhost, are skipped."""
    return frozenset(filter(None, map(_own_name, _texts(config))))


def _texts(config: Config) -> Iterator[str]:
    yield _host(config.feed.public_url or "")
    for zone in config.zones.values():
        yield from (zone.name, zone.soa.mname, *zone.ns)
        if zone.action not in ACTIONS.values():
            yield zone.action
    for source in config.sources.values():
        yield _host(source.url)
    if config.alarms.webhook is not None:
        yield _host(config.alarms.webhook.url)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _own_name(text: str) -> str | None:
    try:
        found = name(text)
    except InvalidEntry:
        return None
    return None if found.rpartition(".")[2] == "localhost" else found

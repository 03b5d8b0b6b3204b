"""The local exceptions of the lists: reads their files, and ends exceptions when their time has passed.

`lists.X.exceptions` names the file (lines/exceptions.py). The exceptions in force become a sealed file, which is a part
of the list's policy: a change of it is composed, judged by the guards and released like any other. GuardNames calls
`read` and `adopt` along with the files of names. While a file is unusable, its last good exceptions stay in force until
they end, and the alarm `exceptions` is active.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from blocklistd.config import Config
from blocklistd.errors import ConfigProblem
from blocklistd.events import Event
from blocklistd.limits import GUARD_QUIET, MAX_EXCEPTIONS_BYTES
from blocklistd.lines.exceptions import Excepted, InvalidExceptions, LocalException, in_force, parse_exceptions
from blocklistd.model import AUTO, ListId, Sha256
from blocklistd.pipeline.resources import Resources
from blocklistd.store import audit
from blocklistd.store.files import fingerprint
from blocklistd.times import rfc3339

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExceptionsProblem:
    """Why the file of a list's exceptions is unusable."""

    list: ListId
    file: Path
    text: str

    def of_file(self, config: Config, lines: Mapping[str, int]) -> ConfigProblem:
        """The problem as one of the configuration file. `lines`: the line of each key."""
        key = f"lists.{self.list}.exceptions"
        found, _, expected = self.text.partition(": expected ")
        return ConfigProblem(config.path, lines.get(key, 1), key, f"{self.file}: {found}", expected or "a JSON file")


@dataclass(frozen=True, slots=True)
class ExceptionsReading:
    """The exceptions of each list, as they were read: those of the file, and those in force, with the sealed file of
    these. `fingerprints`: of the files."""

    given: dict[ListId, list[LocalException]] = field(default_factory=dict)
    excepted: dict[ListId, Excepted] = field(default_factory=dict)
    digests: dict[ListId, Sha256 | None] = field(default_factory=dict)
    problems: list[ExceptionsProblem] = field(default_factory=list)
    fingerprints: dict[Path, str | None] = field(default_factory=dict)


class ExceptionFiles:
    """The exceptions of all lists in force."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._now = ExceptionsReading()
        self._audited: dict[ListId, Sha256 | None] = {}
        """For each list, the sealed file whose line of the audit is written."""

    def begin(self, list_id: ListId, digest: Sha256 | None) -> None:
        """Takes the exceptions that a live version was composed with."""
        self._now.digests[list_id] = self._audited[list_id] = digest

    async def read(self, config: Config) -> ExceptionsReading:
        """Reads and seals the exceptions of all lists of a configuration. Raises StoreError."""
        return await asyncio.to_thread(self._read, config)

    def _read(self, config: Config) -> ExceptionsReading:
        reading, now = ExceptionsReading(), self._resources.clock()
        for name, settings in config.lists.items():
            if settings.exceptions is None:
                continue
            reading.fingerprints[settings.exceptions] = fingerprint(settings.exceptions)
            try:
                reading.given[name] = read_exceptions(settings.exceptions)
            except InvalidExceptions as error:
                reading.problems.append(ExceptionsProblem(name, settings.exceptions, str(error)))
                if name not in self._now.given:  # of an earlier run, without their ends
                    reading.digests[name] = self._now.digests.get(name)
                    continue
                reading.given[name] = self._now.given[name]
            found = reading.excepted[name] = in_force(reading.given[name], now)
            reading.digests[name] = self._seal(found)
        return reading

    def _seal(self, excepted: Excepted) -> Sha256 | None:
        if not excepted:
            return None
        with self._resources.store.sealed.create() as draft:
            draft.write(excepted.to_bytes())
        return draft.sealed

    def adopt(self, reading: ExceptionsReading) -> None:
        """Puts the exceptions into force, and raises or clears the alarms."""
        self._now = reading
        texts: dict[str, str] = {
            one.list: f"list {one.list}: the file of exceptions is unusable, and the last good ones stay in force "
            f"until they end: {one.file}: {one.text}: correct it; it is read again within a minute, or at once by "
            "`blocklistd reload`"
            for one in reading.problems
        }
        self._resources.alarms.set_all("exceptions", texts)

    async def record(self) -> None:
        """Writes a line of the audit for each list whose exceptions have changed. Raises StoreError."""
        changed = {name: digest for name, digest in self._now.digests.items() if self._audited.get(name) != digest} | {
            name: None for name, digest in self._audited.items() if digest and name not in self._now.digests
        }
        if not changed:
            return
        now = self._resources.clock()

        def write(connection: Connection) -> None:
            for name, digest in changed.items():
                found = self._now.excepted.get(name, Excepted(frozenset(), frozenset()))
                detail = {"sha256": digest, "ids": sorted(found.ids), "names": len(found.names)}
                audit.append(connection, replace(AUTO, action="exceptions"), name, now=now, detail=detail)

        await self._resources.database.writing(write)
        self._audited |= changed
        for name in changed:
            count = len(self._now.excepted.get(name, ()))
            Event.EXCEPTIONS_READ.log(log, list=name, exceptions=count)

    @property
    def digests(self) -> set[Sha256]:
        """The sealed files in force."""
        return {digest for digest in self._now.digests.values() if digest is not None}

    def is_outdated(self) -> bool:
        """Whether a file has changed and is complete (it has not changed for a while), or an exception has ended."""
        now = self._resources.clock()
        ends = [one.next_end for one in self._now.excepted.values() if one.next_end is not None]
        return any(end <= now for end in ends) or any(
            fingerprint(path) != before and _is_quiet(path) for path, before in self._now.fingerprints.items()
        )

    def summary(self, list_id: ListId) -> dict[str, object] | None:
        """For `status`: the number of exceptions in force, and when the next one ends; None without a file."""
        found = self._now.excepted.get(list_id)
        if found is None:
            return None
        next_end = rfc3339(found.next_end) if found.next_end is not None else None
        return {"in_force": len(found), "next_end": next_end}


def read_exceptions(path: Path) -> list[LocalException]:
    """Reads a file of exceptions. Raises InvalidExceptions."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_EXCEPTIONS_BYTES + 1)
    except OSError as error:
        raise InvalidExceptions(f"{error.strerror}: expected a file that the daemon can read") from None
    if len(content) > MAX_EXCEPTIONS_BYTES:
        raise InvalidExceptions(f"larger than expected: expected at most {MAX_EXCEPTIONS_BYTES} bytes")
    return parse_exceptions(content)


def problems_of(config: Config, lines: Mapping[str, int]) -> list[ConfigProblem]:
    """The unusable files of a configuration, for `check-config`."""
    found = []
    for name, settings in config.lists.items():
        try:
            if settings.exceptions is not None:
                read_exceptions(settings.exceptions)
        except InvalidExceptions as error:
            found.append(ExceptionsProblem(name, settings.exceptions or Path(), str(error)).of_file(config, lines))
    return found


def _is_quiet(path: Path) -> bool:
    try:
        return abs(time.time() - path.stat().st_mtime) >= GUARD_QUIET
    except OSError:
        return True

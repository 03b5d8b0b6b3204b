"""Keeps the names of the guards in force: those of files and warning lists, and the publisher's and subscribers' own.

Order of calls: `begin` at a start takes the names that each list's live version was composed with; `refresh` then reads
the files. A reload calls `read`, and `adopt` if nothing is wrong. `check`, each minute, refreshes what has changed.

While a file or a warning list is unusable, the last good names of that guard stay in force, nothing is added to the
list, and the alarm `guard_file` is active. A change of names is a change of policy, which the guards judge.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Final

from blocklistd.config import Config
from blocklistd.config.own_names import configured_names
from blocklistd.daemon import exception_files, plans
from blocklistd.daemon.exception_files import ExceptionFiles, ExceptionsReading
from blocklistd.errors import BlocklistError, ConfigProblem
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT
from blocklistd.limits import GUARD_QUIET
from blocklistd.model import ListId, Sha256
from blocklistd.pipeline.guard_names import ListNames, ReadGuards, read_guards_job, seal_names
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.pipeline.release import Releaser
from blocklistd.pipeline.resources import Resources
from blocklistd.sources.guard_files import WARNINGLIST, path_of
from blocklistd.store.files import fingerprint
from blocklistd.store.lists import policies
from blocklistd.store.subscribers import own_names

log: Final = logging.getLogger(__name__)
GUARDS: Final = ("never_block", "shared_hosts")


@dataclass(frozen=True, slots=True)
class GuardProblem:
    """Why a reference of a list's guard is unusable."""

    list: ListId
    guard: str
    reference: str
    text: str

    @property
    def key(self) -> str:
        """The key of the configuration."""
        return f"lists.{self.list}.guards.{self.guard}"

    def __str__(self) -> str:
        return f"{self.guard}: {self.reference}: {self.text}"

    def of_file(self, config: Config, lines: Mapping[str, int]) -> ConfigProblem:
        """The problem as one of the configuration file. `lines`: the line of each key."""
        found, _, expected = self.text.rpartition(": expected ")
        if not found:
            found, expected = self.text, "a file or warning list with names"
        return ConfigProblem(config.path, lines.get(self.key, 1), self.key, f"{self.reference}: {found}", expected)


@dataclass(frozen=True, slots=True)
class NamesReading:
    """The names of each list, as they were read. `good`: the guards of which every reference was read. `fingerprints`:
    of the files that were read. `own`: the own names. `counts`: names by list and guard. `exceptions`: local ones."""

    names: dict[ListId, ListNames]
    good: dict[tuple[ListId, str], Sha256 | None]
    problems: list[GuardProblem]
    fingerprints: dict[str, str | None]
    own: frozenset[str]
    counts: dict[tuple[ListId, str], int]
    exceptions: ExceptionsReading


class GuardNames:
    """The names of all lists. `config` returns the running configuration."""

    def __init__(
        self, resources: Resources, config: Callable[[], Config], releases: Releaser, reconciler: Reconciler
    ) -> None:
        self.names: dict[ListId, ListNames] = {}
        self.exceptions = ExceptionFiles(resources)
        self._resources = resources
        self._config = config
        self._releases = releases
        self._reconciler = reconciler
        self._good: dict[tuple[ListId, str], Sha256 | None] = {}
        self._read: NamesReading | None = None
        self._kept = ExitStack()
        self._refreshing = asyncio.Lock()

    async def begin(self, config: Config) -> None:
        """Takes the names that the live versions were composed with, without additions where a file has gone: a pull
        may come before `refresh`. A list without a version that has guards with names is read at once. An error is
        logged: the list gets no additions until its names can be read."""
        try:
            known = await self._resources.database.reading(policies)
            own = await asyncio.to_thread(seal_names, self._resources.store.sealed, await self._own(config))
        except BlocklistError as error:
            self._not_read(error)
            known, own = {}, None
        for name in config.lists:
            policy = known.get(name)
            if policy is None:
                self.names[name] = ListNames(own_names=own, additions=not references_of(config, name))
                continue
            of_guard = {guard: getattr(policy, guard) for guard in GUARDS}
            self._good |= {(name, guard): digest for guard, digest in of_guard.items() if digest is not None}
            additions = policy.additions and await asyncio.to_thread(_may_be_read, references_of(config, name))
            names = ListNames(own_names=own or policy.own_names, **of_guard, additions=additions)
            self.names[name] = replace(names, exceptions=policy.exceptions)
            self.exceptions.begin(name, policy.exceptions)
        self._keep()
        first = {name for name in config.lists if name not in known}
        if any(references_of(config, name) or config.lists[name].exceptions is not None for name in first):
            try:
                self.adopt(await self.read(config))
            except BlocklistError as error:
                self._not_read(error)

    async def read(self, config: Config) -> NamesReading:
        """Reads and seals the names of all lists of a configuration. Raises BlocklistError where the job fails."""
        groups = sorted({group for name in config.lists for group in references_of(config, name).values()})
        resources, own = self._resources, await self._own(config)
        read = ReadGuards([], {})
        if groups:
            answer = await resources.jobs.run(read_guards_job, resources.store, groups, limits=COMMIT)
            read = ReadGuards.from_json(answer)
        by_group = dict(zip(groups, read.guards, strict=True))
        exceptions = await self.exceptions.read(config)
        reading = NamesReading({}, {}, [], read.fingerprints, own, {}, exceptions)
        sealed = await asyncio.to_thread(seal_names, resources.store.sealed, own)
        for name in config.lists:
            names = ListNames(own_names=sealed, exceptions=exceptions.digests.get(name))
            for guard, group in references_of(config, name).items():
                found, key = by_group[group], (name, guard)
                reading.counts[key] = found.count
                digest = found.digest
                if found.problems:
                    texts = found.problems.items()
                    reading.problems.extend(GuardProblem(name, guard, reference, text) for reference, text in texts)
                    digest = self._good.get(key) or digest
                    names = replace(names, additions=False)
                else:
                    reading.good[key] = digest
                is_first = guard == "never_block"
                names = replace(names, never_block=digest) if is_first else replace(names, shared_hosts=digest)
            reading.names[name] = names
        return reading

    def adopt(self, reading: NamesReading) -> set[ListId]:
        """Puts the names into force; returns the lists whose names have changed."""
        changed = {name for name, names in reading.names.items() if self.names.get(name) != names}
        self.names, self._read = reading.names, reading
        self._good |= reading.good
        self.exceptions.adopt(reading.exceptions)
        self._keep()
        for name in changed:
            never_block, shared_hosts = (reading.counts.get((name, guard), 0) for guard in GUARDS)
            Event.GUARD_NAMES_READ.log(
                log, list=name, own=len(reading.own), never_block=never_block, shared_hosts=shared_hosts
            )
        problems: dict[ListId, list[str]] = {}
        for problem in reading.problems:
            problems.setdefault(problem.list, []).append(str(problem))
        texts: dict[str, str] = {
            name: f"list {name}: nothing is added to it, since a guard file is unusable: {' '.join(found)} "
            "Correct it; it is read again within a minute, or at once by `blocklistd reload`"
            for name, found in problems.items()
        }
        self._resources.alarms.set_all("guard_file", texts)
        return changed

    async def refresh(self) -> None:
        """Reads the names under the running configuration, and applies those that have changed. Raises BlocklistError
        where the job fails."""
        async with self._refreshing:
            config = self._config()
            reading = await self.read(config)
            if self._config() is not config:
                return  # a reload has put another configuration into force, with its names
            changed = self.adopt(reading)
            await self.exceptions.record()
            if changed:
                self._releases.configure(plans.list_plans(config, self.names), self._releases.sources)
                for name in changed:
                    await self._reconciler.apply_policy(name)

    async def check(self) -> None:
        """Refreshes the names if a file, a warning list or the own names have changed, or a sealed file is damaged."""
        if await self._is_outdated():
            await self.refresh()

    async def _is_outdated(self) -> bool:
        read = self._read
        if read is None or read.own != await self._own(self._config()):
            return True
        if await asyncio.to_thread(self.exceptions.is_outdated):
            return True
        changed = await asyncio.to_thread(_changed_files, read.fingerprints)
        if changed:
            return all(changed.values())
        verified, digests = self._resources.verified, self._digests()
        return not all(await asyncio.to_thread(lambda: [verified.check(digest) for digest in digests]))

    async def _own(self, config: Config) -> frozenset[str]:
        return configured_names(config) | await self._resources.database.reading(own_names)

    def _digests(self) -> set[Sha256]:
        found = {getattr(names, guard) for names in self.names.values() for guard in (*GUARDS, "own_names")}
        return {digest for digest in found if digest is not None} | self.exceptions.digests

    def _not_read(self, error: BlocklistError) -> None:
        text = f"the names of guards could not be read, the last ones stay in force: {error}"
        self._resources.alarms.raise_alarm("guard_file", "", text)

    def _keep(self) -> None:
        """Makes the sweep spare the files: no row may name them yet."""
        kept = ExitStack()
        kept.enter_context(self._resources.verified.keeping(self._digests()))
        self._kept.close()
        self._kept = kept


def references_of(config: Config, name: ListId) -> dict[str, tuple[str, ...]]:
    """The references of each guard of a list that has some."""
    guards = config.lists[name].guards
    return {guard: getattr(guards, guard) for guard in GUARDS if getattr(guards, guard)}


def _may_be_read(references: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether no file of the references is missing or empty. What a file contains is not read."""
    try:
        return all(path_of(reference).stat().st_size for group in references.values() for reference in group)
    except OSError:
        return False


def _changed_files(known: Mapping[str, str | None]) -> dict[str, bool]:
    """The references whose file has changed, and whether the file is complete: it has not changed for a while."""
    found = {}
    for reference, before in known.items():
        path = path_of(reference)
        if fingerprint(path) != before:
            try:
                found[reference] = abs(time.time() - path.stat().st_mtime) >= GUARD_QUIET
            except OSError:
                found[reference] = True
    return found


def problems_of(config: Config, lines: Mapping[str, int]) -> list[ConfigProblem]:
    """The unusable references of a configuration, for `check-config`: read in this process. A file that the caller may
    not read is skipped."""
    from blocklistd.pipeline.guard_names import read_group

    found = exception_files.problems_of(config, lines)
    for name in config.lists:
        for guard, group in references_of(config, name).items():
            for reference, text in read_group(group)[1].items():
                if reference.startswith(WARNINGLIST) and not path_of(reference).exists():
                    continue  # the configuration reports it
                found.append(GuardProblem(name, guard, reference, text).of_file(config, lines))
    return found

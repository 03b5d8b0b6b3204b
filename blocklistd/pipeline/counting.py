"""Counts each version of a list for the statistics (store/figures.py), after it is public, in a job.

The job counts the versions that are not counted yet, oldest first, one transaction for each. So after a kill the next
call counts the rest: nothing twice, nothing not at all. A version is compared with the one counted before it:

- A small change: only the keys that its delta touches, or that a source begins or ceases to assert, are looked up.
- A larger change: all keys of both versions and of their sources, part by part.

If files of a version are lost, its changes are counted together with those of the next version, on that one's day. If
files of the newest counted version are lost, counting begins again: no figure has the changes since then. Both are
logged.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from blocklistd.compose.figures import (
    Categories,
    Counts,
    Part,
    Tally,
    add_part,
    aligned_parts,
    categories_of,
)
from blocklistd.errors import StoreError
from blocklistd.events import Event
from blocklistd.jobs.sandbox import COMMIT, LATER, lower_priority
from blocklistd.lines.delta import ENTRIES, parse
from blocklistd.lines.keys import Buffer, key_of, keys_of
from blocklistd.lines.patched import PatchedLines
from blocklistd.lines.snapshot import few_changed_lines, find
from blocklistd.model import ListId, Sha256, SourceId, Version
from blocklistd.pipeline.asserted_ages import AssertedAges
from blocklistd.pipeline.composing import FEW, FULL_SHARE, LINE_BYTES
from blocklistd.pipeline.resources import Resources
from blocklistd.store import figures
from blocklistd.store.ages import Ages, age_line, open_ages, since_of, update
from blocklistd.store.asserted import OpenAssertion, differing_lines, is_intact, open_assertion
from blocklistd.store.figures import Countable, ToCount
from blocklistd.store.files import SealedFiles
from blocklistd.store.store import Store
from blocklistd.store.verified import Fingerprints, Verified

log: Final = logging.getLogger(__name__)


class Counting:
    """Counts the versions of all lists. One job of a list runs at a time."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._locks: defaultdict[ListId, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def count(self, list_id: ListId) -> None:
        """Counts the versions of the list that are not counted yet, unless the file system is read-only. Raises
        BlocklistError if the job fails."""
        resources = self._resources
        if resources.store.read_only:
            return
        async with self._locks[list_id]:
            work = await resources.database.reading(lambda connection: figures.to_count(connection, list_id))
            if not work.pending:
                return
            fingerprints, now = resources.verified.fingerprints, resources.clock()
            with resources.verified.sealing():
                found = await resources.jobs.run(count_job, resources.store, list_id, fingerprints, now, limits=COMMIT)
            resources.verified.learn(found["verified"])
            if found["lost"]:
                Event.FIGURES_INCOMPLETE.log(log, list=list_id, versions=found["lost"])


def count_job(store: Store, list_id: ListId, fingerprints: Fingerprints, now: datetime) -> dict[str, Any]:
    """Runs the job. Returns `lost`, the versions whose changes are not counted by themselves, and the fingerprints of
    the files that it `verified`."""
    lower_priority(LATER)
    return count_versions(store, list_id, fingerprints, now)


def count_versions(store: Store, list_id: ListId, fingerprints: Fingerprints, now: datetime) -> dict[str, Any]:
    """The job without its priority."""
    lost: list[Version] = []
    with store.opened() as (database, files):
        verified = Verified(files, fingerprints)
        while True:
            with database.read() as connection:
                work = figures.to_count(connection, list_id)
            if not work.pending:
                break
            if work.counted is not None and not _intact(files, verified, work.counted):
                lost.append(work.pending[-1].version)
                work = ToCount(None, work.pending[-1:], work.categories)
            version = next((one for one in work.pending if _intact(files, verified, one)), None)
            if version is None:
                raise StoreError(f"list {list_id}: files of version {work.pending[-1].version} are damaged")
            lost += [one.version for one in work.pending[: work.pending.index(version)]]
            names = Categories(work.categories)
            when = max(now, version.time or now) if work.counted is None else version.time or now
            fresh = version.sources.keys() - work.counted.sources.keys() if work.counted is not None else ()
            with AssertedAges(files, verified, work.asserted_since, version.sources, when, fresh=fresh) as asserted:
                step = _Step(files, verified, work, version, names, when, asserted)
                tally = step.counted()
            with database.write() as connection:
                figures.record(
                    connection,
                    list_id,
                    work,
                    version,
                    tally,
                    names.known,
                    day=when.astimezone(UTC).date().isoformat(),
                    ages=step.ages_after,
                    ages_since=step.default,
                    asserted_since=asserted.after,
                )
    return {"lost": sorted(set(lost)), "verified": verified.fingerprints}


def _intact(files: SealedFiles, verified: Verified, version: Countable) -> bool:
    """Whether all files that counting the version reads are intact; its delta can be made of snapshots."""
    return all(is_intact(files, verified, digest) for digest in version.files)


@dataclass(frozen=True, slots=True)
class _OpenedVersion:
    """The opened files of a version."""

    snapshot: Buffer
    sources: dict[SourceId, OpenAssertion]


class _PartWithAges(NamedTuple):
    """A part of two versions, with its lines of the list's ages, and of the ages of each source (AssertedAges)."""

    part: Part
    live: bytes
    asserted: list[bytes]


class _Step:
    """The counting of one version against the version counted before it. `when`: its time, or that of the beginning.

    `ages_after`, `default`: the new ages of the list, once it is `counted`. Where counting begins with a version that
    is not the list's first, it is not known since when its entries are live.
    """

    def __init__(
        self,
        files: SealedFiles,
        verified: Verified,
        work: ToCount,
        version: Countable,
        names: Categories,
        when: datetime,
        asserted: AssertedAges,
    ) -> None:
        self._files = files
        self._asserted = asserted
        self._work = work
        self._version = version
        self._names = names
        self._when = when
        has_ages = bool(work.counted and work.counted.version and work.ages_since)
        if has_ages and work.ages is not None:
            has_ages = is_intact(files, verified, work.ages)
        self._ages = work.ages if has_ages else None
        self.default = work.ages_since if has_ages and work.ages_since else when
        self.ages_after: Sha256 | None = None
        self._updates_ages = has_ages
        self._knows_default = self.default == work.first
        is_next = work.counted is not None and version is work.pending[0]
        self._delta = version.delta if is_next and version.delta and verified.check(version.delta) else None

    def counted(self) -> Tally:
        """The figures. If counting begins with this version, its entries are counted as live, not as added."""
        tally: Tally = {}
        with ExitStack() as stack:
            before = self._open(stack, self._work.counted or figures.EMPTY)
            after = self._open(stack, self._version)
            ages = stack.enter_context(open_ages(self._files, self._ages, self.default))
            touched = self._touched(before, after)
            if touched is not None:
                part = self._few(before, after, sorted(touched))
                add_part(tally, part, self._version.kind, lambda key: self._days_live(ages, key))
                self._asserted.add_few(part.asserted)
                if self._updates_ages:
                    left, came = part.before.keys() - part.after.keys(), part.after.keys() - part.before.keys()
                    self.ages_after = update(self._files, ages, left, came, self._when)
            else:
                self._count_all(tally, before, after, ages)
        if self._work.counted is None:
            return {name: Counts(live=counts.live) for name, counts in tally.items()}
        return tally

    def _count_all(self, tally: Tally, before: _OpenedVersion, after: _OpenedVersion, ages: Ages) -> None:
        """Counts all keys, part by part, and writes the new ages."""
        lives = b"".join(ages.exceptions.chunks()) if len(ages.exceptions) else ages.exceptions.base
        is_empty = True
        with self._files.create() as draft:
            for part, lines, asserted_lines in self._all(before, after, lives):
                self._asserted.add_part(asserted_lines, part.asserted)
                exceptions = {key_of(line): line for line in lines.splitlines()}
                known = {key: since_of(line) for key, line in exceptions.items() if key not in part.after}
                add_part(tally, part, self._version.kind, functools.partial(self._days_since, known))
                if self._updates_ages:
                    for key in part.before.keys() - part.after.keys():
                        exceptions.pop(key, None)
                    for key in part.after.keys() - part.before.keys():
                        exceptions[key] = age_line(key, self._when)
                    is_empty = is_empty and not exceptions
                    draft.write(b"".join(line + b"\n" for line in sorted(exceptions.values())))
        self._asserted.end()
        self.ages_after = None if is_empty else draft.sealed

    def _days_live(self, ages: Ages, key: bytes) -> int | None:
        return self._days_since({key: ages.since(key)} if ages.is_exception(key) else {}, key)

    def _days_since(self, exceptions: Mapping[bytes, datetime], key: bytes) -> int | None:
        """The days that a removed entry was live; None if that is not known."""
        since = exceptions.get(key, self.default if self._knows_default else None)
        return None if since is None else max(0, (self._when - since).days)

    def _open(self, stack: ExitStack, version: Countable) -> _OpenedVersion:
        snapshot = stack.enter_context(self._files.map(version.snapshot)) if version.snapshot else b""
        sources = {
            name: stack.enter_context(open_assertion(self._files, digest)) for name, digest in version.sources.items()
        }
        return _OpenedVersion(snapshot, sources)

    def _touched(self, before: _OpenedVersion, after: _OpenedVersion) -> set[bytes] | None:
        """The keys that can be counted differently before and after; None if there are too many to look up each."""
        limit = max(FEW, max(len(before.snapshot), len(after.snapshot)) // LINE_BYTES // FULL_SHARE)
        if self._delta is not None:
            with self._files.map(self._delta) as delta:
                if len(delta) > limit * LINE_BYTES * 2:
                    return None
                lines = [line for side in parse(ENTRIES, delta[:]) for line in side]
        else:
            changed = few_changed_lines(before.snapshot, after.snapshot, limit)
            if changed is None:
                return None
            lines = [*changed[0], *changed[1]]
        no_lines: OpenAssertion = None, PatchedLines(b"")
        for name in before.sources.keys() | after.sources.keys():
            old, new = before.sources.get(name, no_lines), after.sources.get(name, no_lines)
            same = self._digests(name)
            found = [] if same[0] == same[1] else differing_lines(old, new, limit)
            if found is None:
                return None
            lines += found
        return set(map(key_of, lines))

    def _digests(self, source: SourceId) -> tuple[Sha256 | None, Sha256 | None]:
        counted = self._work.counted or figures.EMPTY
        return counted.sources.get(source), self._version.sources.get(source)

    def _few(self, before: _OpenedVersion, after: _OpenedVersion, keys: list[bytes]) -> Part:
        """The touched keys."""

        def categories(snapshot: Buffer) -> dict[bytes, str]:
            found = [line for key in keys if (line := find(snapshot, key)) is not None]
            return categories_of(b"".join(line + b"\n" for line in found), self._names)

        def asserted(opened: _OpenedVersion, name: SourceId) -> set[bytes]:
            if name not in opened.sources:
                return set()
            lines = opened.sources[name][1]
            return {key for key in keys if lines.find(key) is not None}

        names = before.sources.keys() | after.sources.keys()
        sources = {str(name): (asserted(before, name), asserted(after, name)) for name in names}
        return Part(categories(before.snapshot), categories(after.snapshot), sources)

    def _all(self, before: _OpenedVersion, after: _OpenedVersion, ages: Buffer) -> Iterator[_PartWithAges]:
        """All keys, part by part, each with its lines of `ages`, and of the ages of each source."""
        assertions = {
            (when, name): lines
            for when, opened in enumerate((before, after))
            for name, (_, lines) in opened.sources.items()
        }
        removed = {place: {key_of(line) for line in lines.removes} for place, lines in assertions.items()}
        bases, asserted = [lines.base for lines in assertions.values()], self._asserted.begin()
        for old, new, lives, *others in aligned_parts([before.snapshot, after.snapshot, ages, *bases, *asserted]):
            of_sources = others[: len(bases)]
            found: dict[tuple[int, SourceId], set[bytes]] = {}
            for (place, lines), part in zip(assertions.items(), of_sources, strict=True):
                found[place] = (set(keys_of(part)) - removed[place]) | lines.adds.keys()
            sources = {
                str(name): (found.get((0, name), set()), found.get((1, name), set()))
                for name in before.sources.keys() | after.sources.keys()
            }
            both = Part(categories_of(old, self._names), categories_of(new, self._names), sources)
            yield _PartWithAges(both, lives, others[len(bases) :])

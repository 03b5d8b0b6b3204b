"""The recorded churn from two sources with a quorum of 2 gives the list that one source gives, version for version.

The sources are pulled one after the other, through the guards. One name of SHARE takes part; all of them in
`make fuzz`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from blocklistd.model import Act, Outcome, SourceId, Version
from blocklistd.pipeline.decide import Decisions
from blocklistd.pipeline.reconcile import Reconciler
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.store.pulls import accept_body
from blocklistd.store.schema import lists
from tests import churn
from tests.examples import PROFILE
from tests.unit.test_pipeline_pull import background_ended, hotline, releases_of
from tests.versions_of import LIST, NOW, Versions, report

SHARE = 1 if PROFILE == "fuzz" else 64
TEXT = FormatOptions({}, {"type": "domain"})
REVIEWER = Act("candidate approve", "alice", 1000)


def bodies() -> Iterator[tuple[int, bytes]]:
    """The number of each version, and the names that take part, one a line."""
    before: set[str] = set()
    part: set[str] = set()
    for number, names in churn.versions():
        part ^= {name for name in names ^ before if not zlib.crc32(name.encode()) % SHARE}
        yield number, "".join(f"{name}\n" for name in sorted(part)).encode()
        before = names


class Pulled:
    """A list of some sources that all have to assert an entry. What the guards hold is approved."""

    def __init__(self, folder: Path, *sources: str) -> None:
        self.versions = Versions(folder, *sources)
        self.sources = {name: hotline(name) for name in sources}
        self.releases = releases_of(self.versions, *self.sources.values())
        plan = replace(self.versions.plan, quorum=len(sources))
        self.releases.configure({LIST: plan}, {source.id: source for source in self.sources.values()})
        reconciler = Reconciler(self.releases, self.versions.database)
        self.decisions = Decisions(self.releases, reconciler, self.versions.database, lambda: NOW)
        with self.versions.database.write() as connection:
            connection.execute(update(lists).values(secret=b"s" * 32))  # the ids of both lists are the same

    def store(self, body: bytes, source: str) -> None:
        sealed = self.versions.offer(body, "text", TEXT, source)
        with self.versions.database.write() as connection:
            accept_body(connection, SourceId(source), report(sealed), self.sources[source].settings)

    async def pull(self, body: bytes, source: str) -> Version:
        """Returns the live version after the pull, and after an approval if the guards held the change."""
        self.store(body, source)
        found = await self.releases.offer(LIST, SourceId(source))
        if found.outcome is Outcome.HELD:
            assert found.candidate is not None
            assert (await self.decisions.approve(found.candidate, REVIEWER)).version is not None
            await background_ended(self.releases)
        return self.versions.state.version


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Pulled]:
    made = Pulled(tmp_path / "one", "a")
    yield made
    made.versions.close()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Pulled]:
    made = Pulled(tmp_path / "two", "a", "b")
    yield made
    made.versions.close()


@pytest.mark.slow  # half of 89 versions change a name that takes part, and each is pulled three times
async def test_two_sources_that_must_agree_give_the_list_of_one(one: Pulled, two: Pulled) -> None:
    last: tuple[int, int] | None = None
    for number, body in bodies():
        before = set(one.versions.live.splitlines())
        version = await one.pull(body, "a")
        if last is None:
            two.store(body, "b")  # a first version waits for every source
        elif version == last[0]:
            continue
        first, second = ("a", "b") if number % 2 else ("b", "a")
        await two.pull(body, first)
        if last is not None:
            agreed = before & set(one.versions.live.splitlines())
            assert set(two.versions.live.splitlines()) == agreed, f"version {number}: only one source has it yet"
        found = version, await two.pull(body, second)
        assert two.versions.live == one.versions.live, f"version {number}"
        assert two.versions.state.withheld == {}
        if last is not None:
            assert one.versions.diff(last[0], found[0]) == two.versions.diff(last[1], found[1])
        last = found
    assert one.versions.state.version > churn.STEPS // 3

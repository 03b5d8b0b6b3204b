"""The dashboard: reads its facts at most every DASHBOARD_SECONDS, whatever the number of readers, and makes its pages.

The facts are read, and the pages are made, in threads: one at a time. While the database can't be read, the page says
so and shows what is in memory.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection

from blocklistd import __version__
from blocklistd.daemon.dashboard_facts import CourseReader, lists_of, read_present
from blocklistd.dashboard.facts import AlarmFacts, Course, DashboardFacts, DiskFacts
from blocklistd.dashboard.forecast import forecast
from blocklistd.dashboard.page import page
from blocklistd.errors import StoreError
from blocklistd.language import LANGUAGES, Language, accepted, language_of
from blocklistd.limits import DASHBOARD_COURSE, DASHBOARD_PAGES, DASHBOARD_SECONDS
from blocklistd.ops.health import PageRequest
from blocklistd.store import disk
from blocklistd.store.disk import DiskSample

if TYPE_CHECKING:
    from blocklistd.daemon.parts import Parts

WRITTEN_BY_PEOPLE: Final = frozenset({"policy_rejected"})
"""The alarms whose texts repeat a reason that a person gave."""


class Dashboard:
    """Answers with the page. Its parts are those of the daemon."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._reading = asyncio.Lock()
        self._reader = CourseReader()
        self._course: Course | None = None
        self._course_at = self._facts_at = float("-inf")
        self._facts: DashboardFacts | None = None
        self._pages: dict[tuple[str, str], bytes] = {}

    async def page(self, request: PageRequest) -> bytes:
        """The page for a request, in UTF-8."""
        language = self._language(request)
        async with self._reading:
            now = asyncio.get_running_loop().time()
            if self._facts is None or now - self._facts_at >= DASHBOARD_SECONDS:
                self._facts = await self._read(now)
                self._facts_at = asyncio.get_running_loop().time()
                self._pages.clear()
            chosen = request.list if any(one.id == request.list for one in self._facts.lists) else ""
            made = self._pages.get((language.code, chosen))
            if made is None:
                made = (await asyncio.to_thread(page, self._facts, language, chosen)).encode()
                if len(self._pages) < DASHBOARD_PAGES:
                    self._pages[language.code, chosen] = made
            return made

    def _language(self, request: PageRequest) -> Language:
        if request.language in LANGUAGES:
            return language_of(request.language)
        return accepted(request.accepted, self._parts.config.language)

    async def _read(self, now: float) -> DashboardFacts:
        parts = self._parts
        database, clock = parts.resources.database, parts.resources.clock()
        found: dict[str, Any] = {"lists": lists_of(parts), "readable": False}
        samples: list[DiskSample] = []
        course = self._course or Course(clock.astimezone(UTC).date(), {}, {}, {})

        def read(connection: Connection) -> tuple[dict[str, Any], list[DiskSample]]:
            return read_present(parts, connection, course) | {"readable": True}, disk.samples(connection)

        try:
            if self._course is None or now - self._course_at >= DASHBOARD_COURSE or self._is_new_day(clock):
                course = self._course = await database.reading(partial(self._reader.read, now=clock))
                self._course_at = now
            found, samples = await database.reading(read)
        except StoreError:  # the alarm of the database and the log have the reason
            pass
        readiness = parts.readiness()
        alarms = parts.resources.alarms.active()
        texts = set(alarms.values())
        return DashboardFacts(
            now=clock.astimezone(UTC),
            version=__version__,
            host=socket.gethostname(),
            root_days=(parts.publisher.trust.expires - clock).days,
            course=course,
            alarms=[
                AlarmFacts(kind, subject, None if kind in WRITTEN_BY_PEOPLE else text)
                for (kind, subject), text in alarms.items()
            ],
            down=readiness.down,
            notes=[line for line in readiness.wrong if line not in texts],
            disk=await asyncio.to_thread(self._disk, samples),
            **found,
        )

    def _is_new_day(self, clock: datetime) -> bool:
        return self._course is not None and self._course.today != clock.astimezone(UTC).date()

    def _disk(self, samples: list[DiskSample]) -> DiskFacts | None:
        try:
            found = shutil.disk_usage(self._parts.resources.store.state_dir)
        except OSError:
            return None
        today = self._parts.resources.clock().astimezone(UTC).date()
        known = [*(one for one in samples if one.day < today), DiskSample(today, found.free, found.total)]
        return DiskFacts(found.free, found.total, forecast(known))

"""A store with one list in a folder of the test: names in, versions out, without processes in between."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blocklistd.change import Change, ChangeKind
from blocklistd.compose.guard import DailyLimits
from blocklistd.model import CandidateId, IntakeReport, ListId, Sha256, SourceId, Version
from blocklistd.pipeline import commit as commit
from blocklistd.pipeline.commit import CommitResult
from blocklistd.pipeline.list_plan import ListPlan
from blocklistd.sources.formats import FORMATS
from blocklistd.sources.formats.records import FormatOptions
from blocklistd.sources.intake.canonical import Canonical, canonicalise
from blocklistd.sources.intake.entries import ResultForm, read_entries, write_result
from blocklistd.sources.intake.incremental import Base
from blocklistd.store.asserted import adopt, open_assertion
from blocklistd.store.database import Database
from blocklistd.store.files import Disk
from blocklistd.store.lists import ListState, ensure_list, list_state
from blocklistd.store.render import diff_path, write_diff
from blocklistd.store.verified import Verified
from tests.databases import migrated_store

LIST = ListId("national")
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def plan(*sources: str) -> ListPlan:
    """A list of these sources with the default guards."""
    return ListPlan(
        id=LIST,
        sources=tuple(map(SourceId, sources)),
        types=("url", "host", "domain"),
        allow_public_suffix=False,
        allow_ip=False,
        max_added=0.2,
        max_removed=0.1,
        daily=DailyLimits(0.4, 0.2),
        min_change=10,
        min_entries=1,
        max_rejected=0.01,
        release="auto",
    )


def report(asserted: Sha256) -> IntakeReport:
    """What the intake job says of a body with one record that asserts this."""
    return IntakeReport(Sha256("0" * 64), asserted, 1, 1, {"domain": 1}, {}, {})


ANYTHING: Any = {
    "max_added": 1e9,
    "max_removed": 1.0,
    "daily": None,
    "max_rejected": 1.0,
    "min_entries": 0,
    "release": "auto",
}
"""Guards that hold nothing."""


class Versions:
    """Opens the state_dir as a newly started daemon does: migrated, in an epoch of its own."""

    def __init__(self, state_dir: Path, *sources: str, disk: Disk | None = None) -> None:
        self.plan = plan(*(sources or ("hotline",)))
        state_dir.mkdir(parents=True, exist_ok=True)
        self._offered: dict[str, tuple[bytes, Sha256, Canonical]] = {}
        found = migrated_store(state_dir)
        self.database = Database(found.backend)
        self.database.migrate()
        self.database.take_over()
        self.store = replace(found, epoch=self.database.epoch, disk=disk or Disk())
        self.store.sealed.prepare()
        self.verified = Verified(self.store.sealed)
        with self.database.write() as connection:
            ensure_list(connection, LIST, NOW)

    def close(self) -> None:
        self.database.close()

    def seal(self, lines: Iterable[str], format_: str = "text", **fields: str) -> Sha256:
        """What the intake job makes of a body."""
        options = FormatOptions(fields=fields, defaults={"type": "domain"})
        body = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
        with self.store.sealed.create() as draft:
            canonicalise(FORMATS[format_].records(body, options), draft)  # type: ignore[arg-type]
        assert draft.sealed is not None
        return draft.sealed

    def offer(self, body: bytes, format: str, options: FormatOptions, source: str = "hotline") -> Sha256:
        """What a pull seals of a body: all lines, or a patch where they follow from the source's last body."""
        files = self.store.sealed
        last_body, before, last = self._offered.get(source, (b"", None, None))
        with open_assertion(files, before) as (digest, patch), TemporaryDirectory() as folder:
            base = None
            if last is not None:
                base = Base(last_body, patch, last.notes, last.records, last.types, last.dropped_attributes)
            out, changed = Path(folder) / "canonical", Path(folder) / "patch"
            with open(out, "xb") as lines, open(changed, "xb") as changes:
                found = read_entries(body, format, options, base, lines)
                left = ResultForm.CANONICAL
                if found.asserted is not None:
                    assert digest is not None
                    left = write_result(found, digest, changes, lines)
            if left == ResultForm.CANONICAL:
                offered = adopt(files, out)
            else:
                assert before is not None
                offered = adopt(files, changed, before) if left == ResultForm.PATCH else before
        self._offered[source] = (body, offered, found.canonical)
        return offered

    def change(self, asserted: Sha256, source: str = "hotline", rejected: int = 0) -> Change:
        """The source asserts this from now on, under the configured policy."""
        state, policy = self.state, self.plan.policy
        known = state.accepted | {SourceId(source): asserted}
        sources = {name: known[name] for name in policy.sources if name in known}
        return Change(ChangeKind.SOURCE, source, policy, sources, records=1000, rejected=rejected)

    def publish(self, asserted: Sha256, source: str = "hotline", now: datetime = NOW) -> Version | None:
        """Releases it, whatever the guards say."""
        plan, self.plan = self.plan, replace(self.plan, **ANYTHING, min_change=10**9)
        try:
            settled = self.commit(asserted, source, now=now)
        finally:
            self.plan = plan
        assert settled.candidate is None, settled.candidate
        return settled.made

    def commit(
        self, asserted: Sha256, source: str = "hotline", rejected: int = 0, now: datetime = NOW, **wanted: Any
    ) -> CommitResult:
        """As a pull does it."""
        change = self.change(asserted, source, rejected)
        order = commit.CommitRequest(self.plan, change, CandidateId(f"c-{secrets.token_hex(3)}"), now, {}, **wanted)
        return commit.commit(self.store, order)

    def expire(self, now: datetime) -> CommitResult:
        """As the daemon does it when an expiry is due."""
        state = self.state
        assert state.policy is not None
        change = Change(ChangeKind.EXPIRY, "", state.policy, state.accepted)
        return commit.commit(self.store, commit.CommitRequest(self.plan, change, CandidateId("c-0"), now, {}))

    @property
    def state(self) -> ListState:
        with self.database.read() as connection:
            return list_state(connection, LIST)

    @property
    def live(self) -> bytes:
        """The live snapshot; b"" before the first version."""
        state = self.state
        return self.store.sealed.path(state.live.sha256).read_bytes() if state.live else b""

    def diff(self, start: int, end: int) -> bytes:
        write_diff(self.store, LIST, self.state.session, Version(start), Version(end))
        return diff_path(self.store, self.state.session, Version(start), Version(end)).read_bytes()

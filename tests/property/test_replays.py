"""The law of replays: no body is accepted again once another one has replaced it, whatever becomes of the keys.

It holds for any order of signing, serving and changes of the configured keys. A fresh signature is accepted, of an old
body too, and no key that was removed locks a source.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, multiple, rule

from blocklistd.errors import StaleError
from blocklistd.model import IntakeReport, Sha256, SourceId
from blocklistd.sources.proofs.proof import Proven, check_replay
from blocklistd.store.pulls import accept_body, source_state
from blocklistd.store.replays import histories_for, superseded
from tests.examples import examples
from tests.versions_of import Versions

HOTLINE = SourceId("hotline")
KEYS = tuple(Sha256(name * 64) for name in "abc")


class Publication(NamedTuple):
    number: int
    key: Sha256
    signed_at: int | None

    @property
    def proven(self) -> Proven:
        return Proven(Sha256(f"{self.number:064x}"), self.signed_at, self.key)


class World(RuleBasedStateMachine):
    publications = Bundle("publications")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.versions = Versions(Path(self.folder.name))
        self.keys: frozenset[Sha256] = frozenset(KEYS[:1])
        self.count = 0
        self.accepted: list[Publication] = []
        """In the order of acceptance, without those of keys that were not configured at a later acceptance."""

    def teardown(self) -> None:
        self.versions.close()
        self.folder.cleanup()

    @rule(keys=st.frozensets(st.sampled_from(KEYS), min_size=1))
    def configure(self, keys: frozenset[Sha256]) -> None:
        self.keys = keys

    @rule(target=publications, key=st.sampled_from(KEYS), signed_at=st.none() | st.integers(0, 6))
    def sign(self, key: Sha256, signed_at: int | None) -> Publication:
        self.count += 1
        return Publication(self.count, key, signed_at)

    @rule(target=publications, key=st.sampled_from(KEYS))
    def sign_later_than_all(self, key: Sha256) -> object:
        """Which is what an honest hotline does, with a body that may be an old one."""
        if key not in self.keys:
            return multiple()
        self.count += 1
        made = Publication(self.count, key, max((one.signed_at or 0 for one in self.accepted), default=0) + 1)
        assert self._serve(made), "a fresh signature is accepted"
        return made

    @rule(served=publications)
    def serve(self, served: Publication) -> None:
        if served.key not in self.keys:
            return  # it is not verified
        last = self.accepted[-1] if self.accepted else None
        known = served in self.accepted and served != last
        times = [one.signed_at for one in self.accepted if one.key in self.keys and one.signed_at is not None]
        is_earlier = served.signed_at is not None and any(served.signed_at < time for time in times)
        was_accepted = self._serve(served)
        assert not (was_accepted and known), "it was replaced"
        assert not (was_accepted and is_earlier and served != last), "a later one of a configured key was accepted"
        assert was_accepted or known or is_earlier, "it is refused without a reason"

    def _serve(self, served: Publication) -> bool:
        with self.versions.database.write() as connection:
            state = source_state(connection, HOTLINE)
            try:
                check_replay(
                    served.proven,
                    last_signature=state.signature,
                    histories=histories_for(state.histories, self.keys, None),
                    superseded=superseded(connection, HOTLINE),
                )
            except StaleError:
                return False
            zero = Sha256("0" * 64)
            proven = served.proven
            report = IntakeReport(
                zero, zero, 1, 1, {}, {}, {}, signature=proven.signature, signed_at=proven.signed_at, key=proven.key
            )
            accept_body(connection, HOTLINE, report, "", keys=self.keys)
        if served in self.accepted:
            self.accepted.remove(served)
        self.accepted = [*(one for one in self.accepted if one.key in self.keys), served]
        return True


TestReplays = World.TestCase
TestReplays.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)

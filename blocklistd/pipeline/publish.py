"""Sign the newest version of a list and serve it to the subscribers.

Order: sign the roles that are due (TUF metadata); save them in one transaction; write their numbers to the high-water
file; replace the list's view in memory. After a crash in between, the next start signs a stored version that is not
signed yet, and then serves it.

A list is signed only between `configure` and `forget`. Each list has a lock: its signings do not overlap.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final, NamedTuple

from blocklistd.change import VersionInfo
from blocklistd.errors import BehindError, SigningError, StoreError, safe_message
from blocklistd.events import Event
from blocklistd.kinds import CANONICALISER
from blocklistd.limits import KEPT_SNAPSHOTS
from blocklistd.model import ListId, Version
from blocklistd.serve.http.live_lists import ListView, LiveLists, view
from blocklistd.signing.roles import Lifetimes, newest, sign, signer_of
from blocklistd.signing.trust import Trust
from blocklistd.store.database import Database
from blocklistd.store.high_water import HighWater
from blocklistd.store.lists import ListState, list_state, oldest_diff, version_rows
from blocklistd.store.metadata import SignedRole, load_roles, save_roles
from blocklistd.store.numbers import note_high_water, start_above_number
from blocklistd.telemetry import Telemetry
from blocklistd.times import Clock

log: Final = logging.getLogger(__name__)


class _StoredList(NamedTuple):
    """A list as the store has it. `kept`: its newest versions, whose snapshots are kept. `oldest_diff`: the oldest
    version that diffs start from. `start_above`: the number that new role versions must exceed."""

    state: ListState
    roles: list[SignedRole]
    kept: list[VersionInfo]
    oldest_diff: Version
    start_above: int


class Publisher:
    """Signs and serves lists. Only this class uses the online key.

    `clock`: the time of new signatures. `latest`: the later of this time and the system's (CheckedClock.latest).
    """

    def __init__(
        self,
        database: Database,
        live_lists: LiveLists,
        trust: Trust,
        clock: Clock,
        telemetry: Telemetry,
        high_water: HighWater | None = None,
        latest: Clock | None = None,
    ) -> None:
        self._database = database
        self._live_lists = live_lists
        self.trust = trust
        self._clock = clock
        self._latest = latest or clock
        self._telemetry = telemetry
        self._high_water = high_water or HighWater()
        self._lifetimes: dict[ListId, Lifetimes] = {}
        self.signed: dict[ListId, dict[str, SignedRole]] = {}
        """For each list, its newest signed roles, by name (TUF 2.1: targets, snapshot, timestamp)."""
        self.damaged: set[ListId] = set()
        """Lists whose live snapshot is damaged. They are still signed, but the file is not sent until it is rebuilt."""
        self.stored: dict[ListId, Version] = {}
        """For each list, its newest version in the store at the last attempt to sign it."""
        self.on_served: Callable[[ListView], None] = lambda view: None
        """Called on the event loop with each view that is served."""
        self._locks: defaultdict[ListId, asyncio.Lock] = defaultdict(asyncio.Lock)

    def configure(self, list_id: ListId, expires: timedelta, timestamp_expires: timedelta) -> None:
        """Sets how long a list's signatures are valid, and lets the list be signed from now on.

        `expires`: of the roles targets and snapshot. `timestamp_expires`: of the role timestamp.
        """
        self._lifetimes[list_id] = Lifetimes(expires, timestamp_expires)

    async def publish(self, list_id: ListId) -> None:
        """Renews the signatures that are due for the list's newest version, and serves that version. Does nothing if
        the list is not configured any more.

        If the signatures can't be made or written and the list is not served yet, its newest signed version is served.

        Raises SigningError, and StoreError if the newest version can't be served; the version served before then stays.
        """
        async with self._locks[list_id]:
            lifetimes = self._lifetimes.get(list_id)
            if lifetimes is None:
                return
            try:
                with self._telemetry.time_stage("sign", list_id):
                    made, signed = await asyncio.to_thread(self._sign, list_id, lifetimes)
            except (StoreError, SigningError) as error:
                if self._live_lists.get(list_id) is not None or isinstance(error, BehindError):
                    raise
                Event.SIGNATURE_NOT_WRITTEN.log(log, list=list_id, reason=error)
                made, signed = await asyncio.to_thread(self._last_signed, list_id)
            if list_id in self._lifetimes:
                self.signed[list_id] = signed
                self._live_lists.publish(made)
                self.on_served(made)

    def serves(self, list_id: ListId, version: Version) -> bool:
        """Whether this version of the list is signed and served."""
        view = self._live_lists.get(list_id)
        return view is not None and view.version == version

    def served(self, list_id: ListId, version: Version) -> VersionInfo | None:
        """The served version of a list, or None where another one is served."""
        view = self._live_lists.get(list_id)
        made = view.live if view is not None else None
        return made if made is not None and made.version == version else None

    def _sign(self, list_id: ListId, lifetimes: Lifetimes) -> tuple[ListView, dict[str, SignedRole]]:
        """Signs the roles that are due, and saves them. Returns the view to serve and the newest roles by name."""
        now, latest, trust = self._clock(), self._latest(), self.trust
        stored = self._load(list_id)
        state, roles = stored.state, stored.roles
        self.stored[list_id] = state.version
        new = sign(list_id, state.live, newest(roles), lifetimes, now, trust.online, stored.start_above, latest)
        if new:
            with self._database.write() as connection:
                save_roles(connection, list_id, new)
                if self._high_water.written is not None:
                    note_high_water(connection, str(self._high_water.written))
            Event.LIST_SIGNED.log(log, roles=[role.role for role in new], list=list_id)
        roles += new
        served = self._live_lists.get(list_id)
        self._high_water.record_list(
            list_id,
            state.session,
            state.version,
            {name: role.version for name, role in newest(roles).items()},
            replaces=served is not None and served.version != state.version,
        )
        return self._view(list_id, stored.kept, stored, roles, trust.roots), newest(roles)

    def _last_signed(self, list_id: ListId) -> tuple[ListView, dict[str, SignedRole]]:
        """Returns the view and the roles, as `_sign`, of the newest signed version that the high-water file allows and
        whose signer a root names.

        Raises StoreError where there is none.
        """
        stored = self._load(list_id)
        state, roles = stored.state, stored.roles
        shown = self._high_water.highest_numbers.lists.get(list_id)
        if shown is not None:
            same_session = shown.get("session") == state.session
            roles = [role for role in roles if same_session and role.target <= shown.get("version", 0)]
        roots = self.trust.roots
        roles = [role for role in roles if self.trust.roots_of(signer_of(role))]
        signed = newest(roles)
        if "timestamp" in signed:
            roots = self.trust.roots_of(signer_of(signed["timestamp"]))
        target = signed["targets"].target if "targets" in signed else 0
        kept = [version for version in stored.kept if version.version <= target]
        return self._view(list_id, kept, stored, roles, roots), signed

    def _view(
        self,
        list_id: ListId,
        kept: list[VersionInfo],
        stored: _StoredList,
        roles: list[SignedRole],
        roots: Mapping[int, bytes],
    ) -> ListView:
        session, oldest = stored.state.session, stored.oldest_diff
        return view(list_id, session, kept, oldest, roles, roots, CANONICALISER)

    def _load(self, list_id: ListId) -> _StoredList:
        with self._database.read() as connection:
            return _StoredList(
                state=list_state(connection, list_id),
                roles=load_roles(connection, list_id),
                kept=list(version_rows(connection, list_id, newest=KEPT_SNAPSHOTS)),
                oldest_diff=oldest_diff(connection, list_id),
                start_above=start_above_number(connection),
            )

    async def adopt(self, trust: Trust) -> SigningError | None:
        """Signs and serves every list under a new root of trust. Each list changes to the new root and to the
        signatures of its online key in one step; until then, and if it can't be signed, it keeps the old ones. Returns
        as `sign_again`.
        """
        self.trust = trust
        return await self.sign_again()

    async def sign_again(self) -> SigningError | None:
        """Renews the signatures that are due in all lists. An error of one list is logged, not raised. Returns the last
        SigningError: the online key can't be used."""
        failed = None
        for list_id in list(self._lifetimes):
            try:
                await self.publish(list_id)
            except Exception as error:
                Event.LIST_NOT_SIGNED.log(log, list=list_id, reason=safe_message(error))
                failed = error if isinstance(error, SigningError) else failed
        return failed

    def forget(self, list_id: ListId) -> None:
        """Stops signing and serving a list that is no longer configured. The store keeps the list."""
        self._lifetimes.pop(list_id, None)
        self.signed.pop(list_id, None)
        self._live_lists.withdraw(list_id)

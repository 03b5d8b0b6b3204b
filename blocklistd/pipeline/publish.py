"""Sign and publish: from a version in the store to what subscribers see.

The signed metadata is saved first, in one transaction; its numbers go into the high-water file; then the view in memory
is replaced. After a crash in between, the next start signs what is in the store and not signed yet, and then serves it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from datetime import timedelta
from typing import Final

from blocklistd.errors import BehindError, StoreError, told
from blocklistd.events import Event
from blocklistd.kinds import CANONICALISER
from blocklistd.limits import KEPT_SNAPSHOTS
from blocklistd.model import ListId, Version, VersionInfo
from blocklistd.serve.http.catalogue import Catalogue, ListView, view
from blocklistd.signing.keys import Trust
from blocklistd.signing.roles import Lives, newest, sign
from blocklistd.store.database import Database
from blocklistd.store.high_water import HighWater
from blocklistd.store.lists import ListState, list_state, oldest_diff, version_rows
from blocklistd.store.metadata import SignedRole, load_roles, save_roles
from blocklistd.store.numbers import above, note_high_water
from blocklistd.telemetry import Telemetry
from blocklistd.times import Clock

log: Final = logging.getLogger(__name__)


class Publisher:
    """Signs with the online key, which is nowhere else, and flips the pointer."""

    def __init__(
        self,
        database: Database,
        catalogue: Catalogue,
        trust: Trust,
        clock: Clock,
        telemetry: Telemetry,
        high_water: HighWater | None = None,
        latest: Clock | None = None,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self.trust = trust
        self._clock = clock
        self._latest = latest or clock
        self._telemetry = telemetry
        self._high_water = high_water or HighWater()
        self._lives: dict[ListId, Lives] = {}
        self.signed: dict[ListId, dict[str, SignedRole]] = {}
        """The newest of each list's signed roles, by name."""
        self.damaged: set[ListId] = set()
        """Lists whose live snapshot is damaged: signed as ever, but the file is not sent until it is made again."""
        self.stored: dict[ListId, Version] = {}
        """Each list's newest version in the store, as of the last attempt to sign it."""
        self._locks: defaultdict[ListId, asyncio.Lock] = defaultdict(asyncio.Lock)

    def configure(self, list_id: ListId, expires: timedelta, timestamp_expires: timedelta) -> None:
        """How long this list's signatures are good for."""
        self._lives[list_id] = Lives(expires, timestamp_expires)

    async def publish(self, list_id: ListId) -> None:
        """Signs what is due for the list's newest version, and serves it, unless the list is forgotten meanwhile. Where
        the signatures can't be written and the list is not served yet, its newest signed version is served instead.

        Raises SigningError, and StoreError where nothing new can be served.
        """
        async with self._locks[list_id]:
            lives = self._lives.get(list_id)
            if lives is None:
                return
            try:
                with self._telemetry.time_stage("sign", list_id):
                    made, signed = await asyncio.to_thread(self._sign, list_id, lives)
            except StoreError as error:
                if self._catalogue.get(list_id) is not None or isinstance(error, BehindError):
                    raise
                Event.SIGNATURE_NOT_WRITTEN.log(log, list=list_id, reason=error)
                made, signed = await asyncio.to_thread(self._as_signed, list_id)
            if list_id in self._lives:
                self.signed[list_id] = signed
                self._catalogue.publish(made)

    def serves(self, list_id: ListId, version: Version) -> bool:
        """Whether that version is signed and served."""
        view = self._catalogue.get(list_id)
        return view is not None and view.version == version

    def served(self, list_id: ListId, version: Version) -> VersionInfo | None:
        """The served version of a list, or None where another one is served."""
        view = self._catalogue.get(list_id)
        made = view.live if view is not None else None
        return made if made is not None and made.version == version else None

    def _sign(self, list_id: ListId, lives: Lives) -> tuple[ListView, dict[str, SignedRole]]:
        now, latest = self._clock(), self._latest()
        state, roles, kept, oldest, lowest = self._load(list_id)
        self.stored[list_id] = state.version
        new = sign(list_id, state.live, newest(roles), lives, now, self.trust.online, lowest, latest)
        if new:
            with self._database.write() as connection:
                save_roles(connection, list_id, new)
                if self._high_water.written is not None:
                    note_high_water(connection, str(self._high_water.written))
            Event.LIST_SIGNED.log(log, roles=[role.role for role in new], list=list_id)
        roles += new
        served = self._catalogue.get(list_id)
        self._high_water.show_list(
            list_id,
            state.session,
            state.version,
            {name: role.version for name, role in newest(roles).items()},
            replaces=served is not None and served.version != state.version,
        )
        return view(list_id, state.session, kept, oldest, roles, self.trust.roots, CANONICALISER), newest(roles)

    def _as_signed(self, list_id: ListId) -> tuple[ListView, dict[str, SignedRole]]:
        """The newest signed version that is not newer than the last one in the high-water file. Raises StoreError where
        there is none."""
        state, roles, kept, oldest, _ = self._load(list_id)
        shown = self._high_water.marks.lists.get(list_id)
        if shown is not None:
            here = shown.get("session") == state.session
            roles = [role for role in roles if here and role.target <= shown.get("version", 0)]
        signed = newest(roles)
        target = signed["targets"].target if "targets" in signed else 0
        kept = [version for version in kept if version.version <= target]
        return view(list_id, state.session, kept, oldest, roles, self.trust.roots, CANONICALISER), signed

    def _load(self, list_id: ListId) -> tuple[ListState, list[SignedRole], list[VersionInfo], Version, int]:
        with self._database.read() as connection:
            state = list_state(connection, list_id)
            kept = list(version_rows(connection, list_id, newest=KEPT_SNAPSHOTS))
            oldest = oldest_diff(connection, list_id)
            return state, load_roles(connection, list_id), kept, oldest, above(connection)

    async def sign_again(self) -> None:
        """Renews what is due in every list; one list's failure does not keep the others from it."""
        for list_id in list(self._lives):
            try:
                await self.publish(list_id)
            except Exception as error:
                Event.LIST_NOT_SIGNED.log(log, list=list_id, reason=told(error))

    def forget(self, list_id: ListId) -> None:
        """The list is no longer configured: not signed, not served; the store keeps it."""
        self._lives.pop(list_id, None)
        self.signed.pop(list_id, None)
        self._catalogue.withdraw(list_id)

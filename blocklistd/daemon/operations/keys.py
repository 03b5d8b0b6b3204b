"""Operations on the keys: shows them, makes the next root.json for its holders to sign, and adopts it.

`adopt` changes from one root of trust to the next in this order: check the signatures, and try the online key that the
next root names; write the root under a temporary name; commit the line of the audit; give the root its name; then sign
and serve each list again. Before the commit nothing has changed, and a start after a crash finishes the rest.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeVar

import orjson
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization.json import JSONSerializer

from blocklistd.config import Config
from blocklistd.daemon.commands.command import Call, Document
from blocklistd.errors import RefusedError, SigningError
from blocklistd.model import Act
from blocklistd.pipeline.publish import Publisher
from blocklistd.signing import ceremony, online
from blocklistd.signing.pem import read_public_key
from blocklistd.signing.trust import Trust, install, roots_dir, stage
from blocklistd.store import audit
from blocklistd.store.database import Database
from blocklistd.times import Clock, rfc3339

T = TypeVar("T")
TAKE_OVER: Final = "keys.next is the online key now: write its value under keys.online, remove keys.next, then reload"


class KeyOperations:
    """The effects of the commands of keys. `check_alarms` is called after a change."""

    def __init__(
        self,
        configured: Callable[[], Config],
        database: Database,
        publisher: Publisher,
        clock: Clock,
        check_alarms: Callable[[], Awaitable[None]],
    ) -> None:
        self._configured = configured
        self._database = database
        self._publisher = publisher
        self._clock = clock
        self._check_alarms = check_alarms
        self._changing = asyncio.Lock()

    @property
    def _trust(self) -> Trust:
        return self._publisher.trust

    async def root(self) -> Document:
        """The newest root.json (TUF 4.3)."""
        return orjson.loads(self._trust.roots[self._trust.version])

    def root_expiry(self) -> Document:
        """The version of the newest root.json, when it expires, and the days left, for `status`."""
        trust = self._trust
        days = (trust.expires - self._clock()) // timedelta(days=1)
        return {"version": trust.version, "expires": rfc3339(trust.expires), "days_left": days}

    async def show(self) -> Document:
        """The trusted root, the online key, and the next step; None if nothing is to do."""
        trust, now = self._trust, self._clock()
        role, key, place = trust.newest.signed.roles["root"], trust.online.public_key, trust.online.place
        return {
            "root": self.root_expiry() | {"threshold": role.threshold, "keys": list(role.keyids)},
            "online": {"keyid": key.keyid, "scheme": key.scheme, "place": place.key},
            "todo": trust.alarm(now) or (TAKE_OVER if place.key == "keys.next" else None),
        }

    async def draft(self, call: Call) -> Document:
        """The newest root, and the next one without signatures: `{"current","next"}`. Makes the next online key, if
        that is a file that does not exist. Raises RefusedError."""
        async with self._changing:
            return await self._refused(asyncio.to_thread(self._draft, call))

    async def adopt(self, document: Document, act: Act) -> Document:
        """Adopts a signed next root. Raises RefusedError, which leaves everything as it is, and StoreError."""
        async with self._changing:
            self._database.require()
            trust = await self._refused(asyncio.to_thread(self._adopt, document, act))
            failed = await self._publisher.adopt(trust)
            await self._check_alarms()
        if failed is not None:
            raise SigningError(f"version {trust.version} of root.json is adopted, but a list is not signed: {failed}")
        return await self.show()

    async def _refused(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except SigningError as error:
            raise RefusedError(f"nothing was changed: {error}") from error

    def _draft(self, call: Call) -> Document:
        current, config = self._trust.newest, self._configured()
        new = ceremony.next_root(current, self._clock() + config.keys.root_expires)
        detail: dict[str, object] = {"change": call["change"]}
        if call["change"] == "online":
            key = self._next_online_key(config, call["public_key"])
            ceremony.replace_online_key(new.signed, key)
            detail["online"] = key.keyid
        elif call["change"] == "root":
            added = [read_public_key(pem.encode(), "--add-key") for pem in call["add_key"]]
            removed, threshold = call["remove_key"], call["threshold"]
            ceremony.change_root_keys(new.signed, added, removed, threshold, replace=call["replace"])
        with self._database.write() as connection:
            audit.append(connection, call.act, f"root {new.signed.version}", now=self._clock(), detail=detail)
        return {"current": current.to_dict(), "next": new.to_dict()}

    def _next_online_key(self, config: Config, given: str | None) -> Key:
        """The public key of the next online key. Raises SigningError if there is no place for it."""
        if self._trust.online.place.key == "keys.next":
            raise SigningError(f"{TAKE_OVER}; name the key after it in keys.next")
        found = online.places(config)
        if len(found) == 1:
            raise SigningError(
                f"keys.online {found[0].where}: the daemon can't write another key there: name the next one in "
                f"keys.next, then run `blocklistd reload`"
            )
        key = online.public_key_of(config, found[1], read_public_key(given.encode(), "--public-key") if given else None)
        if key.keyid == self._trust.online.public_key.keyid:
            raise SigningError(f"{found[1].key} {found[1].where}: it is the key that signs now: name another one")
        return key

    def _adopt(self, document: Document, act: Act) -> Trust:
        trust, config = self._trust, self._configured()
        new = ceremony.accept(trust.newest, ceremony.parse_root(document, "the file"), "the file", self._clock())
        signer, before = trust.online, ceremony.online_key_id(trust.newest.signed)
        online_id = ceremony.online_key_id(new.signed)
        if online_id != before:
            signer = online.open_online(config, new.signed.keys[online_id])
            signer.try_out()
        version, body = new.signed.version, new.to_bytes(JSONSerializer(compact=True))
        folder = roots_dir(config.state_dir)
        stage(folder, version, body)
        with self._database.write() as connection:
            detail = _audit_detail(new, body, online_id if online_id != before else None)
            audit.append(connection, act, f"root {version}", now=self._clock(), detail=detail)
        install(folder, version)
        return replace(
            trust,
            roots=trust.roots | {version: body},
            online_ids=trust.online_ids | {version: online_id},
            newest=new,
            online=online.in_its_place(config, signer),
        )


def _audit_detail(new: Metadata[Root], body: bytes, online_id: str | None) -> dict[str, object]:
    role = new.signed.roles["root"]
    detail: dict[str, object] = {
        "sha256": hashlib.sha256(body).hexdigest(),
        "expires": rfc3339(new.signed.expires),
        "root_keys": list(role.keyids),
        "threshold": role.threshold,
        "signed_by": sorted(new.signatures),
    }
    return detail if online_id is None else detail | {"online": online_id}


def is_adopted(database: Database, version: int, digest: str) -> bool:
    """Whether the audit has the line of adopting this root: its version and the SHA-256 of its file."""
    with database.read() as connection:
        return any(line.detail.get("sha256") == digest for line in audit.lines_of(connection, f"root {version}"))

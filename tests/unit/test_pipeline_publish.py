"""Publishing a list while a reload removes it, and while the database can't be written."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from securesystemslib.signer import CryptoSigner, Signature

from blocklistd.errors import SigningError, StoreError
from blocklistd.model import ListId, Version
from blocklistd.pipeline import publish
from blocklistd.pipeline.publish import Publisher
from blocklistd.serve.http.live_lists import Document, ListView, LiveLists
from blocklistd.signing.roles import Lifetimes
from blocklistd.signing.trust import Trust
from blocklistd.store.metadata import SignedRole
from blocklistd.telemetry import Telemetry
from tests.versions_of import LIST, NOW, Versions


class SlowPublisher(Publisher):
    """Signs when the test sets `may_sign`."""

    may_sign = threading.Event()

    def _sign(self, list_id: ListId, lives: Lifetimes) -> tuple[ListView, dict[str, SignedRole]]:
        self.may_sign.wait(30)
        return ListView(list_id, "", None, Version(0), Document.of(b""), {}, {}, NOW), {}


async def test_a_list_that_is_forgotten_while_it_is_signed_is_not_served(tmp_path: Path) -> None:
    versions, live_lists = Versions(tmp_path), LiveLists()
    trust = cast(Trust, cast(Any, SimpleNamespace()))
    publisher = SlowPublisher(versions.database, live_lists, trust, lambda: NOW, Telemetry())
    publisher.configure(LIST, timedelta(days=14), timedelta(days=1))
    publishing = asyncio.ensure_future(publisher.publish(LIST))
    await asyncio.sleep(0)
    publisher.forget(LIST)
    publisher.may_sign.set()
    await publishing
    assert live_lists.get(LIST) is None
    assert LIST not in publisher.signed
    versions.close()


async def test_the_last_signed_version_is_served_where_signatures_cant_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon starts on a full or read-only disk, hours later, with a stored version that is not signed yet."""
    versions, now = Versions(tmp_path), NOW
    trust = cast(
        Trust,
        cast(
            Any,
            SimpleNamespace(
                online=CryptoSigner.generate_ed25519(), roots={1: b"{}"}, roots_of=lambda signer: {1: b"{}"}
            ),
        ),
    )

    def publisher(live_lists: LiveLists) -> Publisher:
        made = Publisher(versions.database, live_lists, trust, lambda: now, Telemetry())
        made.configure(LIST, timedelta(days=14), timedelta(days=1))
        return made

    def full(*_: object) -> None:
        raise StoreError("the disk is full")

    live_lists = LiveLists()
    running = publisher(live_lists)
    with monkeypatch.context() as broken:
        broken.setattr(publish, "save_roles", full)
        with pytest.raises(StoreError, match="is not signed"):
            await running.publish(LIST)
    versions.publish(versions.seal(["a.example"]))
    await running.publish(LIST)
    before = live_lists.get(LIST)
    assert before is not None
    assert before.version == 1
    now = NOW + timedelta(hours=7)
    versions.publish(versions.seal(["b.example"]))
    monkeypatch.setattr(publish, "save_roles", full)
    with pytest.raises(StoreError, match="the disk is full"):
        await running.publish(LIST)
    assert live_lists.get(LIST) is before, "a running daemon goes on serving the version before"
    started = LiveLists()
    await publisher(started).publish(LIST)
    after = started.get(LIST)
    assert after is not None
    assert (after.version, after.status) == (1, before.status)
    assert after.metadata == before.metadata
    assert list(after.targets) == list(before.targets)
    monkeypatch.undo()
    await running.publish(LIST)
    newest = live_lists.get(LIST)
    assert newest is not None
    assert newest.version == 2
    versions.close()


async def test_a_list_that_cant_be_signed_under_a_new_root_keeps_the_old_one(tmp_path: Path) -> None:
    """The token goes away in the middle of an adoption: no client gets the new root with the old signatures."""
    versions, old, away = Versions(tmp_path), CryptoSigner.generate_ed25519(), AwayKey()
    roots = {1: b'{"version":1}', 2: b'{"version":2}'}

    def trust(online: object, served: dict[int, bytes]) -> Trust:
        def roots_of(signer: str) -> dict[int, bytes]:
            return {1: roots[1]} if signer == old.public_key.keyid else served

        return cast(Trust, cast(Any, SimpleNamespace(online=online, roots=served, roots_of=roots_of)))

    def publisher(live_lists: LiveLists, trust: Trust) -> Publisher:
        made = Publisher(versions.database, live_lists, trust, lambda: NOW, Telemetry())
        made.configure(LIST, timedelta(days=14), timedelta(days=1))
        return made

    live_lists = LiveLists()
    running = publisher(live_lists, trust(old, {1: roots[1]}))
    versions.publish(versions.seal(["a.example"]))
    await running.publish(LIST)
    before = live_lists.get(LIST)
    assert before is not None
    failed = await running.adopt(trust(away, roots))
    assert "the token is away" in str(failed)
    assert live_lists.get(LIST) is before
    assert "2.root.json" not in before.metadata
    started = LiveLists()
    await publisher(started, trust(away, roots)).publish(LIST)
    after = started.get(LIST)
    assert after is not None
    assert after.metadata == before.metadata
    away.here = True
    assert await running.sign_again() is None
    newest = live_lists.get(LIST)
    assert newest is not None
    assert newest.metadata["2.root.json"].body == roots[2]
    assert away.public_key.keyid.encode() in newest.metadata["timestamp.json"].body
    versions.close()


class AwayKey:
    """An online key on a token that is away until `here` is set."""

    def __init__(self) -> None:
        self.here = False
        self._key = CryptoSigner.generate_ed25519()
        self.public_key = self._key.public_key

    def sign(self, payload: bytes) -> Signature:
        if not self.here:
            raise SigningError("the token is away: connect it")
        return self._key.sign(payload)

"""The writer of receipts: nodes are counted once, and after an error it counts them again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from blocklistd.errors import StoreError
from blocklistd.jobs.runner import Jobs
from blocklistd.model import SubscriberId
from blocklistd.pipeline import receipts as module
from blocklistd.pipeline.receipts import ReceiptBook
from blocklistd.pipeline.resources import Resources
from blocklistd.receipts import Receipt, Taken
from blocklistd.store import receipts as stored
from blocklistd.store.schema_served import subscribers
from blocklistd.store.subscribers import Subscriber
from blocklistd.store.verified import Verified
from blocklistd.telemetry import Telemetry
from tests.versions_of import LIST, NOW, Versions

ISP = Subscriber(SubscriberId("isp"), frozenset({LIST}), frozenset(), (), (), (), NOW, "root", revoked=None)


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReceiptBook:
    monkeypatch.setattr(module, "MAX_NODES", 2)
    versions = Versions(tmp_path)
    versions.publish(versions.seal(["a.example"]))
    with versions.database.write() as connection:
        connection.execute(insert(subscribers).values(id="isp", token="", created=NOW, created_by="root"))
    verified = Verified(versions.store.sealed)
    return ReceiptBook(Resources(versions.store, versions.database, Jobs(), verified, lambda: NOW, Telemetry()))


async def take(book: ReceiptBook, *nodes: str, probe: str | None = None) -> list[Taken]:
    """Receipts that arrive at the same time."""
    applied = datetime(2026, 11, 1, tzinfo=UTC)
    receipts = [Receipt(1, "applied", None, applied, probe) for _ in nodes]
    return await asyncio.gather(*(book.take(ISP, LIST, *both) for both in zip(nodes, receipts, strict=True)))


async def test_a_new_node_that_sends_two_receipts_at_once_is_one_node(book: ReceiptBook) -> None:
    assert await take(book, "n1", "n2", "n1", "n2", "n3", "n1") == [
        *(Taken.TAKEN, Taken.TAKEN, Taken.REPEATED, Taken.REPEATED),
        *(Taken.TOO_MANY_NODES, Taken.REPEATED),
    ]


async def test_the_nodes_are_counted_again_after_an_error(book: ReceiptBook, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await take(book, "n1", "n2") == [Taken.TAKEN, Taken.TAKEN]
    real = stored.names_of_nodes

    def fail(connection: Any) -> Any:
        raise StoreError("the disk has an error")

    book._names = {}
    book.forget_names()
    monkeypatch.setattr(stored, "names_of_nodes", fail)
    with pytest.raises(StoreError):
        await take(book, "n3")
    monkeypatch.setattr(stored, "names_of_nodes", real)
    assert await take(book, "n3") == [Taken.TOO_MANY_NODES]

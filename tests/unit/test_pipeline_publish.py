"""Publishing while a reload takes a list away."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from blocklistd.model import ListId, Version
from blocklistd.pipeline.publish import Publisher
from blocklistd.serve.http.catalogue import Catalogue, Document, ListView
from blocklistd.signing.keys import Trust
from blocklistd.signing.roles import Lives
from blocklistd.store.metadata import SignedRole
from blocklistd.telemetry import Stations
from tests.versions_of import LIST, NOW, Versions


class SlowPublisher(Publisher):
    """Signs once it may."""

    may = threading.Event()

    def _sign(self, list_id: ListId, lives: Lives) -> tuple[ListView, dict[str, SignedRole]]:
        self.may.wait(30)
        return ListView(list_id, "", None, Version(0), Document.of(b""), {}, {}, NOW), {}


async def test_a_list_that_is_forgotten_meanwhile_is_not_served(tmp_path: Path) -> None:
    versions, catalogue = Versions(tmp_path), Catalogue()
    trust = cast(Trust, cast(Any, SimpleNamespace()))
    publisher = SlowPublisher(versions.database, catalogue, trust, lambda: NOW, Stations())
    publisher.configure(LIST, timedelta(days=14), timedelta(days=1))
    publishing = asyncio.ensure_future(publisher.publish(LIST))
    await asyncio.sleep(0)
    publisher.forget(LIST)
    publisher.may.set()
    await publishing
    assert catalogue.get(LIST) is None
    assert LIST not in publisher.signed
    versions.close()

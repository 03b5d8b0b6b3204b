"""A correction reaches real resolvers with the printed configuration: a delisted name resolves again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.programs import Peers
from tests.interop.stub import Stub
from tests.system.daemon import free_port
from tests.system.test_zones import Scene

WHY = {"why": "listed by mistake"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with made.daemon:
        made.daemon.first_pull("hotline")
        made.publish("wrong.example", "b.example", "above.example", hosts=("below.above.example",))
        yield made


@pytest.mark.parametrize("software", ["bind", "unbound"])
def test_a_delisted_name_resolves_until_it_is_restored(scene: Scene, stub: Stub, peers: Peers, software: str) -> None:
    port = free_port()

    def ask(action: str, entry: str) -> None:
        answer = scene.daemon.ask(f"entry {action}", list="national", entry=entry, **WHY)
        assert answer.status == 200, answer.body

    with peers.start(software, scene.folder, stub, port, peers.printed(scene, software, port)) as resolver:
        resolver.wait(lambda: resolver.blocked("wrong.example"))
        ask("delist", "wrong.example")
        resolver.wait(lambda: not resolver.blocked("wrong.example"))
        assert not resolver.blocked("sub.wrong.example")
        assert resolver.blocked("b.example")
        ask("restore", "wrong.example")
        resolver.wait(lambda: resolver.blocked("wrong.example"))
        assert resolver.blocked("sub.wrong.example")
        ask("delist", "below.above.example")  # the domain above still blocks it
        ask("delist", "b.example")
        resolver.wait(lambda: not resolver.blocked("b.example"))
        assert resolver.blocked("below.above.example")
